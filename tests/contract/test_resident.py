"""The pipelines by the names the owner fixed."""

import pytest
from diffusers import FluxKontextPipeline, FluxPipeline

from worker.pipelines.resident import get_kontext_pipeline, get_text_pipeline, pipeline_store


@pytest.fixture(autouse=True)
def fresh_store(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUX_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FLUX_DEVICE", "cpu")
    pipeline_store.cache_clear()
    yield
    pipeline_store.cache_clear()


def test_both_pipelines_are_lazy_singletons_that_share_their_encoders():
    # Given a process that has loaded nothing
    # When each is asked for twice
    text, kontext = get_text_pipeline(), get_kontext_pipeline()
    # Then they are of the real classes, loaded once, with one pair of encoders and one VAE
    assert isinstance(text, FluxPipeline)
    assert isinstance(kontext, FluxKontextPipeline)
    assert get_text_pipeline() is text
    assert get_kontext_pipeline() is kontext
    assert text.text_encoder_2 is kontext.text_encoder_2
    assert text.vae is kontext.vae
    assert text.transformer is not kontext.transformer


def test_a_setting_chooses_the_model(monkeypatch):
    monkeypatch.setenv("FLUX_MODEL", "demo")
    assert get_text_pipeline().transformer.config.in_channels == 64
