"""Every bug of the family `weights` is louder than noise where it applies, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import LOUDER_THAN_NOISE, build, check, config, distance, noise, planted, run, tokens

from logitproof.mutations.rope.rotation import Interleaved
from logitproof.mutations.weights._permutation import to_interleaved, to_split_half
from logitproof.mutations.weights._quants import requantized
from logitproof.mutations.weights.permutation import QkUnpermuted
from logitproof.mutations.weights.tensors import TiedHeadIgnored, TiedHeadInvented


@pytest.mark.parametrize(("mutation", "family"), planted("weights"))
def test_it_is_seen_and_gone_afterwards(mutation: Any, family: str) -> None:
    check(mutation, family)


@pytest.mark.parametrize(("kind", "error"), [("Q8_0", 0.01), ("Q5_0", 0.05), ("Q4_0", 0.09), ("Q4_K", 0.08), ("Q6_K", 0.02)])
def test_the_blocks_that_are_spoilt_are_right_before(kind: str, error: float) -> None:
    model = build("llama3")
    weight = model.model.layers[0].mlp.up_proj.weight
    original = weight.detach().clone()
    with requantized(model, kind, "up_proj"):
        assert 0 < (weight - original).norm() / original.norm() < error
    assert torch.equal(weight, original)


def test_unpermuted_rows_are_the_same_model_as_interleaved_pairs() -> None:
    model = build("llama3")
    found = []
    for mutation in (QkUnpermuted(), Interleaved()):
        with mutation.applied_to(model):
            found.append(run(model, tokens("llama3")))
    assert distance(found[0], found[1]) < LOUDER_THAN_NOISE * noise("llama3")


def test_rows_permuted_twice_and_then_back_are_the_right_ones() -> None:
    rows = torch.arange(48.0).reshape(24, 2)
    assert not torch.equal(to_interleaved(rows, 3), rows)
    assert torch.equal(to_split_half(to_interleaved(rows, 3), 3), rows)
    assert to_interleaved(rows, 3)[:8, 0].tolist() == [0, 8, 2, 10, 4, 12, 6, 14]


def test_a_tied_model_has_no_head_to_lose() -> None:
    assert TiedHeadIgnored().applies(config("qwen3")) and not TiedHeadIgnored().applies(config("llama3"))
    assert TiedHeadInvented().applies(config("llama3")) and not TiedHeadInvented().applies(config("qwen3"))
