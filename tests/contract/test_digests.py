"""Which components count as equal: what a library writes anew makes no difference, what a class reads does."""

import json
import shutil

import pytest
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from worker.pipelines.digests import component_digest
from worker.pipelines.weights import DEMO_CHECKPOINT

CLASSES = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": T5EncoderModel,
    "vae": AutoencoderKL,
    "tokenizer": CLIPTokenizer,
    "tokenizer_2": T5Tokenizer,
}
MODELS = ("text_encoder", "text_encoder_2", "vae")
TOKENIZERS = ("tokenizer", "tokenizer_2")


@pytest.fixture
def folders(tmp_path):
    """The demo family's shared parts, to be changed."""
    for name in CLASSES:
        shutil.copytree(DEMO_CHECKPOINT / "demo" / name, tmp_path / name)
    return tmp_path


def changed(path, **values):
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | values, indent=4))


class TestModels:
    @pytest.fixture(params=MODELS)
    def part(self, request, folders):
        name = request.param
        return folders / name, lambda: component_digest(CLASSES[name], folders / name)

    def test_who_wrote_the_configuration_and_keys_that_no_class_reads_make_no_difference(self, part):
        # Given a component, and its configuration written anew by another version of the library
        folder, digest = part
        before = digest()
        changed(folder / "config.json", transformers_version="9.0", _diffusers_version="9.0", torch_dtype="float16")
        changed(folder / "config.json", output_past=True, nobody_reads_this=[1], architectures=["Another"])
        # Then it is the same
        assert digest() == before

    def test_an_index_that_was_saved_again_makes_no_difference(self, part):
        folder, digest = part
        index = folder / "model.safetensors.index.json"
        index.write_text('{"metadata": {"total_size": 1}, "weight_map": {}}')
        before = digest()
        changed(index, metadata={"total_size": 1, "total_parameters": 2})
        assert digest() == before

    def test_other_weights_are_another_component(self, part):
        folder, digest = part
        before = digest()
        weights = next(folder.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-1] + b"?")
        assert digest() != before


def test_a_default_that_is_written_out_makes_no_difference(folders):
    # Given an encoder whose configuration leaves out what its class takes by itself
    config = folders / "text_encoder_2" / "config.json"
    values = json.loads(config.read_text())
    values.pop("relative_attention_max_distance", None)
    config.write_text(json.dumps(values))
    before = component_digest(T5EncoderModel, folders / "text_encoder_2")
    # When that is written out, then it is the same; with another value it is not
    changed(config, relative_attention_max_distance=128)
    assert component_digest(T5EncoderModel, folders / "text_encoder_2") == before
    changed(config, relative_attention_max_distance=64)
    assert component_digest(T5EncoderModel, folders / "text_encoder_2") != before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("text_encoder", {"layer_norm_eps": 0.5}),
        ("text_encoder_2", {"num_heads": 2}),
        ("vae", {"latent_channels": 8}),
        ("vae", {"scaling_factor": 0.5}),
    ],
)
def test_a_value_that_the_class_reads_is_another_component(folders, name, change):
    before = component_digest(CLASSES[name], folders / name)
    changed(folders / name / "config.json", **change)
    assert component_digest(CLASSES[name], folders / name) != before


class TestTokenizers:
    @pytest.mark.parametrize("name", TOKENIZERS)
    def test_files_that_a_save_writes_anew_make_no_difference(self, folders, name):
        # Given a tokenizer that was read and written again, with a note in its configuration
        before = component_digest(CLASSES[name], folders / name)
        CLASSES[name].from_pretrained(folders / name).save_pretrained(folders / "again")
        changed(folders / "again" / "tokenizer_config.json", nobody_reads_this=1, name_or_path="elsewhere")
        (folders / "again" / "tokenizer.json").write_text(
            json.dumps(json.loads((folders / "again" / "tokenizer.json").read_text()), indent=3)
        )
        # Then it does to a text what it did
        assert component_digest(CLASSES[name], folders / "again") == before

    @pytest.mark.parametrize("name", TOKENIZERS)
    def test_another_length_is_another_tokenizer(self, folders, name):
        before = component_digest(CLASSES[name], folders / name)
        changed(folders / name / "tokenizer_config.json", model_max_length=12)
        assert component_digest(CLASSES[name], folders / name) != before

    def test_another_word_is_another_tokenizer(self, folders):
        path = folders / "tokenizer_2" / "tokenizer.json"
        before = component_digest(T5Tokenizer, folders / "tokenizer_2")
        path.write_text(path.read_text().replace("circle", "cercle"))
        assert component_digest(T5Tokenizer, folders / "tokenizer_2") != before
