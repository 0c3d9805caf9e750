"""The memory planner: pure arithmetic from sizes and budgets to a residency plan with a reason."""

from shared.planner.budget import MARGIN_BYTES, PCIE_4_BYTES_PER_SECOND, PCIE_5_BYTES_PER_SECOND, Budget
from shared.planner.host import Transfer, leaving
from shared.planner.layout import Layout, Shape
from shared.planner.mix import ALTERNATING, ANY_JOBS, NEW_PROMPTS, SAME_MODEL, Mix
from shared.planner.moves import Moves
from shared.planner.residency import DoesNotFit, ResidencyPlan, Wanted, best_precision, plan
from shared.planner.sizes import GIB
from shared.planner.specs import GpuSpec, gpu_specs

__all__ = [
    "ALTERNATING",
    "ANY_JOBS",
    "GIB",
    "MARGIN_BYTES",
    "NEW_PROMPTS",
    "PCIE_4_BYTES_PER_SECOND",
    "PCIE_5_BYTES_PER_SECOND",
    "SAME_MODEL",
    "Budget",
    "DoesNotFit",
    "GpuSpec",
    "Layout",
    "Mix",
    "Moves",
    "ResidencyPlan",
    "Shape",
    "Transfer",
    "Wanted",
    "best_precision",
    "gpu_specs",
    "leaving",
    "plan",
]
