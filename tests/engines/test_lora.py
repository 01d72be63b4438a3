"""An adapter changes the logits, the same way in both engines, merged or not; an ignored one is seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from logitproof.errors import ContractError, ModelError
from logitproof.gguf.adapter import adapter_to_gguf
from logitproof.jobs.worker import Spec, Worker
from logitproof.weights.adapter import read_adapter

ROOT = Path(__file__).parents[2]
IDS = [5, 88, 301, 42, 7, 19, 250, 333]


def make_adapter(folder: Path, family: str, *, leave_out: str = "") -> Path:
    """A random adapter of q, v and down projections, rank 4."""
    from safetensors import safe_open

    folder.mkdir()
    generator, tensors = torch.Generator().manual_seed(3), {}
    with safe_open(ROOT / "zoo" / family / "model.safetensors", "pt") as base:
        for name in base.keys():  # noqa: SIM118
            if name.endswith(("q_proj.weight", "v_proj.weight", "down_proj.weight")):
                rows, columns = base.get_slice(name).get_shape()
                stem = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{stem}.lora_A.weight"] = torch.randn(4, columns, generator=generator) * columns**-0.5
                tensors[f"{stem}.lora_B.weight"] = torch.randn(rows, 4, generator=generator) * 0.05
    tensors = {name: one for name, one in tensors.items() if not leave_out or not name.endswith(leave_out)}
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    return folder


def logits(tmp_path: Path, engine: str, model: Path, family: str, **options: object) -> np.ndarray:
    with Worker(Spec(engine, {"threads": 1, **options}, timeout=120), name=engine) as worker:
        worker.hello()
        worker.load(model, ROOT / "zoo" / family)
        return np.array(worker.score(IDS, "prefill", tmp_path / "logits.bin").logits.open())


@pytest.mark.parametrize("family", ["qwen3", "llama3"])
def test_both_engines_apply_it_alike_merged_or_not(family: str, tmp_path: Path) -> None:
    folder, gguf = make_adapter(tmp_path / "adapter", family), ROOT / "zoo/gguf" / f"{family}-F32.gguf"
    file = adapter_to_gguf(folder, ROOT / "zoo" / family, tmp_path / "adapter.gguf")
    base, zoo = ROOT / "zoo" / family, {"adapter": str(folder)}
    plain = logits(tmp_path, "transformers", base, family)
    beside = logits(tmp_path, "transformers", base, family, **zoo)
    merged = logits(tmp_path, "transformers", base, family, **zoo, merge_adapter=True)
    other = logits(tmp_path, "llamacpp", gguf, family, adapter=str(file))
    assert np.abs(beside - plain).max() > 0.1, "an adapter that changes nothing would prove nothing"
    assert np.abs(merged - beside).max() < 1e-3
    assert np.abs(other - beside).max() < 1e-3


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "llama3")
    with pytest.raises(ContractError, match="does not have in that shape"):
        logits(tmp_path, "transformers", ROOT / "zoo/qwen3", "qwen3", adapter=str(folder))


def test_half_a_pair_and_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lora_B"):
        read_adapter(make_adapter(tmp_path / "half", "qwen3", leave_out="layers.0.self_attn.q_proj.lora_B.weight"))
    folder = make_adapter(tmp_path / "dora", "qwen3")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 8, "use_dora": True}))
    with pytest.raises(ContractError, match="no plain LoRA"):
        read_adapter(folder)


def test_a_missing_adapter_of_llama_cpp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no such file"):
        logits(tmp_path, "llamacpp", ROOT / "zoo/gguf/qwen3-F32.gguf", "qwen3", adapter="missing.gguf")
