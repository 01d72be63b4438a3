"""What an engine with activations in blocks may err is measured on the model that it runs, not told by a number of bits."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from logitproof.contract.arithmetic import arithmetic_of
from logitproof.diagnosis import trial as trials
from logitproof.diagnosis.diagnose import Asked, diagnose_cells
from logitproof.diagnosis.found import Known
from logitproof.diagnosis.noise import floor_of
from logitproof.diagnosis.trial import Trial
from logitproof.errors import Refusal
from logitproof.jobs.address import parse_address
from logitproof.jobs.session import Session
from logitproof.reference.planted import Planted

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "zoo/qwen3"
TEXT = "The lighthouse stood at the end of the pier, and every evening at six the keeper climbed its 129 steps."
ARITHMETIC = arithmetic_of("llamacpp", {})
KNOWN = Known(source="arithmetic", wrong=True, bits=8, arithmetic=ARITHMETIC)


def engine_rows(file: Path) -> tuple[list[int], np.ndarray]:
    side = parse_address(f"llamacpp:{file}?config={MODEL}")
    with Session(side.spec, "l") as session, tempfile.TemporaryDirectory() as scratch:
        worker, _ = session.loaded(side.model, side.config)
        ids = worker.tokenize(TEXT)
        return ids, np.array(worker.score(ids, "prefill", Path(scratch) / "rows").logits.open(), np.float32)


@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_K_M", "F16"])
def test_the_noise_of_a_file_is_of_the_size_that_the_engine_errs(quantization: str) -> None:
    file = ROOT / f"zoo/gguf/qwen3-{quantization}.gguf"
    ids, rows = engine_rows(file)
    planted = Planted.opened(MODEL, [ids], file)
    trial = Trial(planted, [rows], "prefill")
    floor = floor_of(trial, KNOWN)
    assert floor.source == "arithmetic"
    assert 0.5 < floor.level / trial.distance() < 2.0
    (found,) = diagnose_cells(planted, [Asked([rows], "prefill", KNOWN)])
    assert found.verdict == "below noise" and found.names == []


def test_a_bug_is_named_beside_that_noise() -> None:
    file = ROOT / "zoo/gguf/qwen3-Q4_K_M.gguf"
    ids, rows = engine_rows(file)
    planted = Planted.opened(MODEL, [ids], file)
    noise = rows - planted.logits()[0]
    wrong = planted.logits([("weights.gate_up_swapped", {})])[0] + noise
    (found,) = diagnose_cells(planted, [Asked([wrong], "prefill", KNOWN)])
    assert found.names == ["weights.gate_up_swapped"]


def test_weights_that_are_of_no_file_have_no_blocks() -> None:
    planted = Planted.opened(MODEL, [[1, 2, 3]])
    assert ARITHMETIC is not None
    with pytest.raises(Refusal, match="of no GGUF file"), planted.imitating(ARITHMETIC):
        pass
    rows = planted.logits()[0]
    assert floor_of(Trial(planted, [rows], "prefill"), KNOWN).source == "arithmetic"


def test_the_model_errs_no_more_when_the_noise_has_ended() -> None:
    file = ROOT / "zoo/gguf/qwen3-Q8_0.gguf"
    planted = Planted.opened(MODEL, [[5, 6, 7, 8]], file)
    assert ARITHMETIC is not None
    right = planted.logits()[0]
    with planted.imitating(ARITHMETIC):
        noisy = planted.logits()[0]
    assert np.abs(noisy - right).max() > 1e-4
    np.testing.assert_array_equal(planted.logits()[0], right)


def test_candidates_of_one_model_are_screened_as_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model's candidates look at different numbers of positions: one pass serves all of them."""
    monkeypatch.setattr(trials, "SMALL", 0)
    planted = Planted.opened(MODEL, [list(range(3, 70))])
    bugs = ("rope.base", "weights.gate_up_swapped", "attention.window_invented")
    wrong = [planted.logits([(name, {})])[0] for name in bugs]
    glances = {Trial(planted, [rows], "prefill").glanced for rows in wrong}
    together = list(diagnose_cells(planted, [Asked([rows]) for rows in wrong]))
    assert [found.names for found in together] == [[name] for name in bugs]
    assert len(glances) > 1
