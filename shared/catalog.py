"""Every model this server knows, as data. Adding a FLUX checkpoint means adding a row here.

Sizes in bytes are parameter counts of the published configurations times two (bfloat16), checked by a test
that builds the classes without weights; defaults are
the signatures of diffusers 0.42 (``FluxPipeline``, ``FluxKontextPipeline``, ``FluxFillPipeline``) and
the model cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared.adapters import ADAPTERS, FLUX_IP_ADAPTER, SD15_IP_ADAPTER, SDXL_IP_ADAPTER
from shared.domain.adapter import IPAdapterSpec
from shared.domain.errors import UnknownModel
from shared.domain.model import ModelCapabilities, ModelFamily, ModelLimits, PipelineSpec
from shared.domain.params import JobKind
from shared.domain.samplers import SAMPLERS


def _flux_bytes(transformer: int) -> Mapping[str, int]:
    shared = {"text_encoder_2": 9_524_621_312, "text_encoder": 246_120_960, "vae": 167_639_366}
    return MappingProxyType({"transformer": transformer, **shared})


def _stable_diffusion_files(*networks: str) -> tuple[str, ...]:
    """Return what to fetch of a repository that also holds pickles, single-file checkpoints and other frameworks."""
    weights = ("config.json", "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors")
    networks = ("text_encoder", "unet", "vae", *networks)
    return (
        "model_index.json",
        "scheduler/*",
        "tokenizer*/*",
        "feature_extractor/*",
        *(f"{network}/{name}" for network in networks for name in weights),
    )


def _demo_bytes(transformer: int) -> Mapping[str, int]:
    shared = {"text_encoder_2": 760_320, "text_encoder": 717_824, "vae": 1_691_430}
    return MappingProxyType({"transformer": transformer, **shared})


def _kept_bytes(transformer: int, large_encoder: int) -> Mapping[str, int]:
    return MappingProxyType({"transformer": transformer, "text_encoder_2": large_encoder})


_FLUX_MODULATION_BYTES: Final = 6_559_420_416
_SCHNELL_MODULATION_BYTES: Final = 6_538_960_896
"""It embeds no guidance."""

_FLUX_ENCODER_KEPT_BYTES: Final = 263_598_080
_DEMO_MODULATION_BYTES: Final = 1_518_592
_DEMO_TEXT_MODULATION_BYTES: Final = 1_419_776
_DEMO_ENCODER_KEPT_BYTES: Final = 104_960
_FLUX_STRENGTH: Final = 0.6
_FLUX_CACHE_THRESHOLD: Final = 0.08
"""Published for FLUX.1 [dev], 28 steps: 1.55 times as fast (ParaAttention, on an L20); not measured here."""

_NON_COMMERCIAL: Final = "FLUX.1 [dev] Non-Commercial License"
_DEMO_LIMITS: Final = ModelLimits(min_side=64, max_side=1024, max_pixels=768 * 768)

_SPECS: Final = (
    PipelineSpec(
        model="schnell",
        kind=JobKind.GENERATE,
        title="FLUX.1 [schnell]",
        pipeline_class="FluxPipeline",
        repo_id="black-forest-labs/FLUX.1-schnell",
        components_from="flux1",
        licence="Apache-2.0",
        native_side=1024,
        num_inference_steps=4,
        guidance_scale=0.0,
        uses_guidance=False,
        max_sequence_length=256,
        capabilities=ModelCapabilities(strength=_FLUX_STRENGTH),
        component_bytes=_flux_bytes(23_782_357_120),
        modulation_bytes=_SCHNELL_MODULATION_BYTES,
        kept_bytes=_kept_bytes(113_899_648, _FLUX_ENCODER_KEPT_BYTES),
        example_prompts=("a red fox asleep in fresh snow, soft morning light, 35mm photograph",),
    ),
    PipelineSpec(
        model="dev",
        kind=JobKind.GENERATE,
        title="FLUX.1 [dev]",
        pipeline_class="FluxPipeline",
        repo_id="black-forest-labs/FLUX.1-dev",
        components_from="flux1",
        licence=_NON_COMMERCIAL,
        gated=True,
        native_side=1024,
        num_inference_steps=28,
        guidance_scale=3.5,
        uses_guidance=True,
        max_sequence_length=512,
        capabilities=ModelCapabilities(
            strength=_FLUX_STRENGTH, ip_adapter=FLUX_IP_ADAPTER, step_cache_threshold=_FLUX_CACHE_THRESHOLD
        ),
        component_bytes=_flux_bytes(23_802_816_640),
        modulation_bytes=_FLUX_MODULATION_BYTES,
        kept_bytes=_kept_bytes(134_359_168, _FLUX_ENCODER_KEPT_BYTES),
        example_prompts=("portrait of an old clockmaker at his bench, window light, shallow focus",),
    ),
    PipelineSpec(
        model="kontext",
        kind=JobKind.EDIT,
        title="FLUX.1 Kontext [dev]",
        pipeline_class="FluxKontextPipeline",
        repo_id="black-forest-labs/FLUX.1-Kontext-dev",
        components_from="flux1",
        licence=_NON_COMMERCIAL,
        gated=True,
        native_side=1024,
        num_inference_steps=28,
        guidance_scale=2.5,
        uses_guidance=True,
        max_sequence_length=512,
        # Trained at about a megapixel: PREFERRED_KONTEXT_RESOLUTIONS of Black Forest Labs' code and of diffusers.
        scales_source_up=True,
        capabilities=ModelCapabilities(step_cache_threshold=_FLUX_CACHE_THRESHOLD),
        component_bytes=_flux_bytes(23_802_816_640),
        modulation_bytes=_FLUX_MODULATION_BYTES,
        kept_bytes=_kept_bytes(134_359_168, _FLUX_ENCODER_KEPT_BYTES),
        example_prompts=("make it a snowy winter evening, keep the house as it is",),
    ),
    PipelineSpec(
        model="fill",
        kind=JobKind.FILL,
        title="FLUX.1 Fill [dev]",
        pipeline_class="FluxFillPipeline",
        repo_id="black-forest-labs/FLUX.1-Fill-dev",
        components_from="flux1",
        licence=_NON_COMMERCIAL,
        gated=True,
        native_side=1024,
        num_inference_steps=50,
        guidance_scale=30.0,
        uses_guidance=True,
        max_sequence_length=512,
        limits=ModelLimits(max_guidance_scale=100.0),
        capabilities=ModelCapabilities(step_cache_threshold=_FLUX_CACHE_THRESHOLD),
        component_bytes=_flux_bytes(23_804_782_720),
        modulation_bytes=_FLUX_MODULATION_BYTES,
        kept_bytes=_kept_bytes(136_325_248, _FLUX_ENCODER_KEPT_BYTES),
        example_prompts=("a wooden bench under the tree",),
    ),
    PipelineSpec(
        model="sd15",
        kind=JobKind.GENERATE,
        title="Stable Diffusion 1.5",
        pipeline_class="StableDiffusionPipeline",
        repo_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
        family=ModelFamily.STABLE_DIFFUSION,
        files=_stable_diffusion_files(),
        variant="fp16",
        unused_components=("safety_checker",),
        components_from="sd15",
        licence="CreativeML Open RAIL-M",
        native_side=512,
        num_inference_steps=30,
        guidance_scale=7.5,
        uses_guidance=True,
        max_sequence_length=77,
        limits=ModelLimits(max_num_inference_steps=100, max_side=1024, max_pixels=1024 * 1024),
        capabilities=ModelCapabilities(
            negative_prompt=True, samplers=SAMPLERS, strength=0.8, ip_adapter=SD15_IP_ADAPTER
        ),
        component_bytes=MappingProxyType({"unet": 1_719_041_928, "text_encoder": 246_120_960, "vae": 167_307_726}),
        example_prompts=("a watercolour of a lighthouse in a storm",),
    ),
    PipelineSpec(
        model="sdxl",
        kind=JobKind.GENERATE,
        title="Stable Diffusion XL",
        pipeline_class="StableDiffusionXLPipeline",
        repo_id="stabilityai/stable-diffusion-xl-base-1.0",
        family=ModelFamily.STABLE_DIFFUSION_XL,
        files=_stable_diffusion_files("text_encoder_2"),
        variant="fp16",
        components_from="sdxl",
        licence="CreativeML Open RAIL++-M",
        native_side=1024,
        num_inference_steps=30,
        guidance_scale=5.0,
        uses_guidance=True,
        max_sequence_length=77,
        limits=ModelLimits(max_num_inference_steps=100, max_pixels=1536 * 1536),
        capabilities=ModelCapabilities(
            negative_prompt=True, samplers=SAMPLERS, strength=0.3, ip_adapter=SDXL_IP_ADAPTER
        ),
        component_bytes=MappingProxyType(
            {
                "unet": 5_134_927_368,
                "text_encoder": 246_120_960,
                "text_encoder_2": 1_389_319_680,
                "vae": 167_307_726,
            }
        ),
        example_prompts=("a cosy reading corner in an attic, rain on the window, detailed illustration",),
    ),
    PipelineSpec(
        model="demo",
        kind=JobKind.GENERATE,
        title="Demo (shapes and colours)",
        pipeline_class="FluxPipeline",
        repo_id=None,
        components_from="demo",
        licence="MIT",
        native_side=256,
        num_inference_steps=4,
        guidance_scale=0.0,
        uses_guidance=False,
        max_sequence_length=24,
        limits=_DEMO_LIMITS,
        capabilities=ModelCapabilities(strength=_FLUX_STRENGTH),
        component_bytes=_demo_bytes(4_650_112),
        modulation_bytes=_DEMO_TEXT_MODULATION_BYTES,
        kept_bytes=_kept_bytes(324_736, _DEMO_ENCODER_KEPT_BYTES),
        example_prompts=(
            "a large red circle in the center on a blue background",
            "a small yellow triangle in the top left on a purple background",
            "a large green diamond on the right on a white background",
            "white background, black square",
        ),
    ),
    PipelineSpec(
        model="demo-kontext",
        kind=JobKind.EDIT,
        title="Demo Kontext (shapes and colours)",
        pipeline_class="FluxKontextPipeline",
        repo_id=None,
        components_from="demo",
        licence="MIT",
        native_side=256,
        num_inference_steps=8,
        guidance_scale=2.5,
        uses_guidance=True,
        max_sequence_length=24,
        limits=_DEMO_LIMITS,
        capabilities=ModelCapabilities(step_cache_threshold=_FLUX_CACHE_THRESHOLD),
        component_bytes=_demo_bytes(4_748_928),
        modulation_bytes=_DEMO_MODULATION_BYTES,
        kept_bytes=_kept_bytes(423_552, _DEMO_ENCODER_KEPT_BYTES),
        example_prompts=(
            "make it green",
            "make the background yellow",
            "turn it into a square",
            "make it larger",
            "move it to the left",
            "remove it",
        ),
    ),
    PipelineSpec(
        model="demo-fill",
        kind=JobKind.FILL,
        title="Demo Fill (shapes and colours)",
        pipeline_class="FluxFillPipeline",
        repo_id=None,
        components_from="demo",
        licence="MIT",
        native_side=256,
        num_inference_steps=8,
        guidance_scale=30.0,
        uses_guidance=True,
        max_sequence_length=24,
        limits=_DEMO_LIMITS,
        capabilities=ModelCapabilities(step_cache_threshold=_FLUX_CACHE_THRESHOLD),
        component_bytes=_demo_bytes(4_830_848),
        modulation_bytes=_DEMO_MODULATION_BYTES,
        kept_bytes=_kept_bytes(505_472, _DEMO_ENCODER_KEPT_BYTES),
        example_prompts=(
            "a large red circle in the center on a blue background",
            "a small green diamond in the bottom right on a white background",
            "an empty blue background",
        ),
    ),
)

CATALOG: Final[Mapping[str, PipelineSpec]] = MappingProxyType({spec.model: spec for spec in _SPECS})

DEFAULT_REAL_MODELS: Final[Mapping[JobKind, str]] = MappingProxyType(
    {JobKind.GENERATE: "schnell", JobKind.EDIT: "kontext", JobKind.FILL: "fill"}
)
DEFAULT_DEMO_MODELS: Final[Mapping[JobKind, str]] = MappingProxyType(
    {JobKind.GENERATE: "demo", JobKind.EDIT: "demo-kontext", JobKind.FILL: "demo-fill"}
)


def find_model(name: str) -> PipelineSpec:
    """Return the spec for a public id (``schnell``) or a repository (``black-forest-labs/FLUX.1-schnell``).

    Raises:
      UnknownModel: the catalog has no such model; the message lists the ones there are.
    """
    wanted = name.strip().lower()
    for spec in CATALOG.values():
        if wanted in (spec.model, (spec.repo_id or "").lower()):
            return spec
    raise UnknownModel(
        f"There is no model {name!r}. Use one of: {', '.join(CATALOG)}.", field="model", known=list(CATALOG)
    )


def find_download(name: str) -> PipelineSpec | IPAdapterSpec:
    """Return the model or the adapter that `flux-image pull` is asked for.

    Raises:
      UnknownModel: there is neither; the message lists the models.
    """
    adapter = ADAPTERS.get(name.strip().lower())
    return adapter or find_model(name)
