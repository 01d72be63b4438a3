"""MLX beside transformers: right where mlx-lm is told what it asks for, wrong in the known ways where it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from against_reference import ALONE, FAMILIES, ZOO, beside, greedy_is_what_it_scores, needs, reference
from safetensors.torch import load_file, save_file

from logitproof.acid.probe import open_probes
from logitproof.engines._mlx_config import names_for_mlx
from logitproof.engines.transformers import Transformers
from logitproof.errors import ContractError
from logitproof.jobs.worker import Spec, Worker

OLDER = {"older_config": True}


@pytest.fixture
def mlx() -> Iterator[Worker]:
    with Worker(Spec("mlx", OLDER, ALONE, timeout=300), name="mlx") as worker:
        yield worker


def config_of(family: str) -> dict[str, object]:
    return json.loads((ZOO / family / "config.json").read_text("utf-8"))


def test_configs_of_transformers_5_are_said_in_the_names_for_mlx() -> None:
    llama = names_for_mlx(config_of("llama3"))
    assert llama["rope_theta"] == 500000.0 and llama["rope_scaling"]["rope_type"] == "llama3"
    assert names_for_mlx(config_of("qwen2.5")) == {"rope_theta": 1000000.0}
    assert names_for_mlx(config_of("qwen3-moe")) == {"rope_theta": 1000000.0, "num_experts": 6}
    hybrid = names_for_mlx(config_of("qwen3.5"))
    assert hybrid["model_type"] == "qwen3_5" and hybrid["full_attention_interval"] == 2


def test_an_older_config_is_left_as_it_is() -> None:
    assert names_for_mlx({"model_type": "llama", "rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2}}) == {}
    irregular = {"layer_types": ["full_attention", "linear_attention", "linear_attention"]}
    assert "full_attention_interval" not in names_for_mlx(irregular)


@needs("mlx")
@pytest.mark.parametrize("family", [one for one in FAMILIES if one != "qwen3.5"])
def test_prefill_and_decode_are_the_reference_s(family: str, mlx: Worker, tmp_path: Path) -> None:
    loaded = mlx.load(ZOO / family, None)
    found = beside(mlx, family, tmp_path)
    assert set(found) == {"prefill", "decode"} and loaded.details["renamed"]
    for one in found.values():
        assert one.kl_divergence_mean < 1e-9 and one.top1 == 1.0
    greedy_is_what_it_scores(mlx, family, tmp_path)


@needs("mlx")
def test_norms_of_qwen3_5_in_bfloat16_are_rounded_by_mlx_lm_and_right_in_float32(mlx: Worker, tmp_path: Path) -> None:
    mlx.load(ZOO / "qwen3.5", None)
    rounded = beside(mlx, "qwen3.5", tmp_path)["prefill"]
    assert 1e-6 < rounded.kl_divergence_mean < 1e-4, "if it is less, mlx-lm has mended it: see docs/findings.md"
    wide = shutil.copytree(ZOO / "qwen3.5", tmp_path / "wide")
    save_file({name: one.float() for name, one in load_file(wide / "model.safetensors").items()}, wide / "model.safetensors")
    mlx.load(wide, None)
    for one in beside(mlx, "qwen3.5", tmp_path).values():
        assert one.kl_divergence_mean < 1e-9 and one.top1 == 1.0
    greedy_is_what_it_scores(mlx, "qwen3.5", tmp_path)


@needs("mlx")
def test_mlx_lm_is_a_falcon_h1_without_two_factors_and_to_the_last_digit(mlx: Worker, tmp_path: Path) -> None:
    """That of the keys, and that of what V reads: without both the reference is mlx-lm (docs/findings.md)."""
    probe = open_probes(["falcon-h1"])[0]
    ids, lost = list(probe.case("text").token_ids[:40]), Transformers(mutation="scan.factor_of_keys_missing")
    mlx.load(probe.folder, None)
    rows = np.array(mlx.score(ids, "prefill", tmp_path / "rows").logits.open())
    lost.load(probe.folder)
    assert np.abs(lost.score(ids, "prefill").logits - rows).max() > 1
    model = lost.reference.model
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.data /= model.config.attention_in_multiplier
    assert np.abs(lost.score(ids, "prefill").logits - rows).max() < 1e-4


@needs("mlx")
def test_rope_parameters_alone_are_not_read_and_it_is_recorded(tmp_path: Path) -> None:
    with Worker(Spec("mlx", {}, ALONE, timeout=300), name="mlx") as worker:
        loaded = worker.load(ZOO / "llama3", None)
        assert "rope_parameters" in loaded.details["not_read"] and loaded.details["renamed"] == {}
        assert beside(worker, "llama3", tmp_path)["prefill"].kl_divergence_mean > 0.1
        with pytest.raises(ContractError, match="missing 2 required positional arguments: 'num_experts' and 'rope_theta'"):
            worker.load(ZOO / "qwen3-moe", None)
        with pytest.raises(ContractError, match="Model type qwen3_5_text not supported"):
            worker.load(ZOO / "qwen3.5", None)
        with pytest.raises(ContractError, match="no GGUF"):
            worker.load(tmp_path, None)


@needs("mlx")
@pytest.mark.parametrize("family", ["llama3", "qwen3-moe"])
def test_what_is_inside_is_what_is_inside_the_reference(family: str, mlx: Worker, tmp_path: Path) -> None:
    ids = reference(family)[0][:12]
    mlx.load(ZOO / family, None)
    (tmp_path / "mlx").mkdir()
    found = mlx.taps(ids, "prefill", ["*"], tmp_path / "mlx")
    with Worker(Spec("transformers", {"threads": 1}, timeout=300), name="transformers") as worker:
        worker.load(ZOO / family, None)
        (tmp_path / "hf").mkdir()
        truth = worker.taps(ids, "prefill", list(found), tmp_path / "hf")
    assert set(found) == set(truth) and len(found) > 2 * 12
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.open(), truth[name].open(), atol=1e-4, err_msg=name)


@needs("mlx")
def test_an_adapter_in_mlx_lm_s_own_format_is_applied(mlx: Worker, tmp_path: Path) -> None:
    import torch

    generator, adapter = torch.Generator().manual_seed(3), tmp_path / "adapter"
    adapter.mkdir()
    stem = "model.layers.{}.self_attn.q_proj.lora_{}"
    halves = {stem.format(layer, "a"): torch.randn(256, 4, generator=generator) / 16 for layer in range(2)}
    halves |= {stem.format(layer, "b"): torch.randn(4, 768, generator=generator) / 4 for layer in range(2)}
    save_file(halves, adapter / "adapters.safetensors")
    settings = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps({"num_layers": 2, "lora_parameters": settings}))
    merged = shutil.copytree(ZOO / "qwen3", tmp_path / "merged")
    weights = {name: one.float() for name, one in load_file(merged / "model.safetensors").items()}
    for layer in range(2):
        delta = halves[stem.format(layer, "a")] @ halves[stem.format(layer, "b")]
        weights[f"model.layers.{layer}.self_attn.q_proj.weight"] += 2.0 * delta.T
    save_file(weights, merged / "model.safetensors")

    ids = reference("qwen3")[0][:24]
    rows = {}
    for name, model, options in (("base", ZOO / "qwen3", {}), ("merged", merged, {}), ("beside", ZOO / "qwen3", adapter)):
        chosen = {**OLDER, "adapter": str(options)} if options else OLDER
        with Worker(Spec("mlx", chosen, ALONE, timeout=300), name="mlx") as worker:
            worker.load(model, None)
            rows[name] = np.array(worker.score(ids, "prefill", tmp_path / "rows").logits.open())
    assert np.abs(rows["merged"] - rows["base"]).max() > 0.1, "an adapter that changes nothing would prove nothing"
    assert np.abs(rows["merged"] - rows["beside"]).max() < 1e-3
