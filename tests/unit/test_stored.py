"""What weights are stored in, and what engines say that they compute in: the tensors decide, and never a name."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from logitproof.errors import ModelError
from logitproof.protocol.precision import Precision, cache_types, precision_of, stated
from logitproof.weights.stored import is_quantized, stored_precision

KINDS: dict[str, Precision] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "Q8_0": "quantized", "Q4_0": "quantized"}
NAMES = ("model-F32.gguf", "model-F16.gguf", "ggml-model-f32.gguf", "model.Q4_K_M.gguf", "weights", "model.bin")


def write(path: Path, kind: str) -> Path:
    """A GGUF file whose matrix is of this type; its norm is float32, as in every file."""
    writer = gguf.GGUFWriter(path, "llama")
    raw = gguf.GGMLQuantizationType[kind]
    writer.add_tensor("output_norm.weight", np.ones(32, np.float32))
    data = gguf.quants.quantize(np.ones((2, 32), np.float32), raw)
    writer.add_tensor("output.weight", data, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_are_the_same_type_under_any_name(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path / "first", kind)
    for name in NAMES:
        (tmp_path / name).hardlink_to(file)
        assert stored_precision(tmp_path / name) == KINDS[kind]
        assert is_quantized(tmp_path / name) == (KINDS[kind] == "quantized")


def test_a_folder_with_packed_integers_is_quantized_and_one_that_only_counts_is_not(tmp_path: Path) -> None:
    packed, plain = tmp_path / "plain", tmp_path / "W4A16"
    for folder, extra in ((packed, np.ones(4, np.int32)), (plain, np.ones(4, np.int64))):
        folder.mkdir()
        save_file({"a.weight": np.ones((2, 4), np.float16), "b": extra}, folder / "model.safetensors")
    assert stored_precision(packed) == "quantized"
    assert stored_precision(plain) == "float16"


def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00")
    with pytest.raises(ModelError, match=r"model\.gguf"):
        stored_precision(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("details", "precisions"),
    [
        ({}, []),
        ({"dtype": "torch.bfloat16"}, ["bfloat16"]),
        ({"dtype": "as stored"}, []),
        ({"dtype": "int8_float32"}, ["quantized"]),
        ({"kv_types": [["f16", "q8_0"]]}, ["float16", "quantized"]),
        ({"dtype": "float64", "arithmetic": {"gelu": "float16"}}, ["float32", "float16"]),
    ],
)
def test_what_an_engine_says_is_read_in_one_way(details: dict[str, object], precisions: list[str]) -> None:
    assert stated(json.loads(json.dumps(details))) == precisions


def test_the_types_of_a_cache_are_named_once() -> None:
    assert cache_types({"kv_types": [["f32", "f16"], ["f32", "f32"]]}) == ["f32", "f16"]
    assert precision_of("gelu") is None
