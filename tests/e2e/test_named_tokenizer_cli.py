"""A dump of a trained model's logits, without a word of text, is the reference of a suite of texts."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "zoo/qwen3"
TEXT = "The lighthouse stood at the end of the pier."
BASIS = "float32 against float64 of one model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A contract whose reference is a dump with token ids and rows."""
    folder = tmp_path_factory.mktemp("named")
    with Session(Spec("transformers", {"dtype": "float64"}), "t") as session, tempfile.TemporaryDirectory() as scratch:
        worker, _ = session.loaded(MODEL, None)
        ids = worker.tokenize(TEXT)
        rows = worker.score(ids, "prefill", Path(scratch) / "rows").logits.open()
        np.savez(folder / "rows.npz", logits=np.asarray(rows, np.float32), token_ids=np.array(ids))
    suite = {"suite": "s", "max_new_tokens": 0, "prompts": [{"id": "pier", "text": TEXT}]}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    return folder


def ran(folder: Path, command: str, tokenizer: Path | None, *more: str) -> subprocess.CompletedProcess[str]:
    reference: dict[str, Any] = {"engine": "dump", "options": {"path": "rows.npz"}}
    contract = {
        "contract": "named",
        "reference": {**reference, **({"tokenizer": str(tokenizer)} if tokenizer else {})},
        "candidates": {"hf": {"engine": "transformers"}},
        "models": {"qwen3": str(MODEL)},
        "matrix": {"mode": ["prefill", "decode"]},
        "suites": ["suite.yaml"],
        "bands": [{"match": 1e-3, "wrong": 2e-3, "basis": BASIS}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}],
        "error_bar": {"vary": []},
    }
    (folder / "named.parity.yaml").write_text(yaml.safe_dump(contract))
    argv = [sys.executable, "-m", "logitproof", command, "named.parity.yaml", *more]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)


def test_the_model_passes_by_its_own_tokenizer(folder: Path) -> None:
    done = ran(folder, "check", MODEL, "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    cells = json.loads(done.stdout)["cells"]
    assert [cell["status"] for cell in cells] == ["MATCH", "MATCH"]


def test_without_it_nothing_is_compared(folder: Path) -> None:
    done = ran(folder, "check", None)
    assert done.returncode == 2 and "holds no prompt" in done.stdout + done.stderr


def test_lint_tells_the_tokenizer_of_another_model(folder: Path, tmp_path: Path) -> None:
    own = json.loads((MODEL / "tokenizer.json").read_text("utf-8"))
    own["added_tokens"].append({**own["added_tokens"][-1], "id": 100_000, "content": "<|far|>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(own), "utf-8")
    assert "LP072" not in ran(folder, "lint", MODEL).stdout
    told = ran(folder, "lint", tmp_path)
    assert "LP072 reference.tokenizer" in told.stdout and "100,001 tokens" in told.stdout, told.stdout
    assert "LP070 reference.tokenizer" in ran(folder, "lint", tmp_path / "gone").stdout
