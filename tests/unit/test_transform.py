"""Rows that are no logits, or not those that were asked for, are recognized by what they are; healthy rows never are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitproof.rows.probability import softmax
from logitproof.rows.transform import between, by_themselves

T, V = 9, 200
RIGHT = np.random.default_rng(5).normal(size=(T, V)) * np.linspace(2, 5, T)[:, None]
OTHER = np.random.default_rng(6).normal(size=(T + 3, V)) * 3
LOGS = RIGHT - np.log(np.exp(RIGHT).sum(axis=1, keepdims=True))
OWN: dict[str, np.ndarray] = {
    "probabilities": np.exp(LOGS),
    "percentages": 100 * np.exp(LOGS),
    "log-probabilities to base 2": LOGS / np.log(2),
    "log-probabilities to base 10": LOGS / np.log(10),
    "log-probabilities without their sign (surprisals)": -LOGS,
    "byte-swapped": RIGHT.astype(np.float32).byteswap().astype(np.float32),
}
PAIRS: dict[str, np.ndarray] = {
    "transposed": np.ascontiguousarray(RIGHT.T).reshape(T, V),
    "shifted by +1": np.vstack([RIGHT[1:], RIGHT[-1:]]),
    "shifted by -1": np.vstack([RIGHT[:1], RIGHT[:-1]]),
    "shifted by +2": np.vstack([RIGHT[2:], RIGHT[-2:]]),
    "reversed": RIGHT[::-1],
    "scaled": 1.7 * RIGHT + 4,
    "scaled by row": RIGHT * np.linspace(0.5, 2, T)[:, None],
    "exponentials": np.exp(RIGHT - 3),
    "the sigmoid": 1 / (1 + np.exp(-RIGHT)),
    "tanh": np.tanh(RIGHT),
    "max(z, 0)": np.maximum(RIGHT, 0),
    "the absolute value": np.abs(RIGHT),
    "nearly flat": 1e-4 * np.random.default_rng(7).normal(size=RIGHT.shape),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_recognized_by_themselves(name: str, dtype: Any) -> None:
    rows = OWN[name] if name == "byte-swapped" else OWN[name].astype(dtype)
    found = by_themselves(rows)
    assert found is not None and found.name == name and found.text and found.remedy


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_rows_are_recognized_beside_the_right_ones(name: str, noise: float) -> None:
    rows = PAIRS[name] * (1 + noise * np.random.default_rng(8).normal(size=RIGHT.shape))
    found = between(RIGHT, rows.astype(np.float32))
    assert found is not None and found.name == name and found.text and found.remedy


def test_what_a_squashed_logit_is_tells_its_bound() -> None:
    assert "cut off at -2 and 2" in str(between(RIGHT, np.clip(RIGHT, -2, 2)))
    assert "tanh(z / 6)" in str(between(RIGHT, 6 * np.tanh(RIGHT / 6))) or "cap" in str(between(RIGHT, 6 * np.tanh(RIGHT / 6)))
    assert "negated" in str(between(RIGHT, -RIGHT))


def test_rows_of_another_prompt_name_it() -> None:
    found = between(RIGHT, OTHER[:T], {"prompt far": lambda: OTHER[::-1], "prompt near": lambda: OTHER})
    assert found is not None and "the rows of prompt near" in found.text and found.kind == "prompt"


@pytest.mark.parametrize("masked", [1, 50])
def test_a_masked_part_of_the_vocabulary_hides_nothing(masked: int) -> None:
    right, given_ = RIGHT.copy(), 1.5 * RIGHT
    right[:, -masked:] = given_[:, -masked:] = -np.inf
    found = between(right, given_)
    assert found is not None and found.name == "scaled"


HEALTHY: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "a rounding": lambda random: RIGHT * (1 + 1e-3 * random.normal(size=RIGHT.shape)),
    "noise": lambda random: RIGHT + 0.3 * random.normal(size=RIGHT.shape),
    "another model": lambda random: 3 * random.normal(size=RIGHT.shape),
    "log-probabilities": lambda random: LOGS,
    "a constant more": lambda random: RIGHT + random.normal(size=(T, 1)),
    "one row off": lambda random: np.vstack([RIGHT[:-1], RIGHT[:1]]),
}


@pytest.mark.parametrize("name", HEALTHY)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_no_transform_is_none(name: str, seed: int) -> None:
    rows = HEALTHY[name](np.random.default_rng(seed))
    assert by_themselves(rows) is None and between(RIGHT, rows, {"prompt other": lambda: OTHER}) is None


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 30), st.integers(1, 12), st.integers(2, 60))
def test_logits_of_any_scale_are_logits(seed: int, scale: float, count: int, size: int) -> None:
    rows = scale * np.random.default_rng(seed).normal(size=(count, size))
    assert by_themselves(rows) is None and by_themselves(rows.astype(np.float32)) is None


@pytest.mark.parametrize(
    "rows",
    [np.empty((0, 5)), np.empty((5, 0)), np.zeros((3, 1)), np.full((3, 5), np.nan), np.full((3, 5), -np.inf), np.zeros(4)],
)
def test_rows_that_say_nothing_are_no_transform(rows: np.ndarray) -> None:
    assert by_themselves(rows) is None and between(rows, rows) is None


def test_a_long_file_is_looked_at_a_few_rows_at_a_time(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 4096)).astype(np.float32)
    for name, made in (("logits", rows), ("probabilities", softmax(rows).astype(np.float32))):
        made.tofile(tmp_path / name)
        mapped = np.memmap(tmp_path / name, np.float32, "r", shape=rows.shape)
        by_themselves(mapped[:4])  # what is imported counts not
        tracemalloc.start()
        transform = by_themselves(mapped)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (transform.name if transform else "logits") == name
        assert peak < rows.nbytes / 2  # in float64 all of it is twice the file


def test_rows_are_probabilities_only_if_all_of_them_are() -> None:
    rows = softmax(np.random.default_rng(0).normal(size=(200, 5000)))
    assert by_themselves(rows) is not None
    rows[150, 7] -= 0.5
    assert by_themselves(rows) is None


MIXED = np.random.default_rng(3).permutation(V)
COLUMNS: dict[str, tuple[np.ndarray, str]] = {
    "sorted down": (np.sort(RIGHT, axis=1)[:, ::-1], "sorted, the largest first"),
    "sorted up": (np.sort(RIGHT, axis=1), "sorted, the smallest first"),
    "reversed": (RIGHT[:, ::-1], "the last of the vocabulary comes first"),
    "rolled": (np.roll(RIGHT, -7, axis=1), "moved by -7 columns"),
    "exchanged": (RIGHT[:, MIXED], "they are exchanged"),
    "one column late": (np.hstack([OTHER[:T, :1], RIGHT[:, :-1]]), "column i is the reference's column i-1"),
    "two columns early": (np.hstack([RIGHT[:, 2:], OTHER[:T, :2]]), "column i is the reference's column i+2"),
    "each row otherwise": (np.stack([np.roll(row, 3 * n + 1) for n, row in enumerate(RIGHT)]), "another one in each row"),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_right_numbers_in_the_wrong_columns_are_said_to_be_that(name: str, dtype: Any) -> None:
    rows, order = COLUMNS[name]
    transform = between(RIGHT, (rows + 3.0).astype(dtype))
    assert transform is not None and transform.kind == "curve", "a bug of the engine may do it: it stays WRONG"
    assert order in transform.text and "token id i" in transform.remedy


@pytest.mark.parametrize("noise", [1e-3, 1e-2])
def test_numbers_that_are_only_like_the_right_ones_are_in_no_other_order(noise: float) -> None:
    near = RIGHT[:, MIXED] + noise * np.random.default_rng(8).normal(size=RIGHT.shape)
    assert between(RIGHT, near) is None and between(RIGHT, OTHER[:T]) is None
