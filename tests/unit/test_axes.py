"""Where inside a tensor its error lies: laws of the parts of an error, without any engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from logitproof.localization.axes import Axis, axes
from logitproof.localization.compounding import compounding
from logitproof.localization.heads import heads_of, turns
from logitproof.localization.localize import localize

T, H, K, D = 20, 6, 2, 8
Q, QR, KR = "layers.0.attn.q", "layers.0.attn.q_rope", "layers.0.attn.k_rope"
Arrays = dict[str, np.ndarray]


def rotated(x: np.ndarray, frequencies: np.ndarray, size: int = D) -> np.ndarray:
    """[T, H, D] whose first `size` entries are turned in halves."""
    angles = np.arange(len(x))[:, None, None] * frequencies
    left, right = x[..., : size // 2], x[..., size // 2 : size]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin, x[..., size:]], -1)


def model(size: int = D, base: float = 100.0) -> tuple[Arrays, np.ndarray]:
    q = np.random.default_rng(1).standard_normal((T, H, D))
    frequencies = base ** (-np.arange(size // 2) * 2 / size)
    key = np.random.default_rng(2).standard_normal((T, K, D))
    return {Q: q, QR: rotated(q, frequencies, size), "layers.0.attn.k": key, KR: rotated(key, frequencies, size)}, frequencies


def named(found: tuple[Axis, ...]) -> dict[str, Axis]:
    return {axis.name: axis for axis in found}


def test_the_heads_that_are_wrong_are_named_and_no_other_is() -> None:
    right, _ = model()
    wrong = {**right, QR: right[QR].copy()}
    wrong[QR][:, [1, 4]] *= 1.5
    found = named(axes(QR, wrong, right, wrong, 1e-6))
    assert found["head"].wrong == (1, 4) and found["head"].errors[1] == pytest.approx(0.5, rel=0.2)
    assert found["head"].text == "heads 1, 4 of 6" and found["position"].text == ""


@pytest.mark.parametrize("size", [D, D // 2])
def test_the_pairs_that_turn_wrongly_are_named_with_both_frequencies(size: int) -> None:
    right, frequencies = model(size)
    changed = frequencies.copy()
    changed[1] *= 0.25
    wrong = {**right, QR: rotated(right[Q], changed, size)}
    axis = named(axes(QR, wrong, right, wrong, 1e-6))["rotary pair"]
    assert axis.wrong == (1,) and len(axis.errors) == size // 2
    assert np.allclose(axis.frequencies, np.stack([frequencies, changed], 1), rtol=1e-9)
    assert f"{changed[1]:.4g} rad a position, {frequencies[1]:.4g} in the reference" in axis.text


def test_a_rotation_is_measured_however_slow_it_is_and_whatever_its_first_position() -> None:
    q = np.random.default_rng(0).standard_normal((64, H, D)).astype(np.float32)
    frequencies = np.array([1.0, 0.3, 2e-3, 1e-6])
    later = rotated(np.concatenate([np.zeros((7, H, D)), q]), frequencies)[7:].astype(np.float32)
    found = turns(QR, {QR: later}, {Q: q})
    assert found is not None and found.size == D
    assert np.allclose(found.frequencies, frequencies, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (range(12, T), "positions from 12 on of 20"),
        ((5,), "position 5 of 20"),
        ((0, 8, 16), "positions 0, 8, 16 … (each 8 apart) of 20"),
        ((2, 3, 4, 9), "positions 2–4, 9 of 20"),
        ((0, 2, 5, 7, 9, 13, 14, 17), "positions 8, the worst 9, 13, 14, 17, of 20"),
        (range(T), ""),
        ((), ""),
    ],
)
def test_positions_are_told_as_short_as_they_can_be(wrong: Any, text: str) -> None:
    right = {"norm": np.ones((T, 4))}
    values = right["norm"].copy()
    values[list(wrong)] += 0.1 + np.array(list(wrong))[:, None] / 100
    (axis,) = axes("norm", {"norm": values}, right, right, 1e-6)
    assert text in axis.text and bool(text) == bool(axis.text)


def test_an_expert_that_is_right_at_one_position_is_not_blamed_for_its_neighbour() -> None:
    index = np.array([[0, 1], [1, 2], [0, 2], [1, 3]] * 5)
    right = {"layers.0.moe.out": np.ones((T, 3)), "layers.0.moe.router": np.zeros((T, 6)), "layers.0.moe.index": index}
    values = right["layers.0.moe.out"].copy()
    values[(index == 0).any(-1)] += 1
    found = named(axes("layers.0.moe.out", {**right, "layers.0.moe.out": values}, right, right, 1e-6))["expert"]
    assert found.wrong == (0,) and found.errors[4:] == (None, None) and found.text == "expert 0 of 4"


def test_a_choice_that_differs_names_both_experts() -> None:
    index = np.array([[0, 1]] * T)
    changed = index.copy()
    changed[3] = (0, 2)
    found = named(axes("layers.0.moe.index", {"layers.0.moe.index": changed}, {"layers.0.moe.index": index}, {}, 1e-3))
    assert found["position"].wrong == (3,) and found["expert"].wrong == (1, 2)


def test_weights_of_experts_are_compared_where_both_chose_the_same() -> None:
    index, weights = np.array([[0, 1]] * T), np.full((T, 2), 0.5)
    changed, off = index.copy(), weights.copy()
    changed[3], off[3] = (0, 2), (0.1, 0.9)
    off[:, 1] += 0.1
    right = {"layers.0.moe.index": index, "layers.0.moe.weights": weights}
    wrong = {"layers.0.moe.index": changed, "layers.0.moe.weights": off}
    found = named(axes("layers.0.moe.weights", wrong, right, wrong, 1e-3))
    assert found["expert"].wrong == (1,) and 3 not in found["position"].wrong


def test_heads_of_a_delta_net_are_those_of_its_gate() -> None:
    right = {"layers.2.linear_attn.b": np.ones((T, 4)), "layers.2.linear_attn.z": np.ones((T, 32))}
    assert heads_of(2, "linear_attn.z", right) == (4, 8)
    assert heads_of(2, "linear_attn.z", {"layers.2.linear_attn.b": np.ones((T, 5)), **{}}) is None


def test_a_late_key_of_a_score_is_in_no_part() -> None:
    right = {"layers.0.attn.scores": np.tril(np.ones((2, 5, 5)))}
    late = {"layers.0.attn.scores": right["layers.0.attn.scores"] + np.triu(np.ones((5, 5)), 1)}
    assert all(axis.wrong == () for axis in axes("layers.0.attn.scores", late, right, right, 1e-6))


def test_what_is_not_finite_is_wrong_and_what_is_all_zero_is_not() -> None:
    right = {"norm": np.zeros((T, 4))}
    values = np.zeros((T, 4))
    values[3] = np.inf
    (axis,) = axes("norm", {"norm": values}, right, right, 1e-6)
    assert axis.wrong == (3,) and axis.errors[3] == math.inf and axis.errors[0] == 0


def test_an_error_that_grows_has_its_factor() -> None:
    right = np.ones((T, 3))
    wrong = right + 1e-6 * 1.2 ** np.arange(T)[:, None]
    (row,) = compounding(["logits"], {"logits": right}, {"logits": wrong})
    assert row.growth() == pytest.approx(1.2, rel=1e-6) and row.growth(18) is None
    assert compounding(["logits"], {"logits": right}, {"logits": np.ones((T, 4))}) == ()


def test_only_a_row_that_differs_has_parts_and_the_boundaries_have_every_token() -> None:
    right, _ = model()
    right |= {"layers.0.out": np.ones((T, 5)), "logits": np.ones((T, 7))}
    wrong = {**right, QR: right[QR] * 2}
    found = localize(right, wrong, right)
    assert [row.tap for row in found.rows if row.axes] == [QR]
    assert [row.tap for row in found.compounding] == ["layers.0.out", "logits"]
