"""Fabricated models have a published model's shape, a real one's statistics, and the same bytes for the same seed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.hashes import file_sha256
from logitproof.gguf.write import to_gguf
from logitproof.weights import fabricate as module
from logitproof.weights.checkpoint import read_checkpoint
from logitproof.weights.fabricate import bfloat16, fabricate, parameters
from logitproof.weights.shapes import SHAPES, shape
from logitproof.weights.spectrum import HEAD, pieces

SMALL: dict[str, Any] = {
    "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "vocab_size": 1024, "num_hidden_layers": 4, "max_position_embeddings": 512,
}  # fmt: skip
OF_FAMILY: dict[str, dict[str, Any]] = {
    "qwen3-30b-a3b": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256},
    "qwen3.5-0.8b": {
        "linear_key_head_dim": 64, "linear_value_head_dim": 64, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    },
}  # fmt: skip
PUBLISHED = {
    "llama3-8b": 8_030_261_248, "qwen2.5-7b": 7_615_616_512, "qwen3-0.6b": 596_049_920, "qwen3-30b-a3b": 30_532_122_624,
}  # fmt: skip
"""Parameters as the model cards state them."""
Usage = namedtuple("Usage", "total used free")


def small(name: str) -> dict[str, Any]:
    """A shape of the family of `name` that a test has time for."""
    config = shape(name, 4) | SMALL | OF_FAMILY.get(name, {})
    if "mrope_section" in config["rope_parameters"]:
        config["rope_parameters"] = config["rope_parameters"] | {"mrope_section": [3, 3, 2]}
    return config


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_as_many_parameters_as_the_published_model(name: str) -> None:
    assert parameters(shape(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", SHAPES)
def test_every_family_loads_strictly_as_a_folder_and_as_gguf(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from logitproof.reference.model import load

    config = small(name)
    fabricate(config, tmp_path / "model")
    file = to_gguf(tmp_path / "model", tmp_path / "model.gguf", "F32", tokenizer=False)
    ids = torch.arange(24)[None] * 37 % config["vocab_size"]
    rows = []
    for path in (tmp_path / "model", file):
        reference = load(path, tmp_path / "model")
        assert sum(parameter.numel() for parameter in reference.model.parameters()) == parameters(config)
        with torch.inference_mode():
            rows.append(reference.model(ids).logits[0].double())
    # llama.cpp's files hold -exp(A_log), whose logarithm is not the same to the last bit
    assert torch.allclose(rows[0], rows[1], atol=1e-3 if "3.5" in name else 0, rtol=0)
    best = rows[0].topk(2).values
    assert 0.2 < float((best[:, 0] - best[:, 1]).median()) < 4
    assert 0.1 < float(rows[0].softmax(-1).max(-1).values.median()) < 0.95


@pytest.mark.parametrize("name", ["llama3-8b", "qwen3-0.6b"])
def test_quantization_costs_what_it_costs_a_real_model(name: str, tmp_path: Path) -> None:
    """Q8_0 some thousandths of a nat, Q4_K_M some tens of times more."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("llama_cpp")
    from logitproof.reference.model import load

    config = small(name)
    fabricate(config, tmp_path / "model")
    ids = torch.arange(48)[None] * 37 % config["vocab_size"]
    losses = {}
    with torch.inference_mode():
        exact = load(tmp_path / "model").model(ids).logits[0].double().log_softmax(-1)
        for kind in ("Q8_0", "Q4_K_M"):
            file = to_gguf(tmp_path / "model", tmp_path / f"{kind}.gguf", kind, tokenizer=False)
            rows = load(file, tmp_path / "model").model(ids).logits[0].double().log_softmax(-1)
            losses[kind] = float((exact.exp() * (exact - rows)).sum(-1).mean())
    assert 1e-5 < losses["Q8_0"] < 2e-2
    assert 10 < losses["Q4_K_M"] / losses["Q8_0"] < 1000


