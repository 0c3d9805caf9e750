"""Train the demo family: `python -m worker.demo.train`. Stop it at will; it resumes where it was."""

import argparse
import dataclasses
from pathlib import Path

import torch

from worker.demo.family import Family, make_family, save_family
from worker.demo.training.stage import Machine
from worker.demo.training.stages import CPU_PLANS, CUDA_PLANS, STAGES, Course
from worker.demo.training.words import share_spellings

STATE_DIRECTORY = Path("data/demo-training")


def main() -> None:
    """Run the stages in order, each from its last saved state, and write the family."""
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    machine = Machine.here()
    plans = CUDA_PLANS if machine.autocast else CPU_PLANS
    family = make_family(options.seed)
    course = Course(family, machine, options.state, options.seed)
    for name in STAGES[: STAGES.index(options.until) + 1]:
        plan = dataclasses.replace(plans[name], steps=options.longer * plans[name].steps)
        if options.compile and name != "vae":
            family.transformers[f"demo-{name}" if f"demo-{name}" in family.transformers else "demo"].compile()
        course.stage(name, plan).run()
    write(family, options.out)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=STATE_DIRECTORY / "checkpoint", help="where to write")
    parser.add_argument("--state", type=Path, default=STATE_DIRECTORY, help="where states and logs live")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage to run")
    parser.add_argument("--longer", type=int, default=1, help="how many times the planned steps to train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads of the CPU")
    parser.add_argument("--compile", action="store_true", help="compile the transformers: a third faster")
    return parser.parse_args()


def write(family: Family, directory: Path) -> None:
    """Write the trained family in the layout that the product loads."""
    for module in family.modules().values():
        module.to("cpu")
    share_spellings(family)
    save_family(family, directory)


if __name__ == "__main__":
    main()
