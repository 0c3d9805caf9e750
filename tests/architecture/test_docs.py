"""The README says what the code does."""

import re
from pathlib import Path

from shared.settings import ApiSettings, CoreSettings, HostSettings, HubSettings, OutsideSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def variables():
    for owner in (CoreSettings, ApiSettings, WorkerSettings, OutsideSettings, HubSettings, HostSettings):
        for name, field in owner.model_fields.items():
            alias = field.validation_alias
            yield (alias.choices[0] if alias else f"FLUX_{name.upper()}"), field


def test_every_variable_is_in_the_readme_with_its_description():
    for variable, field in variables():
        assert f"| `{variable}` |" in README, variable
        assert field.description in README, variable


def test_the_readme_names_no_variable_that_does_not_exist():
    known = {variable for variable, _ in variables()} | {"HUGGINGFACE_HUB_TOKEN", "HF_HOME"}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE)) <= known


def test_every_file_in_the_tree_exists():
    tree = re.search(r"```text\n(.*?)```", README, re.DOTALL).group(1)
    stack: list[str] = []
    for line in tree.splitlines():
        match = re.match(r"^((?:  )*)(\S+)\s{2,}\S", line)
        if match is None:
            continue
        depth, name = len(match.group(1)) // 2, match.group(2)
        stack[depth:] = [name]
        assert (ROOT / "".join(stack)).exists(), "".join(stack)
