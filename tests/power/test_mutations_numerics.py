"""Every bug of the family `numerics` is louder than noise where it applies, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import LOUDER_THAN_NOISE, build, check, distance, noise, planted, right, run, tokens

from logitproof.mutations.numerics.products import F16Overflow, F16Saturation


@pytest.mark.parametrize(("mutation", "family"), planted("numerics", needs=("",)))
def test_it_is_seen_and_gone_afterwards(mutation: Any, family: str) -> None:
    check(mutation, family)


@pytest.mark.parametrize("kind", [F16Overflow, F16Saturation])
def test_the_range_of_float16_is_seen_where_activations_leave_it_and_only_there(kind: Any) -> None:
    model, ids, clean = build("llama3"), tokens("llama3"), right("llama3")
    with kind().applied_to(model):
        assert torch.equal(run(model, ids), clean)
    with kind(limit=0.5).applied_to(model):
        assert distance(run(model, ids), clean) > LOUDER_THAN_NOISE * noise("llama3")
    assert torch.equal(run(model, ids), clean)
