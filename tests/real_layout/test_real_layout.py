"""Weights in the published layout, pulled and loaded by the real worker, give the bits of stock diffusers."""

import pytest
import torch

from shared.domain.status import JobStatus
from tests.real_layout.jobs import JOBS, SIDE, STEPS
from tests.real_layout.steps import recorded

pytestmark = [pytest.mark.real_layout, pytest.mark.timeout(1800)]


def test_the_workers_latents_of_every_step_are_those_of_stock_diffusers(stock, painted):
    data_dir, jobs = painted
    # Given jobs that succeeded at full precision
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * len(JOBS), [job.error for job in jobs]
    assert {job.params["precision"] for job in jobs} == {"exact"}
    # Then every step of each gave the bits of stock diffusers
    latents = recorded(data_dir / "latents")
    assert len(latents) == len(stock) == STEPS * len(JOBS)
    for mine, theirs in zip(latents, stock, strict=True):
        assert mine.dtype == torch.bfloat16
        assert theirs.std() > 0
        assert torch.equal(mine, theirs)


def test_the_pictures_have_the_size_that_was_asked_for(painted):
    _, jobs = painted
    assert [(image.width, image.height) for job in jobs for image in job.images] == [(SIDE, SIDE)] * len(JOBS)
