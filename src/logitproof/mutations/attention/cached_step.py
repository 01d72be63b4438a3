"""The mask of a step through the cache: one query, all keys before it."""

from __future__ import annotations

import torch

from logitproof.mutations import Record
from logitproof.mutations.attention._interface import WrongMask


class _WrongStep(WrongMask):
    """A bug in what a single query sees; a pass of several queries is right."""

    needs = "decode"

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        """What the step sees where it is one."""
        return right & self.kept(age, window) if age.shape[0] == 1 and age.shape[1] > 1 else right

    def kept(self, age: torch.Tensor, window: int | None) -> torch.Tensor:
        """Which keys are left, bool [1, S]."""
        raise NotImplementedError


class SeesFirstKey(_WrongStep, id="attention.cached_step_sees_first_key"):
    """The mask of a cached step is that of query 0: only the first key is seen."""

    record = Record(
        shows="decode only, from the second step on, large",
        first_tap="layers.0.attn.probs",
        remedy="add the number of keys in the cache to the query's index before the causal mask is made",
        needs="decode",
    )

    def kept(self, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return torch.arange(age.shape[1], device=age.device)[None] == 0


class SeesItselfAlone(_WrongStep, id="attention.cached_step_sees_itself"):
    """A cached step sees its own key alone: the keys in the cache are hidden."""

    record = Record(
        shows="decode only, from the second step on, large",
        first_tap="layers.0.attn.probs",
        remedy="make the mask as wide as the cache with the new keys",
        needs="decode",
    )

    def kept(self, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return age == 0


class MissesItself(_WrongStep, id="attention.cached_step_misses_itself"):
    """A cached step does not see its own key: the number of keys is counted before they are written."""

    record = Record(
        shows="decode only, every step but the first",
        first_tap="layers.0.attn.probs",
        remedy="count the keys after the step's own are written",
        needs="decode",
    )

    def kept(self, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return age != 0
