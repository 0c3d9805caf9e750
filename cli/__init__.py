"""Python client and the `flux-image` command."""
