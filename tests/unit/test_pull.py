import errno

import httpx2
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from cli.host.pull import run_pull
from cli.host.pull_refusals import explain
from shared.catalog import CATALOG
from shared.settings import HubSettings

DEV = CATALOG["dev"]


def refused(kind, status):
    request = httpx2.Request("GET", "https://hub.invalid/x")
    return kind("refused", response=httpx2.Response(status, request=request))


def test_a_gated_model_without_token_lists_the_steps():
    text = explain(DEV, refused(GatedRepoError, 401), token=None)
    assert "no token is set (HF_TOKEN)" in text
    assert "https://huggingface.co/black-forest-labs/FLUX.1-dev" in text
    assert "flux-image pull dev" in text


def test_a_gated_model_with_a_token_says_that_the_terms_are_not_accepted():
    text = explain(DEV, refused(RepositoryNotFoundError, 401), token="hf_secret")
    assert "terms not accepted" in text


def test_the_cause_is_found_behind_a_wrapping_error():
    # Given what diffusers and huggingface_hub raise for a gated repository
    wrapper = OSError("something went wrong")
    wrapper.__cause__ = refused(GatedRepoError, 403)
    assert "is gated" in explain(DEV, wrapper, token="hf_secret")


def test_a_full_disk_names_the_size_and_the_place():
    text = explain(DEV, OSError(errno.ENOSPC, "No space left on device"), token="hf_secret")
    assert "needs about 34 GB" in text
    assert "HF_HOME" in text
    assert "goes on from there" in text


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_token_is_read_from_each_name_in_use(monkeypatch, variable):
    for name in ("HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "hf_secret")
    assert HubSettings().hf_token.get_secret_value() == "hf_secret"


def test_the_demo_family_needs_no_download(capsys):
    assert run_pull("demo") == 0
    assert "comes with the project" in capsys.readouterr().out


def test_an_unknown_model_is_refused(capsys):
    assert run_pull("nosuchmodel") == 2
    assert "There is no model 'nosuchmodel'" in capsys.readouterr().err
