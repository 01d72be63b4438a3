"""An engine in an environment of its own beside transformers in float32: one text, every mode, one pass each."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.jobs import environments
from logitproof.jobs.worker import Spec, Worker

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "zoo"
FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
TEXT = (ROOT / "docs/protocol.md").read_text("utf-8")[:2000]
POSITIONS = 160
"""More than the 128 from which the zoo's llama3 scales its rotation."""
ALONE = {"OMP_NUM_THREADS": "1"}


def needs(name: str) -> Any:
    """Skips tests of an engine that is not installed, saying how it would be."""
    found = environments.installed(name)
    return pytest.mark.skipif(found is None, reason=f"{name} is not installed: {environments.remedy(name)}")


@dataclass(frozen=True)
class Beside:
    """How far an engine's rows are from the reference's: mean KL divergence in nats, share of equal best tokens."""

    kl_divergence_mean: float
    top1: float


@functools.cache
def reference(family: str) -> tuple[list[int], np.ndarray]:
    """Token ids of the text and the reference's log-probabilities [T, V], float64."""
    with Worker(Spec("transformers", {"threads": 1}, timeout=300), name="transformers") as worker:
        worker.load(ZOO / family, None)
        ids = worker.tokenize(TEXT)[:POSITIONS]
        assert len(ids) == POSITIONS
        with tempfile.TemporaryDirectory() as folder:
            return ids, log_probabilities(np.array(worker.score(ids, "prefill", Path(folder, "logits")).logits.open()))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Rows normalized in float64."""
    wide = logits.astype(np.float64)
    wide = wide - wide.max(axis=-1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True)))


def beside(worker: Worker, family: str, folder: Path) -> dict[str, Beside]:
    """What a loaded engine gives in each of its modes, beside the reference."""
    ids, truth = reference(family)
    found: dict[str, Beside] = {}
    for mode in worker.hello().modes:
        rows = log_probabilities(np.array(worker.score(ids, mode, folder / mode).logits.open()))
        divergence = (np.exp(truth) * (truth - rows)).sum(axis=-1).mean()
        found[mode] = Beside(float(divergence), float((truth.argmax(-1) == rows.argmax(-1)).mean()))
    return found


def greedy_is_what_it_scores(worker: Worker, family: str, folder: Path) -> None:
    """The engine continues as its own scores of prompt and continuation say it must, with their log-probabilities."""
    ids = reference(family)[0][:24]
    made = worker.generate(ids, 6, [], folder / "generated")
    assert len(made.token_ids) == 6 and made.finish == "length"
    scored = log_probabilities(np.array(worker.score([*ids, *made.token_ids], "prefill", folder / "scored").logits.open()))
    expected = scored[len(ids) - 1 : -1]
    np.testing.assert_allclose(log_probabilities(np.array(made.logits.open())), expected, atol=1e-3)
    assert made.token_ids == expected.argmax(axis=-1).tolist()
