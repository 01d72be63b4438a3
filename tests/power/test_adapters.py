"""Bugs of a LoRA adapter, planted in the model that PEFT itself makes, are named with the scale, the layer and the matrix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
import yaml

from logitproof import catalog
from logitproof.contract.opened import open_contract
from logitproof.diagnosis.diagnose import Asked, diagnose_cells
from logitproof.diagnosis.found import Diagnosis, Known
from logitproof.jobs.sides import adapter_of
from logitproof.reference.planted import Planted

MODEL = Path(__file__).parents[2] / "zoo/qwen3"
IDS = [np.random.default_rng(seed).integers(100, 1000, 20).tolist() for seed in (3, 4)]
RANK, ALPHA = 8, 24
Bug = Callable[[str, float], float]
BUGS: dict[str, tuple[Bug, str]] = {
    "not loaded": (lambda name, scale: 0.0, "weights.adapter_missing"),
    "twice": (lambda name, scale: 2 * scale, "weights.adapter_factor (factor = 2)"),
    "two thirds of it": (lambda name, scale: 2 * scale / 3, "weights.adapter_factor (factor = 0.66"),
    "alpha alone": (lambda name, scale: ALPHA, "weights.adapter_scale (times = r)"),
    "rslora invented": (lambda name, scale: ALPHA / RANK**0.5, "weights.adapter_scale (times = sqrt(r))"),
    "no scale": (lambda name, scale: 1.0, "weights.adapter_scale (times = 1 / scale)"),
    "layer 1 left out": (lambda name, scale: scale * (".layers.1." not in name), "weights.adapter_left_out (layer = 1)"),
    "values left out": (
        lambda name, scale: scale * ("v_proj" not in name),
        "weights.adapter_left_out (layer = -1, matrix = v_proj)",
    ),
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter that PEFT has saved."""
    folder = tmp_path_factory.mktemp("adapter")
    adapted().save_pretrained(folder)
    return folder


def adapted(bug: Bug = lambda name, scale: scale) -> Any:
    """PEFT's model with a bug in the scale of its pairs."""
    torch.manual_seed(0)
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    base = transformers.AutoModelForCausalLM.from_pretrained(MODEL, trust_remote_code=False, **options)
    targets = ["q_proj", "v_proj", "down_proj"]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, init_lora_weights=False)
    model = peft.get_peft_model(base, config).eval()
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.Linear):
            module.scaling["default"] = bug(name, module.scaling["default"])
    return model


@torch.inference_mode()
def diagnosed(adapter: Path, bug: Bug) -> Diagnosis:
    model = adapted(bug)
    rows = [model(torch.tensor([ids]), use_cache=False).logits[0].numpy() for ids in IDS]
    planted = Planted.opened(MODEL, IDS, adapter=adapter)
    (found,) = diagnose_cells(planted, [Asked(rows, "prefill", Known(bits=24, wrong=True))])
    return found


@pytest.mark.parametrize("name", BUGS)
def test_what_is_wrong_with_an_adapter_is_named(adapter: Path, name: str) -> None:
    bug, named = BUGS[name]
    found = diagnosed(adapter, bug)
    # one layer left out is also an adapter that is missing in that layer alone
    assert found.verdict in ("named", "ambiguous") and all(name.startswith("weights.adapter") for name in found.names)
    assert any(str(mutant).startswith(named) for mutant in found.mutants[: found.named]) and found.remainder < 1e-4


def test_every_bug_of_an_adapter_is_planted_here_and_applies_to_no_model_without_one() -> None:
    entries = catalog.entries("mutations")
    bugs = {name for name, entry in entries.items() if entry.record.get("needs") == "adapter"}
    assert bugs == {named.partition(" ")[0] for _, named in BUGS.values()}
    planted = Planted.opened(MODEL, IDS)
    assert not any(catalog.load("mutations", name)().applies(planted.config) for name in bugs)


def test_a_run_whose_reference_has_an_adapter_is_diagnosed_with_it(adapter: Path, tmp_path: Path) -> None:
    contract = {
        "contract": "adapter",
        "reference": {"engine": "transformers", "options": {"adapter": "adapter"}},
        "candidates": {"bare": {"engine": "transformers", "options": {"threads": 1}}},
        "models": {"m": str(MODEL)},
        "suites": ["suite.yaml"],
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": "what float32 leaves is far below it"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": "what float32 leaves is far below it"}],
    }
    (tmp_path / "adapter").symlink_to(adapter)
    prompts = [{"id": f"p{number}", "token_ids": ids} for number, ids in enumerate(IDS)]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"suite": "s", "max_new_tokens": 0, "prompts": prompts}))
    (tmp_path / "c.parity.yaml").write_text(yaml.safe_dump(contract))
    folder = adapter_of(open_contract(tmp_path / "c.parity.yaml"))
    assert folder is not None and folder.resolve() == adapter.resolve()
    contract["reference"] = {"engine": "transformers"}
    (tmp_path / "c.parity.yaml").write_text(yaml.safe_dump(contract))
    assert adapter_of(open_contract(tmp_path / "c.parity.yaml")) is None
