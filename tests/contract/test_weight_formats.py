"""Linear layers in 8 and 4 bits: which ones, how far off they are, and that moving them is moving plain tensors."""

import pytest
import torch
from diffusers import FluxTransformer2DModel
from transformers import T5Config, T5EncoderModel

from shared.catalog import CATALOG
from shared.domain.precision import Precision
from shared.planner import GpuSpec
from worker.pipelines.device_memory import weights_of
from worker.pipelines.quantization import QuantizedLinear, is_quantized, quantize
from worker.pipelines.weight_formats import FP8_ROWWISE, INT8, NF4, formats_for

FORMATS = pytest.mark.parametrize("weight_format", [INT8, FP8_ROWWISE, NF4], ids=lambda found: found.name)
MOST_ERROR = {"int8": 0.01, "fp8": 0.05, "nf4": 0.12}
"""Mean error of a product of normally distributed numbers, as a share of the mean result."""


def layer_of(dtype=torch.bfloat16, bias=True):
    torch.manual_seed(3)
    return torch.nn.Linear(128, 192, bias=bias).to(dtype)


def relative_error(found, exact):
    return ((found - exact).abs().mean() / exact.abs().mean()).item()


def precision_of(weight_format):
    return Precision.COMPACT if weight_format is NF4 else Precision.BALANCED


def bytes_of_quantized(model, weight_format):
    """Return what a model without memory would take."""
    for weight in model.parameters():
        weight.data = weight.data.to(torch.bfloat16)
    quantize(model, weight_format, torch.device("meta"))
    return sum(weight.nbytes for weight in weights_of(model))


class TestWhichLayers:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("transformer_blocks.0.attn.to_q", True),
            ("transformer_blocks.18.ff.net.0.proj", True),
            ("transformer_blocks.3.norm1.linear", True),
            ("single_transformer_blocks.37.proj_mlp", True),
            ("encoder.block.23.layer.1.DenseReluDense.wo", True),
            ("x_embedder", False),
            ("context_embedder", False),
            ("time_text_embed.timestep_embedder.linear_1", False),
            ("norm_out.linear", False),
            ("proj_out", False),
        ],
    )
    def test_those_in_a_list_of_layers(self, name, expected):
        assert is_quantized(name, 3072, 3072, INT8) is expected

    @pytest.mark.parametrize(
        ("weight_format", "rows", "columns", "expected"),
        [
            (INT8, 7, 5, True),
            (FP8_ROWWISE, 32, 48, True),
            (FP8_ROWWISE, 8, 48, False),
            (FP8_ROWWISE, 32, 40, False),
            (FP8_ROWWISE, 24, 40, False),
            (NF4, 7, 128, True),
            (NF4, 64, 96, False),
        ],
    )
    def test_a_shape_that_the_format_does_not_accept_keeps_its_bits(self, weight_format, rows, columns, expected):
        assert is_quantized("blocks.0.linear", rows, columns, weight_format) is expected

    def test_fp8_is_for_the_denoiser_of_a_card_that_has_it(self):
        assert formats_for(Precision.EXACT, has_fp8=True) == {}
        assert formats_for(Precision.BALANCED, has_fp8=True) == {"transformer": FP8_ROWWISE, "text_encoder_2": INT8}
        assert formats_for(Precision.BALANCED, has_fp8=False) == {"transformer": INT8, "text_encoder_2": INT8}
        assert formats_for(Precision.COMPACT, has_fp8=True) == {"transformer": NF4, "text_encoder_2": NF4}


class TestProduct:
    @FORMATS
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
    @pytest.mark.parametrize("shape", [(1, 128), (2, 9, 128)], ids=str)
    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
    @torch.no_grad()
    def test_it_is_near_the_exact_one(self, weight_format, dtype, shape, bias):
        layer, inputs = layer_of(dtype, bias), torch.randn(shape).to(dtype)
        found = QuantizedLinear(layer, weight_format, torch.device("cpu"))(inputs)
        exact = layer(inputs)
        assert (found.shape, found.dtype) == (exact.shape, dtype)
        assert 0 < relative_error(found.float(), exact.float()) < MOST_ERROR[weight_format.name]

    @FORMATS
    @torch.no_grad()
    def test_the_same_weight_gives_the_same_bits(self, weight_format):
        first, again = (QuantizedLinear(layer_of(), weight_format, torch.device("cpu")) for _ in range(2))
        assert torch.equal(first.packed.view(torch.uint8), again.packed.view(torch.uint8))
        assert torch.equal(first.scales, again.scales)

    @FORMATS
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
    @torch.no_grad()
    def test_compiling_breaks_no_graph_and_a_move_compiles_nothing_anew(self, weight_format):
        # Given a compiled layer that was called once
        torch._dynamo.reset()
        layer = QuantizedLinear(layer_of(), weight_format, torch.device("cpu"))
        inputs = torch.randn(9, 128, dtype=torch.bfloat16)
        plain = layer(inputs)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        compiled(inputs)
        # When its weights go and come back somewhere else
        masters = {weight: weight.data.clone() for weight in weights_of(layer)}
        for weight, master in masters.items():
            weight.data = master.new_empty(0)
        for weight, master in masters.items():
            weight.data = master
        # Then the same code runs and gives the same
        with torch.compiler.set_stance("fail_on_recompile"):
            again = compiled(inputs)
        assert relative_error(again.float(), plain.float()) < 0.01


def test_quantizing_again_changes_nothing():
    model = torch.nn.Sequential(torch.nn.ModuleList([torch.nn.Sequential(layer_of())]))
    quantize(model, INT8, torch.device("cpu"))
    before = [weight.clone() for weight in weights_of(model)]
    quantize(model, NF4, torch.device("cpu"))
    assert all(map(torch.equal, before, weights_of(model)))


@FORMATS
@pytest.mark.parametrize("model", ["schnell", "dev", "fill"])
def test_the_planner_knows_the_bytes_of_the_real_transformers(model, weight_format):
    # Given the published configuration, quantized without memory
    inputs = {"in_channels": 384, "out_channels": 64} if model == "fill" else {}
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=CATALOG[model].uses_guidance, **inputs)
    real = bytes_of_quantized(transformer, weight_format)
    # Then the plan is never below it, and at most 0.1 % above
    assert real <= GpuSpec.of(CATALOG[model]).own_bytes(precision_of(weight_format), table=False) <= 1.001 * real


@pytest.mark.parametrize("weight_format", [INT8, NF4], ids=lambda found: found.name)
def test_the_planner_knows_the_bytes_of_the_real_encoder(weight_format):
    with torch.device("meta"):
        encoder = T5EncoderModel(
            T5Config(d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu")
        )
    real = bytes_of_quantized(encoder, weight_format)
    spec = GpuSpec.of(CATALOG["dev"])
    assert real <= spec.encoder_bytes(precision_of(weight_format)) - spec.small_encoder_bytes <= 1.001 * real
