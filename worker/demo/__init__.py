"""The demo family: a FLUX of a few megabytes that runs anywhere, and how it was trained."""
