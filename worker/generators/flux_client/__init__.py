"""Pictures from a Hugging Face Space or any other Gradio app, through ``gradio_client``."""

from worker.generators.flux_client.adapter import FluxClientAdapter
from worker.generators.flux_client.availability import Availability
from worker.generators.flux_client.space import FluxImageGenerator

__all__ = ["Availability", "FluxClientAdapter", "FluxImageGenerator"]