def test_matrices_have_the_spectrum_of_a_trained_model() -> None:
    """Energy of the strongest directions as in SmolLM2-135M and Gemma 3 270M, and tails heavier than the normal's."""
    config = shape("qwen3-0.6b")
    for part, sizes, least, most in (("self_attn.q_proj", (512, 1024), 0.25, 0.6), ("mlp.up_proj", (768, 1024), 0.12, 0.35)):
        matrix = np.concatenate(list(pieces(f"model.layers.3.{part}.weight", sizes, config, 0)))
        energy = np.linalg.eigvalsh(matrix @ matrix.T)[::-1]
        assert least < energy[:HEAD].sum() / energy.sum() < most
        assert 0.005 < energy[0] / energy.sum() < 0.1
        centred = matrix - matrix.mean()
        assert 3.05 < float(np.mean(centred**4) / np.mean(centred**2) ** 2) < 13


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    config = small("qwen3-0.6b")
    first, again = fabricate(config, tmp_path / "a"), fabricate(config, tmp_path / "b")
    other = fabricate(config, tmp_path / "c", seed=1)
    assert first == again
    assert first["model.safetensors"] != other["model.safetensors"] and first["config.json"] == other["config.json"]
    assert first == {name: file_sha256(tmp_path / "a" / name) for name in first}
    assert first["model.safetensors"] == "198a5a6548948acbc6888453b42d48fe59fe709b6c6c764249c158bc8f9fe0af"


def test_a_model_in_shards_is_the_same_model(tmp_path: Path) -> None:
    config = small("llama3-8b")
    fabricate(config, tmp_path / "whole")
    names = fabricate(config, tmp_path / "parts", shard=1 << 20)
    assert sum(name.endswith(".safetensors") for name in names) > 2 and "model.safetensors.index.json" in names
    whole, parts = (read_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_bfloat16_is_the_nearest() -> None:
    values = np.array([1.0, 1.0 + 2**-9, 1.0 + 3 * 2**-8, -1.0 - 2**-7, 3.14159, 1e-30], np.float32)
    kept = (bfloat16(values.copy()).astype(np.uint32) << 16).view(np.float32)
    assert np.all(np.abs(kept - values) <= np.abs(values) * 2**-8)
    assert kept[0] == 1.0 and kept[3] == -1.0 - 2**-7


@pytest.mark.parametrize("arguments", [["llama4"], ["qwen3-0.6b", "--layers", "0"], ["qwen3-0.6b", "--layers", "29"]])
def test_what_is_no_shape_is_refused(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["fabricate", arguments[0], str(tmp_path / "out"), *arguments[1:]])
    assert result.exit_code == 2 and "remedy: " in result.output
    assert not list(tmp_path.iterdir())


def test_an_unknown_quantization_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    result = CliRunner().invoke(main, ["fabricate", "qwen3-0.6b", str(tmp_path / "out"), "-q", "Q4_K_XYZ"])
    assert result.exit_code == 2 and "Q4_K_XYZ" in result.output
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: Usage(1 << 40, 1 << 40, 10 << 30))
    result = CliRunner().invoke(main, ["fabricate", "llama3-8b", str(tmp_path / "out")])
    assert result.exit_code == 3 and "16,060,522,496 bytes are needed" in result.output
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone_and_a_failure_leaves_no_scraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ContractError, match="exists already"):
        fabricate(small("qwen3-0.6b"), tmp_path / "out")
    monkeypatch.setattr(module, "write_pieces", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(EnvironmentFailed, match="the disk is full"):
        fabricate(small("qwen3-0.6b"), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_command_prints_the_hash_of_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "qwen3-0.6b", small("qwen3-0.6b"))
    result = CliRunner().invoke(main, ["fabricate", "qwen3-0.6b", str(tmp_path / "m"), "--layers", "2", "-q", "Q8_0"])
    assert result.exit_code == 0, result.output
    printed = dict(line.split("  ")[::-1] for line in result.output.splitlines() if "  " in line)
    assert {Path(name).name for name in printed} == {"config.json", "model.safetensors", "m-Q8_0.gguf"}
    assert all(file_sha256(Path(name)) == sha256 for name, sha256 in printed.items())


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA") or sys.platform != "linux", reason="Linux counts memory so")
def test_a_model_larger_than_memory_is_made_and_quantized(tmp_path: Path) -> None:
    """540 MB of weights, with 350 MB of memory for everything."""
    script = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_DATA, (350 << 20, 350 << 20))
from logitproof.gguf.write import to_gguf
from logitproof.weights.fabricate import fabricate
from logitproof.weights.shapes import shape
out = Path(sys.argv[1])
fabricate(shape("qwen3-0.6b", 1) | {"vocab_size": 250_000}, out)
to_gguf(out, out.with_suffix(".gguf"), "Q8_0", tokenizer=False)
"""
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "model")], check=True, env={**os.environ, **threads})
    assert (tmp_path / "model/model.safetensors").stat().st_size > 500 << 20
    assert (tmp_path / "model.gguf").stat().st_size > 270 << 20
    shutil.rmtree(tmp_path / "model")
