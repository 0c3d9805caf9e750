"""How a job moves from status to status."""
