"""HTTP in, services, HTTP out: translation only."""
