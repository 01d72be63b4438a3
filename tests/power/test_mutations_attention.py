"""Every bug of the family `attention` is louder than noise where it applies, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from planted import check, check_ranges, planted


@pytest.mark.parametrize(("mutation", "family"), planted("attention"))
def test_it_is_seen_and_gone_afterwards(mutation: Any, family: str) -> None:
    check(mutation, family)


def test_a_search_for_a_value_covers_those_of_the_field() -> None:
    check_ranges("attention")
