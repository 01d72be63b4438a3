"""One planted reference: bugs come and go, the model stays as it was, and it is asked where it lies."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from planted import build

from logitproof.reference.planted import ONLY_LAYER, Planted, showing

IDS = [[5, 6, 7, 8, 9, 10], [3, 4, 5]]


def test_a_bug_is_there_for_one_pass_and_gone_after_it() -> None:
    planted = Planted(build("llama3"), IDS)
    right = planted.logits()
    wrong = planted.logits([("rope.sign", {})])
    assert [rows.shape for rows in right] == [(6, planted.vocabulary), (3, planted.vocabulary)]
    assert not np.allclose(wrong[0], right[0])
    assert all(np.array_equal(before, after) for before, after in zip(right, planted.logits(), strict=True))
    assert planted.passes == 6


@pytest.mark.parametrize("names", [("norm.one_added", "norm.weight_missing"), ("mlp.relu_for_silu", "mlp.gelu_for_silu")])
def test_two_bugs_of_one_thing_in_one_layer_are_both_taken_out(names: tuple[str, str]) -> None:
    planted = Planted(build("llama3"), IDS)
    right = planted.logits()
    for order in (names, names[::-1]):
        wrong = planted.logits([(name, {ONLY_LAYER: 1}) for name in order])
        assert not np.allclose(wrong[0], right[0])
        assert all(np.array_equal(before, after) for before, after in zip(right, planted.logits(), strict=True))


def test_the_cache_gives_what_one_pass_gives() -> None:
    planted = Planted(build("llama3"), IDS)
    (beginning,) = planted.logits(cached=True, beginning=4)
    assert np.allclose(beginning, planted.logits()[0][:4], atol=1e-4)


def test_a_tap_that_is_given_flows_on_and_the_model_stays_as_it_was() -> None:
    planted = Planted(build("llama3"), IDS)
    right = planted.logits()[0]
    taps = planted.replay(["embedding", "logits"], {})
    changed = planted.replay(["logits"], {"embedding": 2 * taps["embedding"]})
    assert np.allclose(taps["logits"], right, atol=1e-5)
    assert not np.allclose(changed["logits"], taps["logits"], atol=1e-3)
    planted.close()
    assert np.array_equal(planted.logits()[0], right)


@pytest.mark.parametrize("device", ["cpu", "cuda:0", "mps"])
def test_rounding_happens_where_the_model_lies(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def autocast(kind: str, **options: Any) -> Any:
        asked.append(kind)
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", autocast)
    with Planted(SimpleNamespace(device=torch.device(device)), IDS).rounded():
        pass
    assert asked == [device.partition(":")[0]]


def test_no_bug_is_planted_that_is_proven_to_show_nothing() -> None:
    every = dict(showing(("",)))
    assert every
    assert not any(kind.equivalent or kind.needs for kind in every.values())
    assert [name for name, _ in showing(("",), ["rope.sign"])] == ["rope.sign"]
