"""What decode reads from the cache is not what was written."""

from __future__ import annotations

from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.attention._interface import has_window
from logitproof.mutations.kv._cache import Pair, WrongCache


class LowPrecision(WrongCache, id="kv.low_precision"):
    """The cache is kept in a narrower type than the computation: K and V are rounded when they are written."""

    record = Record(
        shows="decode only, slow noise at every position",
        first_tap="layers.0.attn.k_rope",
        remedy="choose the cache's type, and say which it is",
        seen_in=("llama.cpp's default of an f16 cache",),
    )
    bits: int = swept(8, grid=(8, 5))

    def written(self, keys: torch.Tensor, values: torch.Tensor) -> Pair:
        """Rounded to so many significant bits: 8 is bfloat16, 5 less than any type in use."""
        return rounded(keys, self.bits), rounded(values, self.bits)


class NewestNotWritten(WrongCache, id="kv.newest_not_written"):
    """The newest slot is empty when attention reads it: K and V of the step are written after they are read."""

    record = Record(
        shows="decode only, every step",
        first_tap="layers.0.attn.k_rope",
        remedy="write before reading",
        seen_in=("kekzl/imp M25",),
    )

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        if new == 1 and keys.shape[2] > 1:
            keys[:, :, -1], values[:, :, -1] = 0.0, 0.0
        return keys, values


class StaleSlot(WrongCache, id="kv.stale_slot"):
    """A slot of the cache was not written at its step and keeps what the slot before it holds."""

    record = Record(
        shows="decode only: exact up to the slot, wrong after it",
        first_tap="layers.0.attn.k_rope",
        remedy="write K and V of each step into the slot of its position",
        seen_in=("kekzl/imp M23",),
    )
    slot: int = swept(3, grid=(3, 17))

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        if new == 1 and keys.shape[2] > self.slot + 1:
            keys[:, :, self.slot], values[:, :, self.slot] = keys[:, :, self.slot - 1], values[:, :, self.slot - 1]
        return keys, values


class OneHeadStale(WrongCache, id="kv.one_head_stale"):
    """A head of the cache is not written after prefill and keeps the first position's entries."""

    record = Record(
        shows="decode only, every step",
        first_tap="layers.0.attn.k_rope",
        remedy="write all heads",
        seen_in=("tenstorrent/vllm #415",),
    )

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        if new == 1:
            keys[:, -1], values[:, -1] = keys[:, -1, :1], values[:, -1, :1]
        return keys, values


class ValuesOneLate(WrongCache, id="kv.values_one_late"):
    """V of a step is written one slot behind its K."""

    record = Record(
        shows="decode only, from the second step on",
        first_tap="layers.0.attn.context",
        remedy="use one position for K and V of a step",
        seen_in=("kekzl/imp M24",),
    )

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        return (keys, values.roll(1, dims=2)) if new == 1 else (keys, values)


class BlockTailLost(WrongCache, id="kv.block_tail_lost"):
    """The last slot of every full block of the cache is lost."""

    record = Record(
        shows="decode only, from the first full block on",
        first_tap="layers.0.attn.probs",
        remedy="a block of n slots holds n keys",
        seen_in=("vLLM #50749",),
    )
    block: int = swept(16, grid=(8, 16))

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        if new == 1 and keys.shape[2] > self.block:
            last = slice(self.block - 1, keys.shape[2] // self.block * self.block, self.block)
            keys[:, :, last], values[:, :, last] = 0.0, 0.0
        return keys, values


class WrappedEarly(WrongCache, id="kv.wrapped_early"):
    """The cache is a ring shorter than what attention must see: new keys overwrite old ones that are still needed."""

    record = Record(
        shows="decode only: exact up to the ring's size, then wrong",
        first_tap="layers.0.attn.probs",
        remedy="make the ring as long as the window, or the context",
        seen_in=("kvcached #446",),
    )
    size: int = swept(24, grid=(24, 32))

    def applies(self, config: Any) -> bool:
        """Not where a window hides what is overwritten."""
        return super().applies(config) and not has_window(config)

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        length = keys.shape[2]
        if new == 1 and length > self.size:
            count = min(length - self.size, self.size)
            for held in (keys, values):
                held[:, :, :count] = held[:, :, self.size : self.size + count].clone()
        return keys, values
