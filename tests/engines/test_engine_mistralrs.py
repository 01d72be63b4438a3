"""mistral.rs beside transformers, by its log-probabilities of new tokens; its refusals in its own words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from against_reference import ALONE, ZOO, log_probabilities, needs, reference

from logitproof.errors import ContractError
from logitproof.jobs.worker import Spec, Worker
from logitproof.rows.top import is_top

pytestmark = needs("mistralrs")
OLDER = {"older_config": True}
POSITIONS = 12
NOISE = 0.02
"""Nats: its arithmetic in float32 is as coarse as float16, 0.006 was the largest seen. A wrong model is 5 away."""


@pytest.fixture
def engine() -> Iterator[Worker]:
    with Worker(Spec("mistralrs", OLDER, ALONE, timeout=300), name="mistralrs") as worker:
        yield worker


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "qwen3-moe", "qwen3.5"])
def test_every_position_is_the_reference_s_within_its_noise(family: str, engine: Worker, tmp_path: Path) -> None:
    assert engine.hello().modes == ["prefill"]
    assert engine.load(ZOO / family, None).details["renamed"]
    ids, truth = (one[:POSITIONS] for one in reference(family))
    rows = np.array(engine.score(ids, "prefill", tmp_path / "rows").open())
    assert not is_top(rows) and rows.shape == truth.shape
    assert np.abs(log_probabilities(rows) - truth).max() < NOISE
    assert (rows.argmax(axis=-1) == truth.argmax(axis=-1)).all()
    made = engine.generate(ids, 3, [], tmp_path / "made")
    scored = engine.score([*ids, *made.token_ids], "prefill", tmp_path / "again").open()
    np.testing.assert_allclose(np.array(made.open()), scored[len(ids) - 1 : -1], atol=NOISE)
    assert engine.generate(ids, 3, [made.token_ids[0]], tmp_path / "made").token_ids == made.token_ids[:1]


def test_as_many_as_are_asked_for_are_its_best(tmp_path: Path) -> None:
    ids, truth = (one[:4] for one in reference("qwen3"))
    with Worker(Spec("mistralrs", {"logprobs": 20, **OLDER}, ALONE, timeout=300), name="mistralrs") as worker:
        worker.load(ZOO / "qwen3", None)
        rows = worker.score(ids, "prefill", tmp_path / "rows").open()
    assert is_top(rows) and rows.shape == (4, 20)
    for row, true in zip(rows, truth, strict=True):
        np.testing.assert_allclose(row["log_probability"], true[row["id"]], atol=NOISE)


def test_configs_of_transformers_5_are_refused_in_its_own_words() -> None:
    with (
        Worker(Spec("mistralrs", {}, ALONE, timeout=300), name="mistralrs") as worker,
        pytest.raises(ContractError, match="missing field `rope_theta`"),
    ):
        worker.load(ZOO / "qwen3", None)


def test_a_head_size_of_its_own_is_refused_in_llama(engine: Worker) -> None:
    with pytest.raises(ContractError, match=r"shape mismatch for .*q_proj.weight, expected: \[256, 256\], got: \[512, 256\]"):
        engine.load(ZOO / "llama3", None)


def test_decode_of_given_tokens_is_refused(engine: Worker, tmp_path: Path) -> None:
    engine.load(ZOO / "qwen3", None)
    with pytest.raises(ContractError, match="no decode of given tokens"):
        engine.score([1, 2], "decode", tmp_path / "rows")
    with pytest.raises(ContractError, match="outside the vocabulary of 1540"):
        engine.score([5000], "prefill", tmp_path / "rows")
