"""What each layer could do to the logits is foretold in a few passes, and finds the layer and the place of a bug."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from planted import build

from logitproof.diagnosis import search, trial
from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.layers import Foretold, InLayers, explained_by_sums
from logitproof.reference import parts
from logitproof.reference.planted import ONLY_LAYER, Planted
from logitproof.reference.response import Response

IDS = [np.random.default_rng(seed).integers(3, 90, 40).tolist() for seed in (1, 2)]
FAMILY = "smollm3"
"""Four layers."""


def changed(planted: Planted, name: str, options: dict[str, Any], count: int) -> np.ndarray:
    (wrong,), (right,) = (planted.logits(bugs, beginning=count) for bugs in ([(name, options)], []))
    return np.asarray(wrong - right - (wrong - right).mean(axis=1, keepdims=True))


@pytest.mark.parametrize("family", ["qwen3", FAMILY, "qwen2.5", "qwen3-moe"])
def test_what_is_foretold_of_a_small_bug_comes_true_in_every_layer(family: str) -> None:
    planted = Planted(build(family), IDS)
    response = planted.response(24, 16)
    sums = planted.foretold_of(response, "norm.low_precision")
    each = planted.foretold(response, dict.fromkeys(range(planted.layers), ("norm.low_precision", {})))
    assert np.allclose(sums, each, rtol=1e-4, atol=1e-6 * np.abs(sums).max())
    last = planted.foretold_of(response, "norm.low_precision", [planted.layers - 1])
    assert np.allclose(last[-1], each[-1], rtol=1e-4, atol=1e-6 * np.abs(sums).max()) and not last[:-1].any()
    for layer in range(planted.layers):
        true = response.of_logits(changed(planted, "norm.low_precision", {ONLY_LAYER: layer}, 24))
        assert np.linalg.norm(sums[layer] - true) <= 0.15 * np.linalg.norm(true) > 0


def test_a_layer_without_a_bug_changes_nothing_and_the_model_is_as_it_was() -> None:
    planted = Planted(build(FAMILY), IDS)
    before = planted.logits(beginning=24)[0]
    response = planted.response(24, 8)
    options = {"layer": 2, "tensor": "up_proj.weight"}
    sums = planted.foretold(response, {2: ("weights.tensor_dropped", options)})
    assert np.flatnonzero(np.abs(sums).sum(axis=1)).tolist() == [2]
    assert np.array_equal(planted.logits(beginning=24)[0], before)
    assert not any("forward" in vars(layer) for layer in parts.layers(planted.model))


def test_fewer_sums_are_weighed_where_gradients_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitproof.reference.response.KEPT", 1)
    assert Response(build(FAMILY), IDS[0][:8], 64).sums == 8


def logits(bugs: Sequence[tuple[str, dict[str, Any]]] = (), layer: int = -1) -> list[np.ndarray]:
    """Logits with bugs, or with the MLP of one layer clamped as no known bug does."""
    model = build(FAMILY)
    with ExitStack() as stack:
        if layer >= 0:
            mlp = parts.layers(model)[layer].mlp
            stack.callback(mlp.register_forward_hook(lambda _, inputs, out: out.abs().sqrt() * out.sign()).remove)
        with torch.inference_mode():
            planted = Planted(model, IDS)
            return [rows.astype(np.float32) for rows in planted.logits(bugs)]


@pytest.fixture
def is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model counts as one whose passes are dear."""
    for name in ("SMALL", "WEIGHTS", "SWEPT"):
        monkeypatch.setattr(search, name, 1e3)
    monkeypatch.setattr(trial, "SMALL", 1e3)


@pytest.mark.usefixtures("is_large")
def test_a_large_epsilon_is_found_where_every_range_is_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SWEPT", 1e9)
    found = diagnose_logits(build(FAMILY), IDS, logits([("norm.eps_value", {"eps": 0.03})]))
    assert found.names[0] == "norm.eps_value" and found.mutants[0].options["eps"] == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("attention.head_dead", {"layer": 2, "head": 3}),
        ("weights.tensor_dropped", {"layer": 3, "tensor": "up_proj.weight"}),
        ("weights.layers_swapped", {"first": 1, "second": 3}),
        ("weights.layer_skipped", {"layer": 1}),
        ("mlp.relu_for_silu", {ONLY_LAYER: 2}),
    ],
)
@pytest.mark.usefixtures("is_large")
def test_the_place_of_a_bug_is_found_in_few_passes(name: str, options: dict[str, Any]) -> None:
    found = diagnose_logits(build(FAMILY), IDS, logits([(name, options)]))
    assert name in found.names and found.passes < 800
    places = [dict(mutant.options) for mutant in found.mutants[: found.named] if mutant.name == name]
    assert options in places or name == "weights.layers_swapped"


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.usefixtures("is_large")
def test_the_layer_of_a_fault_that_nobody_knows_is_told(layer: int) -> None:
    found = diagnose_logits(build(FAMILY), IDS, logits(layer=layer))
    assert found.verdict == "unexplained" and found.passes < 800
    (finding,) = [finding for finding in found.findings if finding.kind == "one layer"]
    assert finding.evidence["layer"] == layer and f"layer {layer}" in finding.text


def bugs_of(*sums: list[float]) -> tuple[Foretold, ...]:
    return tuple(
        Foretold("weights.tensor_dropped", {"layer": place}, (place,), np.array(row)) for place, row in enumerate(sums)
    )


def test_no_layer_is_told_where_two_explain_as_much_or_none_does() -> None:
    random = np.random.default_rng(2)
    wanted, other = random.normal(size=(2, 40))
    assert InLayers(wanted, bugs_of(list(wanted), list(other)), 2).finding() is not None
    assert InLayers(wanted, bugs_of(list(wanted), list(wanted)), 2).finding() is None
    assert InLayers(wanted, bugs_of(list(other), list(other)), 2).finding() is None


def test_what_few_sums_leave_is_little_where_they_make_it_and_much_where_not() -> None:
    random = np.random.default_rng(2)
    sketches = list(random.normal(size=(50, 20, 10)))
    assert explained_by_sums(sketches, 2 * sketches[3] + sketches[40], 2) < 1e-6
    assert explained_by_sums(sketches, random.normal(size=(20, 10)), 4) > 0.7
    assert explained_by_sums([], sketches[0], 4) == 1.0
