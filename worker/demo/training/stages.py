"""The five stages in order, and what each takes over from the one before."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from worker.demo.family import Family
from worker.demo.training.autoencoder import decoder_loss, prepare_autoencoder
from worker.demo.training.batches import Batches
from worker.demo.training.flow import Flow
from worker.demo.training.inherit import fill_from_demo, kontext_from_demo, mark_positions
from worker.demo.training.latent_bank import LatentBank
from worker.demo.training.prompts import PromptEncoder
from worker.demo.training.stage import Machine, Plan, Stage

CPU_PLANS = {
    "vae": Plan(steps=4000, batch=8, learning_rate=2e-3),
    "generate": Plan(steps=2700, batch=32, learning_rate=1.5e-3, average_decay=0.99, sparse_share=1.0),
    "refine": Plan(steps=1600, batch=32, learning_rate=1e-3, warm_up_steps=30, average_decay=0.99, sparse_share=0.25),
    "kontext": Plan(steps=6900, batch=32, learning_rate=1.5e-3, warm_up_steps=30, average_decay=0.99, sparse_share=0.5),
    "fill": Plan(steps=600, batch=32, learning_rate=1e-3, warm_up_steps=30, average_decay=0.99),
}
"""What they reach is in the README. A model that only ever saw quarters draws ragged outlines on all tokens."""

CUDA_PLANS = {
    "vae": Plan(steps=6000, batch=256, learning_rate=2e-3),
    "generate": Plan(steps=12000, batch=512, learning_rate=1.5e-3, sparse_share=0.25),
    "refine": Plan(steps=4000, batch=512, learning_rate=1e-3, sparse_share=0.25),
    "kontext": Plan(steps=8000, batch=256, learning_rate=1e-3, sparse_share=0.25),
    "fill": Plan(steps=5000, batch=256, learning_rate=1e-3, sparse_share=0.25),
}
"""Meant for one large GPU; not measured yet."""

STAGES = ("vae", "generate", "refine", "kontext", "fill")


class Course:
    """Makes the stages for one family on one machine."""

    def __init__(self, family: Family, machine: Machine, directory: Path, seed: int) -> None:
        self._family = family
        self._machine = machine
        self._directory = directory
        self._seed = seed

    def stage(self, name: str, plan: Plan) -> Stage:
        """Make a stage; the ones before it must be done."""
        makers: dict[str, Callable[[Plan], Stage]] = {
            "vae": self._vae,
            "generate": self._generate,
            "refine": self._refine,
            "kontext": partial(self._tune, "demo-kontext"),
            "fill": partial(self._tune, "demo-fill"),
        }
        return makers[name](plan)

    def _vae(self, plan: Plan) -> Stage:
        """Teach the decoder."""
        vae = self._family.vae
        prepare_autoencoder(vae)
        vae.to(self._machine.device, memory_format=torch.channels_last)
        loss = partial(decoder_loss, vae, plan.batch, self._machine)
        return self._make("vae", plan, {"decoder": vae.decoder}, loss)

    def _generate(self, plan: Plan) -> Stage:
        """Teach `demo` and both text encoders together."""
        family = self._family
        mark_positions(family.transformers["demo"])
        networks = {
            "transformer": family.transformers["demo"],
            "text_encoder": family.text_encoder,
            "text_encoder_2": family.text_encoder_2,
        }
        return self._make("generate", plan, networks, self._flow(plan).generate_loss)

    def _refine(self, plan: Plan) -> Stage:
        """Teach `demo` on; the text encoders stay as they are from here on, which makes a step a third cheaper."""
        loss = self._flow(plan, frozen_words=True).generate_loss
        return self._make("refine", plan, {"transformer": self._family.transformers["demo"]}, loss)

    def _tune(self, model: str, plan: Plan) -> Stage:
        """Teach Kontext or Fill, beginning as `demo`; the text encoders stay as they are."""
        family = self._family
        begin = kontext_from_demo if model == "demo-kontext" else fill_from_demo
        begin(family.transformers[model], family.transformers["demo"])
        flow = self._flow(plan, frozen_words=True)
        loss = flow.kontext_loss if model == "demo-kontext" else flow.fill_loss
        name = model.removeprefix("demo-")
        return self._make(name, plan, {"transformer": family.transformers[model]}, loss)

    def _flow(self, plan: Plan, *, frozen_words: bool = False) -> Flow:
        """Make the losses' shared part, on the machine."""
        for module in self._family.modules().values():
            module.to(self._machine.device)
        variants = 256 if self._machine.autocast else 48
        bank = LatentBank(variants, self._machine.device, self._seed)
        prompts = PromptEncoder(self._family, self._machine.device, frozen=frozen_words)
        sparse_until = round(plan.sparse_share * plan.steps)
        return Flow(self._family, Batches(bank), self._machine, prompts, plan.batch, sparse_until)

    def _make(
        self, name: str, plan: Plan, networks: dict[str, nn.Module], loss: Callable[[int], torch.Tensor]
    ) -> Stage:
        """Assemble a stage."""
        return Stage(
            name=name,
            plan=plan,
            machine=self._machine,
            networks=nn.ModuleDict(networks),
            loss=loss,
            directory=self._directory,
            seed=self._seed,
        )
