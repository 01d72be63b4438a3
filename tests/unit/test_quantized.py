"""Published quantized checkpoints: each format means what its document says, and whatever does not fit is one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import quantizers
from logitproof.cli import main
from logitproof.errors import ContractError, ModelError
from logitproof.gguf.tensors import FolderTensors
from logitproof.weights.checkpoint import read_checkpoint
from logitproof.weights.quantized import numbers
from logitproof.weights.quantized.folder import plain_tensors
from logitproof.weights.stored import is_quantized
from quantizers import FORMATS, Stored, save, state_quantization

Array = np.ndarray
STEM = "model.layers.0.mlp.up_proj"
NAME = f"{STEM}.weight"


def folder_of(path: Path, tensors: Stored, stated: Any, key: str = "quantization_config") -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "vocab_size": 8}))
    state_quantization(path, stated, key)
    save(path / "model.safetensors", tensors)
    return path


def value_of(path: Path, tensors: Stored, stated: Any, name: str = NAME) -> Array:
    plain = plain_tensors(folder_of(path, tensors, stated))
    assert plain is not None
    return plain.array(name)


def int32(*numbers: int) -> Array:
    return np.array(numbers, np.uint32).view(np.int32)


# Computed by hand


def test_gptq_is_scale_times_number_less_zero_and_the_zero_is_stored_less_one(tmp_path: Path) -> None:
    """Two groups of four inputs, which count 0 to 7 for output 0; its zeros are 3 and 9, stored as 2 and 8."""
    qweight = int32(0x76543210, *[0] * 7)[None]
    stored: Stored = {
        f"{STEM}.qweight": ("I32", qweight),
        f"{STEM}.qzeros": ("I32", int32(0x00000002, 0x00000008)[:, None]),
        f"{STEM}.scales": ("F16", np.array([[0.5] * 8, [2.0] * 8], np.float16)),
    }
    stated = {"quant_method": "gptq", "bits": 4, "group_size": 4, "desc_act": False}
    first = value_of(tmp_path / "v1", stored, stated)
    np.testing.assert_array_equal(first[0], [-1.5, -1, -0.5, 0, -10, -8, -6, -4])
    np.testing.assert_array_equal(first[1], [-0.5] * 4 + [-2] * 4)
    second = value_of(tmp_path / "v2", stored, {**stated, "checkpoint_format": "gptq_v2"})
    np.testing.assert_array_equal(second[0], [-1, -0.5, 0, 0.5, -8, -6, -4, -2])
    ordered = stored | {f"{STEM}.g_idx": ("I32", np.array([1, 0, 0, 0, 0, 1, 1, 1], np.int32))}
    third = value_of(tmp_path / "order", ordered, {**stated, "desc_act": True})
    np.testing.assert_array_equal(third[0], [-18, -1, -0.5, 0, 0.5, -8, -6, -4])


def test_a_number_of_three_bits_lies_across_words() -> None:
    """Numbers 0 to 7 four times are the octal digits of 96 bits."""
    total = sum((place % 8) << (3 * place) for place in range(32))
    words = int32(*(total >> (32 * word) & 0xFFFFFFFF for word in range(3)))
    np.testing.assert_array_equal(numbers.bits_of(words, 3, 32), [place % 8 for place in range(32)])
    np.testing.assert_array_equal(numbers.bits_of(words, 3, 30), [place % 8 for place in range(30)])


def test_awq_interleaves_the_outputs_of_a_word(tmp_path: Path) -> None:
    """From its lowest bits on the word holds 0, 2, 4, 6, 1, 3, 5, 7, the numbers of the outputs 0, 2, 4, ..: they count up."""
    stored: Stored = {
        f"{STEM}.qweight": ("I32", int32(0x75316420, 0x75316420)[:, None]),
        f"{STEM}.qzeros": ("I32", int32(0x11111111)[:, None]),
        f"{STEM}.scales": ("F16", np.full((1, 8), 0.25, np.float16)),
    }
    value = value_of(tmp_path / "m", stored, {"quant_method": "awq", "bits": 4, "group_size": 2, "version": "GEMM"})
    np.testing.assert_array_equal(value, [[0.25 * (output - 1)] * 2 for output in range(8)])


def test_compressed_tensors_store_numbers_less_half_their_range(tmp_path: Path) -> None:
    stored: Stored = {
        f"{STEM}.weight_packed": ("I32", int32(0xFEDCBA98)[:, None]),
        f"{STEM}.weight_scale": ("F32", np.array([[0.5, 3]], np.float32)),
        f"{STEM}.weight_shape": ("I64", np.array([1, 8])),
    }
    scheme = quantizers.compressed("int", 4, "pack-quantized", strategy="group", group_size=4)
    np.testing.assert_array_equal(value_of(tmp_path / "m", stored, scheme), [[0, 0.5, 1, 1.5, 12, 15, 18, 21]])
    zero: Stored = stored | {f"{STEM}.weight_zero_point": ("I32", int32(0x9, 0x6)[None])}
    np.testing.assert_array_equal(value_of(tmp_path / "z", zero, scheme), [[-0.5, 0, 0.5, 1, 18, 21, 24, 27]])


def test_fp8_is_multiplied_by_what_is_called_the_inverse_of_its_scale(tmp_path: Path) -> None:
    """0x38 is 1, 0x7E 448, 0xC0 −2, 0x01 2^−9; the last blocks of 2 × 2 are cut short."""
    stored: Stored = {
        f"{STEM}.weight": ("F8_E4M3", np.array([[0x38, 0x7E, 0xC0], [0x01, 0x38, 0x38], [0x38, 0x38, 0x38]], np.uint8)),
        f"{STEM}.weight_scale_inv": ("F32", np.array([[2, 3], [5, 7]], np.float32)),
    }
    value = value_of(tmp_path / "m", stored, {"quant_method": "fp8", "weight_block_size": [2, 2]})
    np.testing.assert_array_equal(value, [[2, 896, -6], [2.0**-8, 2, 3], [5, 5, 7]])


def test_mxfp4_experts_are_turned_and_the_lower_half_of_a_byte_comes_first(tmp_path: Path) -> None:
    data = np.zeros((1, 2, 1, 16), np.uint8)
    data[0, 0, 0, 0] = 0xF1  # 0.5, then −6
    data[0, 1, 0, 15] = 0x42  # 1, then 2
    stored: Stored = {f"{STEM}_blocks": ("U8", data), f"{STEM}_scales": ("U8", np.array([[[128], [126]]], np.uint8))}
    value = value_of(tmp_path / "m", stored, {"quant_method": "mxfp4"}, STEM)
    assert value.shape == (1, 32, 2)
    assert (value[0, 0, 0], value[0, 1, 0], value[0, 30, 1], value[0, 31, 1]) == (1, -12, 0.5, 1)
    plain = plain_tensors(tmp_path / "m")
    assert plain is not None
    np.testing.assert_array_equal(plain.part(STEM, 0), value[0])


@pytest.mark.parametrize("modelopt", [True, False])
def test_nvfp4_has_two_scales_and_compressed_tensors_divides_by_the_second(modelopt: bool, tmp_path: Path) -> None:
    data, scale = np.full((1, 8), 0xB7, np.uint8), np.array([[0x40]], np.uint8)  # 6 and −1.5, twice
    if modelopt:
        stored: Stored = {NAME: ("U8", data), f"{NAME}_scale": ("F8_E4M3", scale)}
        stored |= {f"{NAME}_scale_2": ("F32", np.float32([0.5]))}
        stated: dict[str, Any] = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    else:
        stored = {f"{NAME}_packed": ("U8", data), f"{NAME}_scale": ("F8_E4M3", scale)}
        stored |= {f"{NAME}_global_scale": ("F32", np.float32([2]))}
        stated = quantizers.compressed("float", 4, "nvfp4-pack-quantized", strategy="tensor_group", group_size=16)
    np.testing.assert_array_equal(value_of(tmp_path / "m", stored, stated), [[6, -1.5] * 8])


def test_bitsandbytes_reads_the_upper_half_first_and_its_own_table(tmp_path: Path) -> None:
    """Blocks of 2; the scales are places 1 and 3 of a second table of place / 4, × 2, plus 0.5: 1 and 2."""
    state = {"quant_type": "nf4", "blocksize": 2, "shape": [1, 3], "nested_blocksize": 256, "nested_offset": 0.5}
    stored: Stored = {
        NAME: ("U8", np.array([[0xF0], [0x70]], np.uint8)),
        f"{NAME}.absmax": ("U8", np.array([1, 3], np.uint8)),
        f"{NAME}.quant_map": ("F32", np.arange(16, dtype=np.float32)),
        f"{NAME}.nested_absmax": ("F32", np.float32([2])),
        f"{NAME}.nested_quant_map": ("F32", np.arange(256, dtype=np.float32) / 4),
        f"{NAME}.quant_state.bitsandbytes__nf4": ("U8", np.frombuffer(json.dumps(state).encode(), np.uint8)),
    }
    np.testing.assert_array_equal(value_of(tmp_path / "m", stored, {"quant_method": "bitsandbytes"}), [[15, 0, 14]])


def test_eight_bits_of_bitsandbytes_are_parts_of_the_largest_of_a_row(tmp_path: Path) -> None:
    stored: Stored = {NAME: ("I8", np.array([[127, -127, 0]], np.int8)), f"{STEM}.SCB": ("F32", np.float32([254]))}
    np.testing.assert_array_equal(value_of(tmp_path / "m", stored, {"quant_method": "bitsandbytes"}), [[254, -254, 0]])


# What writers of every format make


@pytest.mark.parametrize("name", FORMATS)
def test_a_matrix_comes_back_within_what_its_format_rounds(name: str, tmp_path: Path) -> None:
    """Odd rows, so that the last words and blocks are not full, where the format has such."""
    rows = 40 if name.startswith(("gptq", "awq")) else 37
    weight = np.random.default_rng(11).normal(size=(rows + (name == "gptq 3 bits") * 24, 192)).astype(np.float32)
    writer, stated, most = FORMATS[name]
    value = value_of(tmp_path / "m", writer(STEM, weight), stated)
    assert value.shape == weight.shape
    assert value.dtype == np.float32
    error = np.linalg.norm(value - weight) / np.linalg.norm(weight)
    assert most / 20 < error < most
    assert is_quantized(tmp_path / "m")
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "m")[NAME], value)
    np.testing.assert_array_equal(FolderTensors(tmp_path / "m").rows(NAME, np.array([3, 0])), value[[3, 0]])


def test_what_is_plain_stays_and_scales_of_activations_are_counted(tmp_path: Path) -> None:
    stored = quantizers.nvfp4(STEM, np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32))
    norm = np.array([1, 2, 3], np.float16)
    stored |= {"model.norm.weight": ("F16", norm), "model.layers.0.self_attn.k_proj.k_scale": ("F32", np.float32([1]))}
    plain = plain_tensors(folder_of(tmp_path / "m", stored, FORMATS["nvfp4"][1]))
    assert plain is not None
    assert sorted(plain.names) == [NAME, "model.norm.weight"]
    np.testing.assert_array_equal(plain.array("model.norm.weight"), norm)
    assert plain.details["scales_of_activations"] == 2
    assert (plain.stored(NAME), plain.kind(NAME)) == ("NVFP4", "F32")


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantize_config.json", "hf_quant_config.json"])
def test_a_quantization_is_stated_where_older_files_do_it_too(key: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    name = {"compression_config": "pack-quantized", "hf_quant_config.json": "nvfp4"}.get(key, "gptq")
    writer, stated, _ = FORMATS[name]
    if key.endswith(".json"):
        folder = folder_of(tmp_path / "m", writer(STEM, weight), None)
        without = {field: value for field, value in stated.items() if field != "quant_method"}
        (folder / key).write_text(json.dumps({"quantization": without} if name == "nvfp4" else without))
    else:
        folder = folder_of(tmp_path / "m", writer(STEM, weight), stated, key)
    plain = plain_tensors(folder)
    assert plain is not None
    assert np.linalg.norm(plain.array(NAME) - weight) < 0.2 * np.linalg.norm(weight)
    result = CliRunner().invoke(main, ["dequantize", str(folder), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert plain_tensors(tmp_path / "out") is None
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "out")[NAME], plain.array(NAME))


# What packages wrote at other times, and what stands beside a matrix


def words_of_whole_numbers(values: Array, bits: int) -> Array:
    """int32 [rows, words]: 32 // bits numbers a word, as compressed-tensors packed before it packed densely."""
    each = 32 // bits
    padded = np.zeros((len(values), -(-values.shape[1] // each) * each), np.uint32)
    padded[:, : values.shape[1]] = values
    return np.bitwise_or.reduce(padded.reshape(len(values), -1, each) << (np.arange(each, dtype=np.uint32) * bits), -1).view(
        "i4"
    )


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
@pytest.mark.parametrize("pack", [quantizers.words, words_of_whole_numbers])
def test_numbers_that_do_not_divide_a_word_are_read_as_either_package_packed_them(
    bits: int, pack: Callable[[Array, int], Array], tmp_path: Path
) -> None:
    """Zero points of 64 outputs lie down the columns, and are packed alike."""
    random, half = np.random.default_rng(bits), 1 << (bits - 1)
    codes, zero = random.integers(0, 2 * half, (64, 96)), random.integers(0, 2 * half, (64, 2))
    scale = random.normal(size=(64, 2)).astype(np.float32)
    stored: Stored = {
        f"{NAME}_packed": ("I32", pack(codes, bits)),
        f"{NAME}_scale": ("F32", scale),
        f"{NAME}_zero_point": ("I32", pack(zero.T, bits).T.copy()),
        f"{NAME}_shape": ("I64", np.array(codes.shape)),
    }
    scheme = quantizers.compressed("int", bits, "pack-quantized", strategy="group", group_size=48, symmetric=False)
    wanted = (codes - np.repeat(zero, 48, 1)) * np.repeat(scale, 48, 1)
    np.testing.assert_array_equal(value_of(tmp_path / "m", stored, scheme), wanted.astype(np.float32))


def test_whole_numbers_of_four_bits_may_lie_in_bytes(tmp_path: Path) -> None:
    stored: Stored = {NAME: ("I8", np.array([[-8, 7, 3, 1]], np.int8)), f"{NAME}_scale": ("F32", np.float32([[0.5, 2]]))}
    scheme = quantizers.compressed("int", 4, "naive-quantized", strategy="group", group_size=2, symmetric=True)
    np.testing.assert_array_equal(value_of(tmp_path / "m", stored, scheme), [[-4, 3.5, 6, 2]])


@pytest.mark.parametrize(("kind", "type_name"), [("BF16", "<u2"), ("F16", "<u2"), ("F32", "<u4")])
def test_bytes_of_four_bits_may_be_called_another_type(kind: str, type_name: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(2).normal(size=(8, 64)).astype(np.float32)
    stored = quantizers.nf4(STEM, weight)
    other = stored | {NAME: (kind, stored[NAME][1].reshape(-1).view(type_name)[:, None])}
    stated = FORMATS["nf4"][1]
    np.testing.assert_array_equal(value_of(tmp_path / "a", other, stated), value_of(tmp_path / "b", stored, stated))


@pytest.mark.parametrize("name", ["nvfp4", "fp8"])
def test_what_multiplies_the_inputs_of_a_layer_multiplies_its_columns(name: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(2).normal(size=(8, 64)).astype(np.float32)
    scale = np.linspace(0.5, 2, 64).astype(np.float32)
    stored = quantizers.nvfp4(STEM, weight)
    if name == "fp8":
        stored = {NAME: ("F8_E4M3", quantizers.e4m3_bits(weight)), f"{NAME}_scale": ("F32", np.float32([1]))}
    stated = FORMATS["nvfp4"][1]
    beside = stored | {f"{STEM}.pre_quant_scale": ("F32", scale)}
    value = value_of(tmp_path / "a", beside, stated)
    np.testing.assert_array_equal(value, value_of(tmp_path / "b", stored, stated) * scale)


# What does not fit


def without(ending: str) -> Callable[[Stored], Stored]:
    return lambda stored: {name: value for name, value in stored.items() if not name.endswith(ending)}


def changed(ending: str, change: Callable[[Array], Array], kind: str | None = None) -> Callable[[Stored], Stored]:
    def of(stored: Stored) -> Stored:
        new = {name: (kind or own, change(value)) for name, (own, value) in stored.items() if name.endswith(ending)}
        return stored | new

    return of


def same(stored: Stored) -> Stored:
    return stored


def beside(tensors: Stored) -> Callable[[Stored], Stored]:
    return lambda stored: stored | tensors


def first_row(table: Array) -> Array:
    return table[:1]


FAULTS: dict[str, tuple[str, Callable[[Stored], Stored], dict[str, Any], str]] = {
    "gptq without scales": ("gptq", without(".scales"), {}, "scales: is not there"),
    "gptq without zeros": ("gptq", without(".qzeros"), {}, "qzeros: is not there"),
    "gptq of other groups": ("gptq", same, {"group_size": 32}, "3 groups, and group_size 32 makes 6 of 192 inputs"),
    "gptq of other bits": ("gptq", same, {"bits": 8}, "qweight: has 24 words a column, and 192 numbers of 8 bits"),
    "gptq of bits that no word has": ("gptq", same, {"bits": 5}, "quantization_config.bits: must be 2, 3, 4 or 8"),
    "gptq without bits": ("gptq", same, {"bits": None}, "quantization_config.bits: must be"),
    "gptq of group size 0": ("gptq", same, {"group_size": 0}, "group_size: is 0"),
    "gptq for a kernel": ("gptq", same, {"checkpoint_format": "marlin"}, "checkpoint_format: is 'marlin'"),
    "gptq out of order": ("gptq act-order", same, {"desc_act": False}, "g_idx: orders the inputs, and desc_act says"),
    "gptq of no such group": (
        "gptq", changed(".g_idx", lambda index: index + 7), {"desc_act": True}, "g_idx: names the groups 7 to 9"
    ),
    "gptq with NaN": (
        "gptq", changed(".scales", lambda scale: scale * np.float16("nan")), {}, "scales: holds a scale that is not"
    ),
    "gptq of floats": ("gptq", changed(".qweight", np.float32, "F32"), {}, "qweight: has type F32"),
    "gptq with short zeros": ("gptq", changed(".qzeros", first_row), {}, "qzeros: has the shape [1, 5], and"),
    "awq of other groups": ("awq", same, {"group_size": 128}, "scales: has 3 groups, and group_size 128"),
    "awq for a kernel": ("awq", same, {"version": "gemv"}, "version: is 'gemv'"),
    "awq of 8 bits": ("awq", same, {"bits": 8}, "quantization_config.bits: must be 4"),
    "packed without shape": ("pack-quantized", without("_shape"), {}, "weight_shape: is not there"),
    "packed with another shape": (
        "pack-quantized", changed("_shape", lambda shape: shape * 2), {}, "weight_packed: has the shape"
    ),
    "packed with negative shape": ("pack-quantized", changed("_shape", np.negative), {}, "weight_shape: is -40 × -192"),
    "packed without scale": ("pack-quantized", without("_scale"), {}, "weight_scale: is not there"),
    "packed without groups": ("pack-quantized", same, {"config_groups": None}, "config_groups: must be"),
    "packed as sparse": ("pack-quantized", same, {"format": "marlin-24"}, "format: is 'marlin-24'"),
    "packed with transforms": (
        "pack-quantized",
        same,
        {"transform_config": {"config_groups": {"R4": {"type": "hadamard"}}}},
        "transform_config: turns activations or weights while the model runs",
    ),
    "packed in two ways": (
        "pack-quantized",
        beside({f"{NAME}_shape": ("I64", np.array([40, 20])), f"{NAME}_packed": ("I32", np.zeros((40, 2), np.int32))}),
        quantizers.compressed("int", 3, "pack-quantized", strategy="group", group_size=20),
        "weight_packed: has 2 words for 20 numbers, whose bits may lie in 2 ways",
    ),
    "a scale of a matrix that is plain": (
        "float-quantized",
        beside({"x.weight": ("F32", np.zeros((2, 2), np.float32)), "x.weight_scale": ("F32", np.ones(2, np.float32))}),
        {},
        "x.weight_scale: has type F32 and belongs to no matrix",
    ),
    "a scale of inputs that no matrix has": (
        "nvfp4", beside({"x.pre_quant_scale": ("F32", np.ones(2, np.float32))}), {},
        "pre_quant_scale: has type F32 and belongs to no matrix",
    ),
    "inputs of another count": (
        "nvfp4", beside({f"{STEM}.pre_quant_scale": ("F32", np.ones(2, np.float32))}), {},
        "pre_quant_scale: has the shape [2], and",
    ),
    "channels without scale": ("float-quantized", without(".weight_scale"), {}, "weight_scale: is not there"),
    "channels of NaN": (
        "float-quantized", changed(".weight", lambda codes: codes | 0x7F), {}, "weight: holds a number that is not"
    ),
    "blocks without scale": ("fp8 blocks", without("_inv"), {}, "weight_scale_inv: is not there"),
    "blocks of another size": (
        "fp8 blocks", same, {"weight_block_size": [128, 128]}, "weight_scale_inv: has the shape [1, 4], and"
    ),
    "blocks of size 0": ("fp8 blocks", same, {"weight_block_size": [0, 48]}, "weight_block_size.0: must be at least 1"),
    "blocks of no size": (
        "fp8 blocks", same, {"weight_block_size": None}, "weight_scale_inv: has the shape [1, 4]; [40, 192] has"
    ),
    "mxfp4 with NaN": (
        "mxfp4", changed("_scale", lambda scale: scale | 255), {}, "weight_scale: holds a scale that is not finite"
    ),
    "nvfp4 without scale 2": ("nvfp4", without("_scale_2"), {}, "weight_scale_2: is not there"),
    "nvfp4 with short scales": ("nvfp4", changed(".weight_scale", first_row), {}, "weight_scale: has the shape [1, 12], and"),
    "nvfp4 of another group": ("nvfp4", same, {"group_size": 32}, "group_size: is 32"),
    "nvfp4 divided by 0": (
        "nvfp4-pack-quantized", changed("_global_scale", lambda value: value * 0), {}, "weight_global_scale: is 0"
    ),
    "nf4 without scales": ("nf4", without(".absmax"), {}, "absmax: is not there"),
    "nf4 without its table": ("nf4", without(".weight.quant_map"), {}, "quant_map: is not there"),
    "nf4 without its second table": ("nf4", without("nested_quant_map"), {}, "nested_quant_map: is not there"),
    "nf4 with a torn state": ("nf4", changed("__nf4", lambda state: state[:-9]), {}, "bitsandbytes__nf4: is not JSON"),
    "nf4 cut short": ("nf4", changed(".weight", lambda data: data[:-1]), {}, "weight: has 3839 bytes, and [40, 192] is 7680"),
    "int8 without scales": ("int8", without(".SCB"), {}, "SCB: is not there"),
    "int8 for a kernel": (
        "int8", changed("_format", lambda order: order + 1), {}, "weight_format: says that the rows are interleaved"
    ),
    "an unknown method": (
        "gptq", same, {"quant_method": "quip"}, "quantization_config.quant_method: is 'quip', whose own kernels"
    ),
    "a method of another": ("gptq", same, {"quant_method": "mxfp4"}, "no tensor of m is"),
    "a method that is no name": ("gptq", same, {"quant_method": ["gptq"]}, "quant_method: is ['gptq']"),
    "a tensor that is left": (
        "gptq",
        beside({"model.x": ("I32", np.zeros(4, np.int32))}),
        {},
        "model.x: has type I32 and belongs to no matrix of gptq",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_error_with_file_field_and_remedy(fault: str, tmp_path: Path) -> None:
    name, change, settings, words = FAULTS[fault]
    writer, stated, _ = FORMATS[name]
    weight = np.random.default_rng(1).normal(size=(40, 192)).astype(np.float32)
    folder = folder_of(tmp_path / "m", change(writer(STEM, weight)), {**stated, **settings})
    with pytest.raises(ModelError) as raised:
        read_checkpoint(folder)
    assert words in str(raised.value)
    assert str(folder) in raised.value.where
    assert raised.value.remedy
    result = CliRunner().invoke(main, ["dequantize", str(folder), str(tmp_path / "out")])
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.split())
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["gptq", "pack-quantized", "fp8 blocks", "nvfp4", "nf4", "int8"])
def test_a_quantized_tensor_in_a_folder_that_states_nothing_is_told(name: str, tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    folder = folder_of(tmp_path / "m", FORMATS[name][0](STEM, weight), None)
    with pytest.raises(ModelError, match="config.json has no quantization_config"):
        plain_tensors(folder)


@pytest.mark.parametrize("stated", ["gptq", 4, ["gptq"], True])
def test_a_quantization_config_that_is_no_object_is_told(stated: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", {NAME: ("F32", np.zeros((2, 2), np.float32))}, stated)
    with pytest.raises(ModelError, match="not an object"):
        plain_tensors(folder)


def test_a_plain_folder_is_not_dequantized(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", {NAME: ("F32", np.zeros((2, 2), np.float32))}, None)
    result = CliRunner().invoke(main, ["dequantize", str(folder), str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "states no quantization" in result.output


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)
    folder = folder_of(tmp_path / "m", FORMATS["gptq"][0](STEM, weight), FORMATS["gptq"][1])
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ContractError, match="cut off"):
        read_checkpoint(folder)
