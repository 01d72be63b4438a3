"""A cache that returns other keys and values than it holds, in front of the right one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import inputs_changed

Pair = tuple[torch.Tensor, torch.Tensor]
LAST_SLOT = 127
"""The last slot in which bugs of one slot are tried."""


class WrongCache(Mutation):
    """A bug in what attention reads from its cache: subclasses change it in `read`, or what is written in `written`."""

    needs = "decode"

    def applies(self, config: Any) -> bool:
        """Models with attention layers that read a cache through `past_key_values`."""
        return bool(parts.attentions(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Stand in front of the cache of every attention layer."""

        def change(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            cache = kwargs.get("past_key_values")
            return (args, kwargs) if cache is None else (args, {**kwargs, "past_key_values": _Front(cache, self)})

        return inputs_changed(parts.attentions(model), change)

    def written(self, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """What is written for new keys and values [B, K, T, D]."""
        return keys, values

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        """What attention gets of all keys and values [B, K, S, D], the last `new` of which were just written; copies."""
        return keys, values


class _Front:
    """A cache with the wrong `update`; all else is the right one's."""

    def __init__(self, cache: Any, bug: WrongCache) -> None:
        self._cache, self._bug = cache, bug

    def update(self, keys: torch.Tensor, values: torch.Tensor, *rest: Any, **named: Any) -> Pair:
        keys, values = self._bug.written(keys, values)
        all_keys, all_values = self._cache.update(keys, values, *rest, **named)
        return self._bug.read(all_keys.clone(), all_values.clone(), keys.shape[2])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)
