"""A real Gradio server on loopback with the signatures, queues and bad days of public Spaces, and a Hub before it."""
