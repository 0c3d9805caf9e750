"""FLUX through diffusers: where the weights are, what is resident, and how one picture is made."""
