"""Faults of an engine of NumPy that shares no code with the library's bugs are named with their values and places."""

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

from _truth_engine import Engine  # noqa: E402

IDS = [np.random.default_rng(seed).integers(100, 1000, 28).tolist() for seed in (3, 4)]
IDS[0][20] = IDS[0][4]
EXCHANGED = "weights.tensors_exchanged (first = 0, second = 1, tensor = self_attn.q_proj.weight)"


def diagnosed(fault: str, mode: str = "prefill", model: str = "qwen3") -> Diagnosis:
    engine = Engine(ROOT / "zoo" / model, frozenset([fault]))
    other = [engine.score(ids) for ids in IDS] if mode == "decode" else []
    known = Known(bits=24, wrong=True, other=other)
    rows = [engine.score(ids, mode) for ids in IDS]
    return diagnose_logits(ROOT / "zoo" / model, IDS, rows, mode="decode" if mode == "decode" else "prefill", noise=known)


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("query matrices of the layers exchanged", EXCHANGED),
        ("window of 21", "attention.window_invented (window = 21)"),
        ("window of 19 in layer 1", "attention.window_invented (window = 19, only_layer = 1)"),
        ("keys one position on", "rope.keys_offset (offset = 1)"),
        ("cosines in bfloat16", "rope.low_precision.table (bits = 8)"),
        ("values in 4 bits", "kv.quantized (of = values, bits = 4, block = 0)"),
        ("repetition penalty of 1.25", "head.repetition_penalty (penalty = 1.25 ±"),
    ],
)
def test_a_fault_of_a_foreign_engine_is_named_with_its_value(fault: str, named: str) -> None:
    found = diagnosed(fault)
    assert found.verdict == "named" and str(found.mutants[0]).startswith(named)
    assert found.remainder < 1e-4


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("cached keys one position on", "rope.keys_offset_in_decode"),
        ("step 6 has the values of step 5", "kv.stale_slot (slot = 6, of = values, at_once = True)"),
    ],
)
def test_a_fault_of_a_foreign_cache_is_named(fault: str, named: str) -> None:
    found = diagnosed(fault, "decode")
    assert found.verdict == "named" and str(found.mutants[0]) == named


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ("expert 4 of layer 1 is expert 2", "moe.expert_of_another (expert = 4, partner = 2, layer = 1)"),
        ("experts 1 and 3 exchanged", "moe.two_experts_exchanged (expert = 1, partner = 3, layer = -1)"),
    ],
)
def test_experts_in_the_wrong_place_are_named(fault: str, named: str) -> None:
    found = diagnosed(fault, model="qwen3-moe")
    assert found.verdict == "named" and str(found.mutants[0]) == named
