"""One interface over every way to make pictures."""
