"""A published GGUF is what its publisher made, and llama.cpp against itself is the same model on it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_what_was_unpacked_is_what_is_pinned(smollm2: Path, gemma3: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_real", ROOT / "zoo/make_real.py")
    assert spec and spec.loader
    make_real = importlib.util.module_from_spec(spec)
    sys.modules["make_real"] = make_real
    spec.loader.exec_module(make_real)
    for path in (smollm2, gemma3):
        (model,) = (model for model in make_real.MODELS if model.file == path.name)
        assert make_real.make(model, path.parent) == path


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_a_decode_is_its_own_prefill_on_a_published_file(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model: Path = request.getfixturevalue(name)
    suite = {"suite": "s", "max_new_tokens": 4, "prompts": [{"id": "paris", "text": "The capital of France is"}]}
    contract = {
        "contract": "self",
        "reference": {"engine": "llamacpp", "weights": "candidate"},
        "candidates": {"llama": {"engine": "llamacpp"}},
        "models": {name: {"original": str(model), "published": str(model)}},
        "matrix": {"quantization": ["published"], "mode": ["self"]},
        "suites": ["suite.yaml"],
        "bands": [{"match": 0.5, "wrong": 5.0, "basis": "4-bit weights: decode and prefill have kernels of their own"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.01, "basis": "far below any bug"}],
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    (tmp_path / "self.parity.yaml").write_text(yaml.safe_dump(contract))
    argv = [sys.executable, "-m", "logitproof", "check", "self.parity.yaml", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["status"] == "MATCH" and cell["counts"]["MATCH"] >= 8
