"""A fault that is smaller than the noise of its engine is named by its direction, and a right engine of that noise is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from planted import one_thread  # noqa: F401 -- a fixture

from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.found import Diagnosis, Known

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _truth_engine import Engine, _narrow  # noqa: E402

IDS = [np.random.default_rng(seed).integers(100, 1000, 40).tolist() for seed in (3, 4)]


class Narrow(Engine):
    """The bench's engine, which rounds what every block and the head give to four significant bits."""

    def _odd(self, x: np.ndarray) -> np.ndarray:
        return _narrow(x, 24 - 4)


def diagnosed(*faults: str) -> Diagnosis:
    engine = Narrow(ROOT / "zoo/qwen3", frozenset(faults))
    rows = [engine.score(ids) for ids in IDS]
    return diagnose_logits(ROOT / "zoo/qwen3", IDS, rows, noise=Known(bits=4, wrong=True))


def test_a_fault_no_larger_than_the_noise_is_named_by_its_direction() -> None:
    found = diagnosed("last norm takes the mean off")
    assert found.to_reference < found.noise, "by its size it is noise"
    assert (found.verdict, found.names) == ("named", ["norm.layer_norm"])
    (seen,) = found.findings
    assert seen.kind == "direction" and seen.evidence["slope"] == pytest.approx(1.0, abs=0.1)


def test_a_right_engine_of_that_noise_has_no_direction() -> None:
    found = diagnosed()
    assert (found.verdict, found.names) == ("below noise", [])
    assert not any(finding.kind == "direction" for finding in found.findings)


def test_a_fault_that_is_like_a_known_one_is_not_named_as_that() -> None:
    found = diagnosed("activation of 1.2 times the gate")
    assert (found.verdict, found.names) == ("below noise", [])
    assert "no noise has a direction" in found.findings[0].text
