"""docs/reliability.md names tests that exist, and every row of the fault matrix once."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:tests/|test_)[\w/.]*\.py(?:::\w+)*)`", TEXT)))


def rows(table: str) -> list[int]:
    """Fault numbers of a table's first column: ``7 to 9`` and ``42, 43`` are several."""
    found: list[int] = []
    for cell in re.findall(r"^\| ([\d, to]+?)(?:, EIO.*?| on a .*?)? \|", table, re.MULTILINE):
        first, *last = cell.split(" to ")
        found += range(int(first), int(last[0]) + 1) if last else map(int, cell.split(", "))
    return found


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists(name):
    path, *names = name.split("::")
    body = ast.parse((ROOT / (path if path.startswith("tests/") else f"tests/chaos/{path}")).read_text()).body
    for part in names:
        found = [node for node in body if getattr(node, "name", None) == part]
        assert found, f"{name}: no {part}"
        body = found[0].body


def test_every_row_of_the_fault_matrix_is_shown_or_said_not_to_be():
    shown, missing = TEXT.split("## Not shown here")
    assert set(rows(shown)) | set(rows(missing)) == set(range(1, 51))


def test_every_chaos_test_is_named():
    chaos = ROOT / "tests" / "chaos"
    tests = {
        f"{path.name}::{match}"
        for path in chaos.glob("test_*.py")
        for match in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {"::".join((name.split("::")[0].rsplit("/", 1)[-1], name.split("::")[-1])) for name in NAMED}
    assert tests <= named
