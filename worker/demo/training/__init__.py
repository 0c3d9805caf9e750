"""How the demo family learns: autoencoder, then generate, then Kontext and Fill."""
