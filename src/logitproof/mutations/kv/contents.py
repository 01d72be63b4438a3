"""What the slots of a cache hold: keys or values of another step, or a slot that is written over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from logitproof.mutations import Record
from logitproof.mutations.kv._cache import LAST_SLOT, Pair, WrongCache


class KeysOneLate(WrongCache, id="kv.keys_one_late"):
    """K of a step is written one slot behind its V."""

    record = Record(
        shows="decode only, from the second step on",
        first_tap="layers.0.attn.scores",
        remedy="use one position for K and V of a step",
    )

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        return (keys.roll(1, dims=2), values) if new == 1 else (keys, values)


class SlotOverwritten(WrongCache, id="kv.slot_overwritten"):
    """Every step is also written over one earlier slot, which then holds the newest K and V."""

    record = Record(
        shows="decode only, from the step after the slot on",
        first_tap="layers.0.attn.scores",
        remedy="write K and V of each step into the slot of its position alone",
    )
    slot: int = 0

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every slot."""
        yield from ({"slot": slot} for slot in range(LAST_SLOT + 1))

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        if new == 1 and keys.shape[2] > self.slot + 1:
            keys[:, :, self.slot], values[:, :, self.slot] = keys[:, :, -1], values[:, :, -1]
        return keys, values
