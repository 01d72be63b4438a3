"""An adapter changes the logits, the same way in both engines, merged or not; an ignored one is seen."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from logitproof.contract.contract import EngineUse
from logitproof.errors import ContractError, ModelError
from logitproof.gguf.adapter import adapter_to_gguf, read_gguf_adapter
from logitproof.jobs.worker import Spec, Worker
from logitproof.preflight import Finding
from logitproof.preflight.adapters import Adapters
from logitproof.weights.adapter import read_adapter

ROOT = Path(__file__).parents[2]
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
IDS = [5, 88, 301, 42, 7, 19, 250, 333]


def make_adapter(folder: Path, family: str, *, leave_out: str = "", **keys: Any) -> Path:
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
    (folder / "adapter_config.json").write_text(json.dumps({**LORA, **keys}))
    return folder


def change_config(folder: Path, **keys: Any) -> None:
    """Other keys in an adapter's config."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


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
    with pytest.raises(ContractError, match="use_dora"):
        read_adapter(folder)


KEYS: list[dict[str, Any]] = [
    {"alpha_pattern": {"layers.0.self_attn.q_proj": 64}},
    {"use_rslora": True},
    {"use_rslora": True, "alpha_pattern": {r".*\.1\..*down_proj": 3, "q_proj": 5}},
    {"rank_pattern": {"q_proj": 4}, "r": 16},
    {"layers_to_transform": [0, 1]},
    {"lora_dropout": 0.3, "target_modules": ["q_proj", "v_proj", "down_proj"]},
]


@pytest.mark.parametrize("keys", KEYS, ids=lambda keys: "-".join(keys))
def test_the_scale_of_every_matrix_is_the_one_that_peft_gives_it(keys: dict[str, Any], tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "qwen3", **{"rank_pattern": {"v_proj": 4, "down_proj": 4}} | keys)
    if "rank_pattern" in keys:
        change_config(folder, rank_pattern={"q_proj": 4, "v_proj": 4, "down_proj": 4})
    pairs = read_adapter(folder)
    base = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "zoo/qwen3", dtype=torch.float32)
    before = {name: weight.detach().clone() for name, weight in base.named_parameters()}
    merged = peft.PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    after = dict(merged.named_parameters())
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(pairs)
    for name, pair in pairs.items():
        assert np.allclose((after[name] - before[name]).detach().numpy(), pair.delta, atol=1e-6), name
    file = adapter_to_gguf(folder, ROOT / "zoo/qwen3", tmp_path / "a.gguf")
    for name, pair in read_gguf_adapter(file, ROOT / "zoo/qwen3").items():
        assert np.allclose(pair.delta, pairs[name].delta, atol=1e-6), name


REFUSED: list[dict[str, Any]] = [
    {"modules_to_save": ["norm"]},
    {"use_dora": True},
    {"fan_in_fan_out": True},
    {"target_parameters": ["mlp.experts.gate_up_proj"]},
    {"bias": "all"},
    {"lora_bias": True},
    {"trainable_token_indices": [3]},
    {"layer_replication": [[0, 2]]},
    {"init_lora_weights": "pissa"},
    {"peft_type": "IA3"},
    {"a_key_of_a_later_peft": 2},
]


@pytest.mark.parametrize("keys", REFUSED, ids=lambda keys: next(iter(keys)))
def test_a_key_that_peft_acts_on_and_this_does_not_is_refused_by_name(keys: dict[str, Any], tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "qwen3", **keys)
    with pytest.raises(ContractError, match=next(iter(keys))):
        read_adapter(folder)


@pytest.mark.parametrize("extra", ["model.embed_tokens.lora_embedding_A", "model.norm.weight", "model.layers.0.x.bias"])
def test_a_tensor_beside_the_pairs_is_refused_by_name(extra: str, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "adapter", "qwen3")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({**tensors, f"base_model.model.{extra}": torch.ones(4, 4)}, folder / "adapter_model.safetensors")
    with pytest.raises(ContractError, match=extra):
        read_adapter(folder)


@pytest.mark.parametrize("keys", [{"target_modules": ["q_proj", "v_proj"]}, {"exclude_modules": ["down_proj"]}])
def test_matrices_that_peft_would_not_apply_are_refused(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"leaves out model\.layers\.0\.mlp\.down_proj"):
        read_adapter(make_adapter(tmp_path / "adapter", "qwen3", **keys))


def test_a_rank_that_the_matrices_do_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="says rank 8"):
        read_adapter(make_adapter(tmp_path / "adapter", "qwen3", r=8))


def test_preflight_compares_the_scale_of_every_matrix(tmp_path: Path) -> None:
    right = make_adapter(tmp_path / "right", "llama3", use_rslora=True)
    ignored = make_adapter(tmp_path / "ignored", "llama3")
    for adapter, wrong in ((right, []), (ignored, ["PF406"])):
        file = adapter_to_gguf(adapter, ROOT / "zoo/llama3", tmp_path / f"{adapter.name}.gguf")
        setup = SimpleNamespace(
            reference_use=EngineUse(engine="transformers", options={"adapter": str(right)}),
            candidate_use=EngineUse(engine="llamacpp", options={"adapter": str(file)}),
            original=SimpleNamespace(path=ROOT / "zoo/llama3"),
            candidate_name="lc",
        )
        seen = list(Adapters().examine(setup))  # type: ignore[arg-type]
        findings = [found for found in seen if isinstance(found, Finding)]
        assert [found.code for found in findings] == wrong
        assert any(getattr(found, "name", "") == "adapter scales" and "4 in" in found.reference for found in seen)
        if findings:
            assert (findings[0].reference, findings[0].candidate) == ("4", "2")


def test_a_missing_adapter_of_llama_cpp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no such file"):
        logits(tmp_path, "llamacpp", ROOT / "zoo/gguf/qwen3-F32.gguf", "qwen3", adapter="missing.gguf")
