"""Which keys a query sees: the causal mask, the sliding window, the tiles of a kernel."""

from __future__ import annotations

from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations.attention._interface import WrongMask, has_window


class _WrongWindow(WrongMask):
    def applies(self, config: Any) -> bool:
        """Models with a window that is in use."""
        return super().applies(config) and has_window(config)


class MaskMissing(WrongMask, id="attention.mask_missing"):
    """There is no causal mask: every query sees every key."""

    record = Record(
        shows="prefill only: every position but the last wrong",
        first_tap="layers.0.attn.probs",
        remedy="mask keys that come later",
        seen_in=("mlxcel #998", "mlxcel #1001", "higgs #203"),
    )

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return torch.ones_like(right)


class MaskSeesNext(WrongMask, id="attention.mask_sees_next"):
    """The causal mask is off by one: each query sees the key after its own."""

    record = Record(
        shows="prefill only: position 0 wrong, the loss too low; decode exact",
        first_tap="layers.0.attn.probs",
        remedy="mask keys whose position is greater than the query's",
        seen_in=("kekzl/imp M01",),
    )

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return right | (age == -1)


class MaskMissesItself(WrongMask, id="attention.mask_misses_itself"):
    """The causal mask is off by one: no query but the first sees its own key."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, in decode too",
        first_tap="layers.0.attn.probs",
        remedy="let a query see the key of its own position",
        seen_in=("kekzl/imp M06",),
    )

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        first = torch.arange(age.shape[1], device=age.device) == 0
        return right & ((age != 0) | first)


class FirstKeyHidden(WrongMask, id="attention.first_key_hidden"):
    """The key of the first position, on which models rest their attention, is hidden from all later queries."""

    record = Record(
        shows="position 0 exact, large from position 1 on",
        first_tap="layers.0.attn.probs",
        remedy="begin the loop over keys at zero",
        seen_in=("openai/gpt-oss #196",),
    )

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        first = torch.arange(age.shape[1], device=age.device) == 0
        return right & (~first | (age == 0))


class NewestKeysLost(WrongMask, id="attention.newest_keys_lost"):
    """The last tile of keys is not read where there are several and the length is no multiple of the tile."""

    record = Record(
        shows="exact up to the size of a tile, then wrong except at its multiples",
        first_tap="layers.0.attn.probs",
        remedy="round the number of tiles up",
        seen_in=("kekzl/imp M06", "vLLM #50702"),
    )
    tile: int = swept(16, grid=(16, 32))

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        ends = age[:, :1] + 1
        kept = torch.where(ends > self.tile, ends // self.tile * self.tile, ends)
        return right & (torch.arange(age.shape[1], device=age.device)[None] < kept)


class WindowIgnored(_WrongWindow, id="attention.window_ignored"):
    """The sliding window is ignored: its layers attend to everything before."""

    record = Record(
        shows="exact until the sequence is longer than the window, then growing with position",
        first_tap="layers.0.attn.probs",
        remedy="mask keys that lie outside the window, in the layers that have one",
        seen_in=("llama.cpp #7709", "mistral.rs #246", "vllm-metal #282"),
    )

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return (age >= 0).expand_as(right) if window else right


class WindowOffByOne(_WrongWindow, id="attention.window_off_by_one"):
    """The sliding window is one key too long or too short."""

    record = Record(
        shows="exact until the sequence is longer than the window, then tiny",
        first_tap="layers.0.attn.probs",
        remedy="a window of W lets a query see itself and W - 1 keys before",
        seen_in=("transformers #29623", "vLLM #3385", "NVIDIA-NeMo/Speech #9672"),
    )
    more: int = swept(-1, grid=(1, -1))

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        if not window:
            return right
        inside = age < window + self.more
        return right & inside if self.more < 0 else right | ((age >= 0) & inside)


class WindowSize(_WrongWindow, id="attention.window_size"):
    """The sliding window is of another size than the config's."""

    record = Record(
        shows="exact until the sequence is longer than the smaller of both windows, then growing with position",
        first_tap="layers.0.attn.probs",
        remedy="read sliding_window of the config, in the unit that the kernel counts in",
        seen_in=("keras-team/keras-hub #1702", "transformers #40700", "NVIDIA-NeMo/Megatron-Bridge #2656"),
    )
    window: int = swept(16, grid=(8, 16, 32), between=(1, 4096))

    def applies(self, config: Any) -> bool:
        """Models whose window is neither this one nor one key away from it, which is a bug of its own."""
        return super().applies(config) and abs(self.window - config.sliding_window) > 1

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return ((age >= 0) & (age < self.window)).expand_as(right) if window else right
