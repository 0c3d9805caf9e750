"""What makes more of a prompt before it is painted."""
