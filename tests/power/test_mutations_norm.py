"""Every bug of the family `norm` is louder than noise where it applies, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from planted import LOUDER_THAN_NOISE, build, check, check_ranges, distance, planted, run, state, tokens

from logitproof.reference.patches import tensors_replaced


@pytest.mark.parametrize(("mutation", "family"), planted("norm"))
def test_it_is_seen_and_gone_afterwards(mutation: Any, family: str) -> None:
    check(mutation, family)


@pytest.mark.parametrize(("mutation", "family"), planted("norm", needs=("small activations",)))
def test_an_epsilon_is_seen_where_activations_are_small(mutation: Any, family: str) -> None:
    """The embedding is made a thousand times smaller, so that the mean square is about the epsilon."""
    model = build(family)
    embedding = model.get_input_embeddings().weight
    before = state(model)
    with tensors_replaced([(embedding, embedding * 1e-3)]):
        clean = run(model, tokens(family))
        with mutation.applied_to(model):
            wrong = run(model, tokens(family))
    assert state(model) == before
    assert distance(wrong, clean) > LOUDER_THAN_NOISE * float(clean.abs().max()) * 2**-23


def test_a_search_for_a_value_covers_those_of_the_field() -> None:
    check_ranges("norm")
