"""Passes through the cache: families with a state alone name it otherwise than those with keys and values."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def through_cache(model: Any, ids: Any, cache: Any = None) -> tuple[Any, Any]:
    """What `model` gives for the next `ids` [B, n], and the cache or state after them."""
    name = _cache_name(type(model).forward)
    out = model(input_ids=ids, use_cache=True, **{name: cache})
    return out, getattr(out, name)


@functools.cache
def _cache_name(forward: Callable[..., Any]) -> str:
    return "cache_params" if "cache_params" in inspect.signature(forward).parameters else "past_key_values"
