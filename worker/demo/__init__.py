"""A FLUX family of a few megabytes that draws a tiny world and runs anywhere."""
