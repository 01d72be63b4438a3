"""Weights that are quantized already: unpacked where that is exact, refused with file, reason and remedy where it is not."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from logitproof.errors import Refusal
from logitproof.jobs.worker import Spec, Worker
from logitproof.reference.checkpoint import read_config

QWEN3 = Path(__file__).parents[2] / "zoo/qwen3"
IDS = [5, 88, 301, 42, 7, 19, 250, 333]
GROUP = 64
HERE = find_spec("compressed_tensors") is not None
PACKED: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP},
        }
    },
}


def copied(folder: Path, stated: dict[str, Any]) -> Path:
    """zoo/qwen3 with a quantization_config."""
    shutil.copytree(QWEN3, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": stated}))
    return folder


def packed(folder: Path) -> tuple[Path, Path]:
    """The model with every projection in 4 bits, packed, and the same rounded weights unpacked."""
    tensors, plain, small = load_file(QWEN3 / "model.safetensors"), {}, {}
    for name, weight in tensors.items():
        plain[name] = small[name] = weight.clone()
        if name.endswith("_proj.weight"):
            rows, columns = weight.shape
            groups = weight.float().reshape(rows, columns // GROUP, GROUP)
            scale = (groups.abs().amax(-1) / 7).clamp(min=1e-8).to(torch.bfloat16)
            whole = torch.clamp(torch.round(groups / scale.float()[..., None]), -8, 7)
            plain[name] = (whole * scale.float()[..., None]).reshape(rows, columns)
            del small[name]
            nibbles = (whole.reshape(rows, columns // 8, 8) + 8).to(torch.int64).numpy().astype(np.uint32)
            words = sum(nibbles[..., k] << np.uint32(4 * k) for k in range(8))
            stem = name.removesuffix(".weight")
            small[f"{stem}.weight_packed"] = torch.from_numpy(np.asarray(words, np.uint32).view(np.int32).copy())
            small[f"{stem}.weight_scale"] = scale
            small[f"{stem}.weight_shape"] = torch.tensor([rows, columns])
    one, other = copied(folder / "packed", PACKED), folder / "plain"
    shutil.copytree(QWEN3, other)
    save_file(small, one / "model.safetensors", {"format": "pt"})
    save_file({name: weight.float() for name, weight in plain.items()}, other / "model.safetensors", {"format": "pt"})
    return one, other


def logits(model: Path, folder: Path) -> np.ndarray:
    with Worker(Spec("transformers", {"dtype": "float32", "threads": 1}, timeout=300), name="reference") as worker:
        worker.hello()
        worker.load(model, None)
        return np.array(worker.score(IDS, "prefill", folder / "logits.bin").logits.open())


@pytest.mark.skipif(not HERE, reason="compressed-tensors is not installed")
def test_packed_weights_are_computed_with_as_the_file_means_them(tmp_path: Path) -> None:
    one, other = packed(tmp_path)
    found, right, whole = (logits(model, tmp_path) for model in (one, other, QWEN3))
    # weights are unpacked in the dtype of their scales, bfloat16
    assert np.abs(found - right).max() < 0.05 * np.abs(whole - right).max()
    assert np.abs(whole - right).max() > 0.5, "rounding to 4 bits must be seen, else nothing is proven"


@pytest.mark.skipif(HERE, reason="compressed-tensors is installed")
def test_packed_weights_without_the_package_say_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="which is not installed") as caught:
        read_config(copied(tmp_path / "packed", PACKED))
    assert str(caught.value.field).endswith("config.json: quantization_config")
    assert caught.value.remedy.startswith("pip install compressed-tensors")


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_a_method_with_kernels_of_its_own_is_refused_with_file_reason_and_remedy(method: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "model", {"quant_method": method, "bits": 4, "group_size": GROUP})
    with pytest.raises(Refusal, match=f"quantized by '{method}', whose own kernels") as caught:
        read_config(folder)
    assert str(caught.value.field).endswith("config.json: quantization_config")
    assert "GGUF" in caught.value.remedy
