"""Weights that are quantized already: the reference computes with what they mean, and second implementations agree about it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import quantizers
from logitproof.cli import main
from logitproof.errors import Refusal
from logitproof.jobs.worker import Spec, Worker
from logitproof.reference.checkpoint import read_config
from logitproof.reference.layerwise import Ended
from logitproof.reference.model import PLAIN, load
from logitproof.reference.streamed import Streamed
from logitproof.weights.quantized import numbers
from logitproof.weights.quantized.folder import plain_tensors
from logitproof.weights.quantized.write import write_plain
from quantizers import FORMATS, GROUP, Stored, written

Array = np.ndarray
ROOT = Path(__file__).parents[2]
QWEN3 = ROOT / "zoo/qwen3"
IDS = [5, 88, 301, 42, 7, 19, 250, 333]
STEM = "model.layers.0.mlp.up_proj"
NAME = f"{STEM}.weight"


def logits(folder: Path) -> Array:
    with torch.inference_mode():
        return np.asarray(load(folder).model(torch.tensor([IDS])).logits[0].numpy())


def streamed(folder: Path) -> Array:
    disk = Streamed(folder, None, PLAIN)
    ended = [step for step in disk.passes([torch.tensor(IDS)]) if isinstance(step, Ended)]
    assert ended[0].error is None
    return np.asarray(ended[0].result[0].numpy())


def gaussian(rows: int = 64, columns: int = 192) -> Array:
    return np.random.default_rng(5).normal(size=(rows, columns)).astype(np.float32)


def decoded(path: Path, stored: Stored, stated: dict[str, Any], name: str = NAME) -> Array:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"quantization_config": stated}))
    quantizers.save(path / "model.safetensors", stored)
    plain = plain_tensors(path)
    assert plain is not None
    return plain.array(name)


@pytest.mark.parametrize("name", FORMATS)
def test_the_reference_computes_with_what_the_weights_mean(name: str, tmp_path: Path) -> None:
    small = written(QWEN3, tmp_path / "small", name)
    write_plain(small, tmp_path / "plain")
    rows = logits(small)
    np.testing.assert_array_equal(rows, logits(tmp_path / "plain"))
    np.testing.assert_array_equal(rows, streamed(small))
    assert np.abs(rows - logits(QWEN3)).max() > 0.01, "rounding must be seen, else nothing is proven"


@pytest.mark.parametrize("name", ["gptq", "fp8 blocks"])
def test_experts_that_are_quantized_one_by_one_are_read_whole_and_part_by_part(name: str, tmp_path: Path) -> None:
    model = ROOT / "zoo/qwen3-moe"
    small = written(model, tmp_path / "small", name)
    write_plain(small, tmp_path / "plain")
    rows = logits(small)
    np.testing.assert_array_equal(rows, logits(tmp_path / "plain"))
    np.testing.assert_array_equal(rows, streamed(small))
    assert np.abs(rows - logits(model)).max() > 0.01


def checked(path: Path, reference: Path, candidate: Path, band: tuple[float, float], gate: float) -> dict[str, Any]:
    """The cell of a check of two folders, which passes."""
    engine = {"engine": "transformers", "options": {"dtype": "float32", "threads": 1}}
    path.mkdir()
    contract = {
        "contract": "two",
        "reference": engine,
        "candidates": {"same": {**engine, "may_be_exact": "the same code computes with the same weights"}},
        "models": {"m": {"original": str(reference), "second": str(candidate)}},
        "matrix": {"quantization": ["second"], "mode": ["prefill"]},
        "suites": ["suite.yaml"],
        "bands": [{"match": band[0], "wrong": band[1], "basis": "what the format rounds"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": gate, "basis": "what the format rounds"}],
    }
    (path / "suite.yaml").write_text(
        json.dumps({"suite": "s", "max_new_tokens": 4, "prompts": [{"id": "a", "token_ids": IDS}]})
    )
    (path / "two.parity.yaml").write_text(json.dumps(contract))
    argv = ["check", str(path / "two.parity.yaml"), "--out", str(path / "run"), "--json"]
    result = CliRunner().invoke(main, argv)
    assert result.exit_code == 0, result.output
    (cell,) = json.loads(result.stdout)["cells"]
    return dict(cell)


@pytest.mark.parametrize("name", ["gptq", "fp8 blocks"])
def test_a_check_is_exact_against_the_plain_folder_and_near_the_original(name: str, tmp_path: Path) -> None:
    small = written(QWEN3, tmp_path / "small", name)
    write_plain(small, tmp_path / "plain")
    exact = checked(tmp_path / "a", small, tmp_path / "plain", (1e-9, 1e-8), 1e-9)
    assert (exact["status"], exact["metrics"]["kl_divergence"]["max"]) == ("MATCH", 0.0)
    near = checked(tmp_path / "b", QWEN3, small, (3.0, 20.0), 0.3)
    assert near["status"] in ("MATCH", "TIE-FLIP") and sum(near["counts"].values()) >= 8
    assert near["metrics"]["kl_divergence"]["mean"] > 1e-6, "rounding must be seen, else nothing is proven"


def test_the_engine_tells_what_it_dequantized(tmp_path: Path) -> None:
    small = written(QWEN3, tmp_path / "small", "awq")
    with Worker(Spec("transformers", {"dtype": "float32", "threads": 1}, timeout=300), name="reference") as worker:
        worker.hello()
        loaded = worker.load(small, None)
    count = sum(name.endswith("_proj.weight") for name in quantizers.read(QWEN3 / "model.safetensors"))
    assert loaded.details["dequantized"] == {"method": "awq", "matrices": {"INT4": count}, "scales_of_activations": 0}


def test_a_config_is_read_without_its_quantization(tmp_path: Path) -> None:
    assert not hasattr(read_config(written(QWEN3, tmp_path / "small", "gptq")), "quantization_config")


def test_an_unknown_method_is_refused_with_file_reason_and_remedy(tmp_path: Path) -> None:
    folder = written(QWEN3, tmp_path / "small", "gptq")
    quantizers.state_quantization(folder, {"quant_method": "quip"})
    with pytest.raises(Refusal, match="whose own kernels would decide") as caught:
        load(folder)
    assert str(caught.value.field).endswith("config.json: quantization_config.quant_method")
    assert "GGUF" in caught.value.remedy


# Second implementations


@pytest.mark.parametrize(
    ("own", "kind"),
    [(numbers.E4M3, torch.float8_e4m3fn), (numbers.E5M2, torch.float8_e5m2), (numbers.E8M0, torch.float8_e8m0fnu)],
)
def test_every_number_of_eight_bits_is_torchs(own: Array, kind: torch.dtype) -> None:
    np.testing.assert_array_equal(own, torch.arange(256, dtype=torch.uint8).view(kind).float().numpy())


@pytest.mark.parametrize("size", [32, 64])
def test_fp8_blocks_are_those_of_transformers(size: int, tmp_path: Path) -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    stored = quantizers.blocks(STEM, gaussian(), size)
    value = decoded(tmp_path / "m", stored, {"quant_method": "fp8", "weight_block_size": [size, size]})
    bits, scale = torch.from_numpy(stored[NAME][1]), torch.from_numpy(stored[f"{NAME}_scale_inv"][1])
    second = Fp8Dequantize(None)._dequantize_one(bits.view(torch.float8_e4m3fn), scale, torch.float32)
    np.testing.assert_array_equal(value, second.numpy())


def test_mxfp4_experts_are_those_of_transformers_and_gguf(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    weight = np.stack([gaussian(), gaussian()[::-1]])
    data, exponents = quantizers.microscaled(weight)
    blocks = data.reshape(*exponents.shape, 16)
    stored: Stored = {f"{STEM}_blocks": ("U8", blocks), f"{STEM}_scales": ("U8", exponents)}
    value = decoded(tmp_path / "m", stored, {"quant_method": "mxfp4"}, STEM)
    second = convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(exponents), dtype=torch.float32)
    np.testing.assert_array_equal(value, second.numpy())
    # In a GGUF file the first 16 numbers of a block are the lower halves of its bytes, the others the upper ones.
    codes = np.stack([blocks & 15, blocks >> 4], -1).reshape(*exponents.shape, 32)
    file = np.concatenate([exponents[..., None], codes[..., :16] | codes[..., 16:] << 4], -1).reshape(*weight.shape[:-1], -1)
    third = gguf.quants.dequantize(file.astype(np.uint8), gguf.GGMLQuantizationType.MXFP4)
    np.testing.assert_array_equal(value.swapaxes(1, 2), third)


def test_gptq_of_awqs_own_repacking_means_the_same(tmp_path: Path) -> None:
    packing = pytest.importorskip("awq.utils.packing_utils", exc_type=ImportError)
    stored = quantizers.awq(STEM, gaussian())
    value = decoded(tmp_path / "awq", stored, FORMATS["awq"][1])
    words, zeros, scales = (torch.from_numpy(stored[f"{STEM}.{name}"][1]) for name in ("qweight", "qzeros", "scales"))
    second = packing.dequantize_gemm(words, zeros, scales.float(), 4, GROUP)
    np.testing.assert_array_equal(value, second.numpy().T)
    words, zeros = packing.unpack_reorder_pack(words, zeros, 4)
    again: Stored = {
        f"{STEM}.qweight": ("I32", words.numpy()),
        f"{STEM}.qzeros": ("I32", zeros.numpy()),
        f"{STEM}.scales": ("F16", stored[f"{STEM}.scales"][1]),
    }
    np.testing.assert_array_equal(decoded(tmp_path / "gptq", again, FORMATS["gptq"][1]), value)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_of_bitsandbytes_are_its_own(kind: str, double: bool, tmp_path: Path) -> None:
    package = pytest.importorskip("bitsandbytes")
    weight = torch.from_numpy(gaussian(66, 190))
    data, state = package.functional.quantize_4bit(weight, blocksize=64, compress_statistics=double, quant_type=kind)
    stored: Stored = {NAME: ("U8", data.numpy())}
    for name, value in state.as_dict(packed=True).items():
        stored[f"{NAME}.{name}"] = ("U8" if value.dtype == torch.uint8 else "F32", value.numpy())
    value = decoded(tmp_path / "m", stored, {"quant_method": "bitsandbytes"})
    second = package.functional.dequantize_4bit(data, state).numpy()
    np.testing.assert_allclose(value, second, rtol=2e-7, atol=1e-7)


COMPRESSED = {name: row for name, row in FORMATS.items() if row[1]["quant_method"] == "compressed-tensors"}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_tensors_are_decompressed_as_the_package_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    writer, stated, _ = COMPRESSED[name]
    stored = writer(STEM, gaussian())
    value = decoded(tmp_path / "m", stored, stated)
    kinds = {"BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn}
    state = {}
    for tensor, (kind, values) in stored.items():
        plain = torch.from_numpy(values.view(np.int16) if kind == "BF16" else np.array(values))
        state[tensor.removeprefix(f"{STEM}.")] = plain.view(kinds[kind]) if kind in kinds else plain
    for key in ("weight_scale",):  # computed in float32, so that only what the numbers mean is compared
        state[key] = state[key].float() if state[key].dtype == torch.bfloat16 else state[key]
    scheme = QuantizationScheme(**stated["config_groups"]["group_0"])
    second = BaseCompressor.load_from_registry(stated["format"]).decompress(state, scheme)["weight"].float().numpy()
    rounded = name.endswith("fp4-pack-quantized") or name == "mxfp4"  # the package computes these in bfloat16
    np.testing.assert_allclose(value, second, rtol=2**-7 if rounded else 0, atol=0)
    assert math.isclose(float(np.abs(value).max()), float(np.abs(second).max()), rel_tol=2**-7)
