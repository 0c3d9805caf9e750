"""The engine's measurements. On a card: FLUX.1 at full size with random weights; without one: the demo family."""
