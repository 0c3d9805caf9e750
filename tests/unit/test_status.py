from pathlib import Path

from shared.domain.status import TERMINAL_STATUSES, TRANSITIONS, JobStatus, state_diagram


def test_the_three_ends_have_no_way_out():
    assert {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED} == TERMINAL_STATUSES


def test_every_status_is_reachable():
    reached = {target for following in TRANSITIONS.values() for target in following}
    assert reached == set(JobStatus)


def test_the_readme_shows_the_diagram_drawn_from_the_table():
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert f"```mermaid\n{state_diagram()}\n```" in readme
