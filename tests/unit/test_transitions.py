"""A job moves in one place, along the edges of the table and no others."""

import ast
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from shared.db.lifecycle.transitions import Move, move
from shared.db.models import AttemptRow, JobRow
from shared.domain.job import JobError, Lane
from shared.domain.status import TERMINAL_STATUSES, TRANSITIONS, Edge, JobStatus
from tests.builders import new_job

ROOT = Path(__file__).resolve().parents[2]
LEASE = timedelta(seconds=30)
ERROR = JobError(code="internal_error", message="broken", retryable=False)

EVERY_WAY = [(source, edge) for source in JobStatus for edge in Edge]
ALLOWED = {(source, edge) for source, targets in TRANSITIONS.items() for edges in targets.values() for edge in edges}


def columns(status):
    """What a row of this status has to say, as the table's own checks demand."""
    return {"status": status, "owner": "w1" if status is JobStatus.RUNNING else None}


@pytest.mark.parametrize(("source", "edge"), sorted(ALLOWED))
def test_an_edge_of_the_table_moves_the_job_and_is_seen(database, jobs, claims, clock, source, edge):
    # Given a job in the status that the edge leaves
    job = jobs.add(new_job(), 100)
    if source is JobStatus.RUNNING:
        claims.claim(Lane.GPU, "w1", LEASE)
    before = jobs.get(job.id)
    target = next(target for target, edges in TRANSITIONS[source].items() if edge in edges)
    # When it moves along it
    with database.write() as connection:
        moved = move(connection, edge, source, JobRow.id == job.id, columns(target), clock(), error=ERROR)
    # Then its row says so, with the next number, and a running attempt has ended by that edge
    after = jobs.get(job.id)
    assert moved == [job.id]
    assert (after.status, after.status_seq) == (target, before.status_seq + 1)
    with database.read() as connection:
        outcomes = connection.execute(select(AttemptRow.outcome, AttemptRow.error_code)).all()
    assert outcomes == ([(edge, "internal_error")] if source is JobStatus.RUNNING else [])


@pytest.mark.parametrize(("source", "edge"), sorted({*EVERY_WAY} - ALLOWED))
def test_an_edge_that_leaves_no_such_status_cannot_be_written(source, edge):
    with pytest.raises(ValueError, match="no edge"):
        Move(edge, source, JobRow.id == "x", columns(JobStatus.FAILED))


@pytest.mark.parametrize(
    ("source", "edge", "target"),
    [
        (source, edge, target)
        for source, edge in sorted(ALLOWED)
        for target in JobStatus
        if edge not in TRANSITIONS[source].get(target, ())
    ],
)
def test_values_that_lead_astray_change_nothing(database, jobs, claims, clock, source, edge, target):
    job = jobs.add(new_job(), 100)
    if source is JobStatus.RUNNING:
        claims.claim(Lane.GPU, "w1", LEASE)
    before = jobs.get(job.id)
    with pytest.raises(LookupError, match="does not lead"), database.write() as connection:
        move(connection, edge, source, JobRow.id == job.id, columns(target), clock())
    assert jobs.get(job.id) == before


def test_a_job_of_another_status_stays(database, jobs, clock):
    job = jobs.add(new_job(), 100)
    with database.write() as connection:
        values = columns(JobStatus.SUCCEEDED)
        assert move(connection, Edge.FINISH, JobStatus.RUNNING, JobRow.id == job.id, values, clock()) == []
    assert jobs.get(job.id).status is JobStatus.QUEUED


def test_what_has_ended_is_left_by_no_edge():
    assert {source for source, _ in ALLOWED} == set(JobStatus) - TERMINAL_STATUSES


def test_no_other_module_writes_the_number_by_which_a_move_is_seen():
    writers = {
        path.relative_to(ROOT).as_posix()
        for package in ("api", "worker", "shared", "cli")
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.parts and _bumps(path)
    }
    assert writers == {"shared/db/lifecycle/transitions.py"}


def _bumps(path: Path) -> bool:
    """Whether a module computes a new ``status_seq``."""
    return any(
        isinstance(node, ast.BinOp) and isinstance(node.left, ast.Attribute) and node.left.attr == "status_seq"
        for node in ast.walk(ast.parse(path.read_text()))
    )
