"""What `flux-image doctor` looks at, one module per subject. Each yields findings and changes nothing."""
