"""What attention reads from the cache is not what was written: other slots, or fewer bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations._precision import rounded
from logitproof.mutations.attention._interface import Out, WrongAttention, has_window
from logitproof.mutations.kv._cache import LAST_SLOT, Pair, WrongCache

WHOLE_HEAD = 0
BLOCK = 32
OF = ("both", "keys", "values")


@dataclass
class _Narrow(WrongAttention):
    """Attention reads keys, values or both as a narrow cache gives them back: subclasses say in `kept` how."""

    of: str = swept("both", grid=("both", "keys", "values"))

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Attend over what was kept."""
        k = self.kept(k) if self.of != "values" else k
        v = self.kept(v) if self.of != "keys" else v
        return right(module, q, k, v, mask, **rest)

    def kept(self, heads: torch.Tensor) -> torch.Tensor:
        """What a cache gives back of [B, K, S, D]."""
        raise NotImplementedError


class LowPrecision(_Narrow, id="kv.low_precision"):
    """The cache is kept in a narrower type than the computation: K and V are rounded when they are written."""

    record = Record(
        shows="slow noise at every position, from position 1 on",
        first_tap="layers.0.cache.k",
        remedy="choose the cache's type, and say which it is",
        seen_in=("llama.cpp's default of an f16 cache",),
    )
    bits: int = swept(8, grid=(8, 5, 11, 4, 3))

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Keys alone and values alone in every width."""
        yield from ({"of": of, "bits": bits} for of in ("keys", "values") for bits in type(self).grid["bits"] if bits != 8)

    def kept(self, heads: torch.Tensor) -> torch.Tensor:
        """Rounded to so many significant bits: 11 is float16, 8 bfloat16, 4 and 3 the two kinds of float8."""
        return rounded(heads, self.bits)


class Quantized(_Narrow, id="kv.quantized"):
    """The cache is kept in whole numbers with a scale: K and V are quantized when they are written."""

    record = Record(
        shows="noise at every position, from position 1 on; with 4 bits other tokens",
        first_tap="layers.0.cache.k",
        remedy="choose the cache's type, and say which it is",
        seen_in=("llama.cpp's cache types q8_0 and q4_0",),
    )
    bits: int = swept(8, grid=(8, 4))
    block: int = swept(0, grid=(0, 32))

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every width, for whole heads and for blocks, of keys, values and both."""
        for of in OF:
            yield from ({"of": of, "bits": bits, "block": block} for bits in (8, 4) for block in (WHOLE_HEAD, BLOCK))

    def kept(self, heads: torch.Tensor) -> torch.Tensor:
        """Whole numbers of so many bits, with one scale for the head of a position or for each block of it."""
        if self.block == WHOLE_HEAD or heads.shape[-1] % self.block:
            return _symmetric(heads, self.bits)
        blocks = heads.unflatten(-1, (-1, self.block))
        return (_symmetric(blocks, 8, half=True) if self.bits == 8 else _q4_0(blocks)).flatten(-2)


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
    of: str = "both"
    at_once: bool = False

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every slot: of keys, of values and of both, read at its own step already or only afterwards."""
        for slot in range(1, LAST_SLOT + 1):
            yield from ({"slot": slot, "of": of, "at_once": at_once} for of in OF for at_once in (False, True))

    def read(self, keys: torch.Tensor, values: torch.Tensor, new: int) -> Pair:
        if new == 1 and keys.shape[2] > self.slot + (not self.at_once):
            for name, held in (("keys", keys), ("values", values)):
                if self.of in ("both", name):
                    held[:, :, self.slot] = held[:, :, self.slot - 1]
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


def _symmetric(values: torch.Tensor, bits: int, *, half: bool = False) -> torch.Tensor:
    """Codes from -(2^(bits-1) - 1) to 2^(bits-1) - 1 along the last dimension; as Q8_0 the scale is stored in float16."""
    scale = values.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    codes = (values / scale.clamp(min=1e-30)).round()
    return codes * (scale.half().to(values.dtype) if half else scale)


def _q4_0(values: torch.Tensor) -> torch.Tensor:
    """Q4_0: the largest entry, with its sign, is code -8 of -8 to 7; the scale is stored in float16."""
    largest = values.gather(-1, values.abs().argmax(-1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale == 0, torch.zeros_like(scale), 1 / scale)
    codes = torch.floor(values * inverse + 8.5).clamp(0, 15) - 8
    return codes * scale.half().to(values.dtype)
