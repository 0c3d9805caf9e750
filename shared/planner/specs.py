"""What can be resident: a model's own weights, and the parts that it shares with its family."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from shared.domain.adapter import IPAdapterSpec
from shared.domain.model import PipelineSpec
from shared.domain.params import JobKind
from shared.domain.precision import Precision
from shared.planner.sizes import MODULATION_TABLE_SHARE, QUANTIZING_SHARE, weight_bytes

_LARGE_ENCODER: Final = "text_encoder_2"
_ENCODERS: Final = ("text_encoder", _LARGE_ENCODER)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """One user of the card, in bytes at 16 bits per weight: a model, or a model with an adapter."""

    model: str
    group: str
    """Models of one group share their encoders and their VAE."""
    denoiser_bytes: int
    modulation_bytes: int
    large_encoder_bytes: int
    small_encoder_bytes: int
    vae_bytes: int
    denoiser_kept_bytes: int
    """The part that is never quantized; as in ``PipelineSpec.kept_bytes``."""
    large_encoder_kept_bytes: int
    has_quantized_forms: bool
    text_tokens: int
    """Length of a prompt, padding included."""
    adapter_bytes: int = 0
    """An image-prompt adapter beside the denoiser; never quantized."""
    image_encoder: str = ""
    """What the adapter looks at pictures with; those of one name are the same."""
    image_encoder_bytes: int = 0
    attends_to_source: bool = False
    """Whether each step also reads a picture's tokens (Kontext)."""

    @classmethod
    def of(cls, spec: PipelineSpec) -> Self:
        """Return the sizes of a model of the catalog."""
        sizes = spec.component_bytes
        return cls(
            model=spec.model,
            group=spec.components_from,
            denoiser_bytes=sum(size for name, size in sizes.items() if name not in (*_ENCODERS, "vae")),
            modulation_bytes=spec.modulation_bytes,
            large_encoder_bytes=sizes.get(_LARGE_ENCODER, 0),
            small_encoder_bytes=sizes.get("text_encoder", 0),
            vae_bytes=sizes.get("vae", 0),
            denoiser_kept_bytes=spec.kept_bytes.get("transformer", 0),
            large_encoder_kept_bytes=spec.kept_bytes.get(_LARGE_ENCODER, 0),
            has_quantized_forms=spec.has_quantized_forms,
            text_tokens=spec.max_sequence_length,
            attends_to_source=spec.kind is JobKind.EDIT,
        )

    def with_adapter(self, adapter: IPAdapterSpec) -> Self:
        """Return the same model with an adapter beside its weights."""
        sizes = adapter.component_bytes
        return replace(
            self,
            adapter_bytes=sizes["ip_adapter"],
            image_encoder=f"{adapter.image_encoder_repo_id}/{adapter.image_encoder_folder}",
            image_encoder_bytes=sizes["image_encoder"],
        )

    def own_bytes(self, precision: Precision, *, table: bool, bits: int = 16) -> int:
        """Return the denoiser on the device; with ``table``, without its modulation layers.

        ``bits`` are those of a weight that is not quantized: 32 on a CPU.
        """
        weights = self.denoiser_bytes - (self.modulation_bytes if table else 0)
        return weight_bytes(weights, self.denoiser_kept_bytes, precision, bits=bits)

    def modulation_at(self, precision: Precision) -> int:
        """Return the modulation layers on a card: what passes over it while a table is made."""
        return self.own_bytes(precision, table=False) - self.own_bytes(precision, table=True)

    def table_bytes(self) -> int:
        """Return what the modulation table takes instead."""
        return round(MODULATION_TABLE_SHARE * self.modulation_bytes)

    def quantizing_bytes(self) -> int:
        """Return what the device needs while the model is quantized."""
        return round(QUANTIZING_SHARE * self.denoiser_bytes)

    def encoder_bytes(self, precision: Precision, *, bits: int = 16) -> int:
        """Return the text encoders of the group; the small one is never quantized."""
        large = weight_bytes(self.large_encoder_bytes, self.large_encoder_kept_bytes, precision, bits=bits)
        return large + self.small_encoder_bytes * bits // 16


def gpu_specs(models: Iterable[PipelineSpec]) -> dict[str, GpuSpec]:
    """Return every user of the card, by the name of its residency key: ``model``, or ``model+adapter``."""
    users = {}
    for spec in models:
        users[spec.model] = GpuSpec.of(spec)
        if adapter := spec.capabilities.ip_adapter:
            users[f"{spec.model}+{adapter.adapter}"] = users[spec.model].with_adapter(adapter)
    return users
