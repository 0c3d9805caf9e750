"""The one process that owns the GPU: claims jobs, runs FLUX, stores pictures."""
