"""Every bug of the family `embedding` is louder than noise where it applies, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from planted import check, planted


@pytest.mark.parametrize(("mutation", "family"), planted("embedding"))
def test_it_is_seen_and_gone_afterwards(mutation: Any, family: str) -> None:
    check(mutation, family)
