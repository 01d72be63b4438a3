"""A scope selects the positions that its words say, of any prompt, and nothing where there are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitproof.contract.scope import parse_scope

TABLE = {
    # 8 positions, of which the prompt has 5 tokens: row 4 predicts the first token after it
    "all": [0, 1, 2, 3, 4, 5, 6, 7],
    "prompt": [0, 1, 2, 3],
    "continuation": [4, 5, 6, 7],
    "first 1 token": [4],
    "first 3 tokens": [4, 5, 6],
    "first 99 tokens": [4, 5, 6, 7],
    "last 1 token": [7],
    "last 3 positions": [5, 6, 7],
    "last 99 tokens": [0, 1, 2, 3, 4, 5, 6, 7],
    "position 0": [0],
    "position 7": [7],
    "position 8": [],
    "position -1": [7],
    "position -8": [0],
    "position -9": [],
    "  first   2  tokens ": [4, 5],
}


@pytest.mark.parametrize("text", TABLE)
def test_a_scope_selects_what_its_words_say(text: str) -> None:
    assert list(parse_scope(text).positions(8, 5)) == TABLE[text]


@pytest.mark.parametrize("text", ["first 0 tokens", "last 0 positions"])
def test_a_scope_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="selects nothing"):
        parse_scope(text)


@pytest.mark.parametrize("text", ["", "some", "first", "first tokens", "last -1 tokens", "position", "position x", "ALL"])
def test_words_that_are_no_scope_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="write all, prompt, continuation, first N tokens, last N tokens or position N"):
        parse_scope(text)


@given(count=st.integers(0, 40), length=st.integers(0, 45), number=st.integers(1, 50))
def test_scopes_of_any_prompt_are_slices_of_its_positions(count: int, length: int, number: int) -> None:
    """By slices of a list, which is another way to say the same."""
    rows = list(range(count))
    after = rows[max(length - 1, 0) :]
    wanted = {
        "all": rows,
        "prompt": rows[: max(length - 1, 0)],
        "continuation": after,
        f"first {number} tokens": (after or rows)[:number],
        f"last {number} tokens": rows[-number:],
        f"position {number}": rows[number : number + 1],
        f"position -{number}": rows[-number : count - number + 1] if number <= count else [],
    }
    for text, positions in wanted.items():
        assert list(parse_scope(text).positions(count, length)) == positions, text
