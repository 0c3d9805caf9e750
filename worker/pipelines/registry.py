"""Whose weights are whose: the names under which the residency keeps the parts of each model that was placed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from shared.domain.model import ModelFamily
from shared.domain.precision import ResidencyKey
from worker.pipelines.device_memory import blocks_of
from worker.pipelines.loader import ENCODERS, LoadedPipeline, denoiser_of
from worker.pipelines.modulation import modulation_blocks
from worker.pipelines.residency import Residency


@dataclass(frozen=True, slots=True)
class Names:
    """Under which names a pipeline's weights are known to the residency."""

    denoiser: str
    modulation: str | None
    """``None`` where the denoiser has no such layers."""
    encoders: tuple[str, ...]
    """One for each, since models at different precisions share the small one only."""
    vae: str

    @classmethod
    def of(cls, loaded: LoadedPipeline) -> Self:
        """Return the names for a model; those of shared parts depend on their content only."""
        key = str(loaded.key)
        return cls(
            denoiser=key,
            modulation=f"{key}/modulation" if loaded.spec.family is ModelFamily.FLUX else None,
            encoders=tuple(
                f"encoders:{name}:{loaded.digests[name][:12]}" for name in ENCODERS if name in loaded.digests
            ),
            vae=f"vae:{loaded.digests['vae'][:12]}",
        )

    @property
    def own(self) -> tuple[str, ...]:
        """What no other model has."""
        return (self.denoiser, self.modulation) if self.modulation else (self.denoiser,)

    @property
    def shared(self) -> tuple[str, ...]:
        """What others may have, too."""
        return (*self.encoders, self.vae)


class Registry:
    """Hands each model's weights over to the residency, once, and takes them back when the model is dropped."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._names: dict[str, Names] = {}
        self._with_adapters: dict[str, ResidencyKey] = {}

    def __contains__(self, key: object) -> bool:
        """Whether a model was placed, by its residency key or that key's text, without an adapter."""
        return str(key) in self._names

    def register(self, loaded: LoadedPipeline) -> Names:
        """Return the names of a model's weights, which the residency has from now on."""
        pipeline, key = loaded.pipeline, str(loaded.key)
        if key not in self._names:
            names = Names.of(loaded)
            denoiser = denoiser_of(pipeline)
            modulation = modulation_blocks(denoiser) if names.modulation else []
            apart = {weight for block in modulation for weight in block.weights}
            self._residency.add(names.denoiser, blocks_of(denoiser, apart))
            if names.modulation is not None:
                # Whole: it passes over the card in one go, and is the last of the model to make room.
                self._residency.add(names.modulation, modulation, whole=True)
            encoders = [component for component in ENCODERS if component in loaded.digests]
            for component, name in zip(encoders, names.encoders, strict=True):
                self._residency.add(name, blocks_of(getattr(pipeline, component)))
            self._residency.add(names.vae, blocks_of(pipeline.vae))
            self._names[key] = names  # last: whoever comes after a failure finds what was taken over, and goes on
        return self._names[key]

    def forget(self, loaded: LoadedPipeline, others: Iterable[LoadedPipeline]) -> None:
        """Let go of a model, and of the shared parts that none of the ``others`` has."""
        self._names.pop(str(loaded.key), None)
        names, kept = Names.of(loaded), {name for other in others for name in Names.of(other).shared}
        for name in (*names.own, *(name for name in names.shared if name not in kept)):
            self._residency.remove(name)

    def add_adapter(self, key: ResidencyKey) -> None:
        """Remember that a model runs with an adapter, which brings its weights itself."""
        self._with_adapters[str(key)] = key

    def items(self, key: ResidencyKey) -> list[str]:
        """Return the names of the weights that no other model needs; none before the model was placed."""
        names = self._names.get(str(replace(key, adapter=None)))
        items = [] if names is None else [names.denoiser, names.modulation, key.adapter]
        return [item for item in items if item is not None and self._residency.knows(item)]

    def leaving(self, key: ResidencyKey, warm: Iterable[ResidencyKey], *, table: bool) -> tuple[str, ...]:
        """Return what a job of ``key`` and the plan behind it need, in the order in which it may leave for the job.

        The encoders, which only a new prompt needs, then the other warm models, then the job's own. With ``table`` no
        modulation layers are needed.
        """
        own = self._names[str(replace(key, adapter=None))]
        others = [item for other in warm if other != key for item in (*self._shared(other), *self.items(other))]
        last = [item for item in (own.denoiser, own.modulation, key.adapter, own.vae) if item is not None]
        first = dict.fromkeys((*reversed(own.encoders), *others))
        order = (*(item for item in first if item not in last), *last)
        not_needed = {names.modulation for names in self._names.values()} if table else set()
        return tuple(item for item in order if item not in not_needed)

    def _shared(self, key: ResidencyKey) -> tuple[str, ...]:
        names = self._names.get(str(replace(key, adapter=None)))
        return () if names is None else names.shared

    def resident_keys(self) -> tuple[ResidencyKey, ...]:
        """Return the models whose weights are on the device, least recently used first."""
        resident = self._residency.resident()
        plain = [ResidencyKey.parse(name) for name in resident if name in self._names]
        with_adapters = [
            key
            for key in self._with_adapters.values()
            if key.adapter in resident and str(replace(key, adapter=None)) in resident
        ]
        return (*plain, *with_adapters)
