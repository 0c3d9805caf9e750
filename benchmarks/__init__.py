"""Reproducible measurements of the real stack. Each script's last line on stdout is one JSON object."""
