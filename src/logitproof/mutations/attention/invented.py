"""What attention has in other families and not in this one: a window, a soft-cap, a sink; or the window of other layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from logitproof.mutations import Record, swept
from logitproof.mutations.attention._interface import (
    Out,
    WrongAttention,
    WrongMask,
    additive,
    ages,
    has_window,
    is_special,
    visible,
)

WIDEST = 63
"""Windows that are tried one by one are no wider."""


class WindowInvented(WrongMask, id="attention.window_invented"):
    """Attention keeps to a window of the last keys in a model that has none."""

    record = Record(
        shows="exact until the sequence is longer than the window, then growing with position",
        first_tap="layers.0.attn.probs",
        remedy="use a window only where the config names one and says that it is used",
        seen_in=("transformers #38002",),
    )
    window: int = swept(16, grid=(8, 16, 24, 32), between=(1, 4096))

    def applies(self, config: Any) -> bool:
        """Models without a window that is in use."""
        return super().applies(config) and not has_window(config)

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every width that so many positions can show."""
        yield from ({"window": window} for window in range(1, WIDEST + 1) if window not in type(self).grid["window"])

    def seen(self, right: torch.Tensor, age: torch.Tensor, window: int | None) -> torch.Tensor:
        return right & (age < self.window)


class _OtherLayers(WrongAttention):
    """The window belongs to other layers than the model's: subclasses say which have it."""

    def applies(self, config: Any) -> bool:
        """Models of which some layers have a window and some have none."""
        kinds = set(getattr(config, "layer_types", None) or [])
        return super().applies(config) and has_window(config) and {"sliding_attention", "full_attention"} <= kinds

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Every query sees what came before, inside the window where this layer is taken to have one."""
        age = ages(visible(mask, q, k))
        seen = (age >= 0) & (age < module.config.sliding_window) if self.has(module) else age >= 0
        return right(module, q, k, v, additive(seen[None, None].expand(q.shape[0], 1, -1, -1), q), **rest)

    def has(self, module: Any) -> bool:
        """Whether the layer is taken to have a window."""
        raise NotImplementedError


class WindowLayersInverted(_OtherLayers, id="attention.window_layers_inverted"):
    """The layers with a window attend to everything, and those without keep to the window."""

    record = Record(
        shows="exact until the sequence is longer than the window, then growing with position",
        first_tap="layers.0.attn.probs",
        remedy="read layer_types, or count the pattern from the layer that the family counts from",
    )

    def has(self, module: Any) -> bool:
        return bool(module.config.layer_types[module.layer_idx] == "full_attention")


class WindowLayersShifted(_OtherLayers, id="attention.window_layers_shifted"):
    """The pattern of layers with and without a window is one layer off."""

    record = Record(
        shows="exact until the sequence is longer than the window, then growing with position",
        first_tap="layers.0.attn.probs",
        remedy="count layers from zero, or from one, as the family's pattern does",
    )

    def has(self, module: Any) -> bool:
        kinds = module.config.layer_types
        return bool(kinds[(module.layer_idx + 1) % len(kinds)] == "sliding_attention")


class _Own(WrongAttention):
    """Attention done here, in place of the model's own: subclasses change its scores."""

    def applies(self, config: Any) -> bool:
        """Models without sinks and soft-cap of their own."""
        return super().applies(config) and not is_special(config)

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """Softmax of the changed scores [B, H, T, S] times V."""
        groups = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        hidden = additive(visible(mask, q, k), q)
        weights = self.weights(q @ k.transpose(-1, -2) * rest["scaling"], hidden)
        return (weights @ v).transpose(1, 2).contiguous(), weights

    def weights(self, scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """The weights [B, H, T, S] for scores, to which `hidden` is added."""
        raise NotImplementedError


class SoftcapInvented(_Own, id="attention.softcap_invented"):
    """Attention scores are capped in a family that does not cap them."""

    record = Record(
        shows="position 0 exact, large scores too small from position 1 on",
        first_tap="layers.0.attn.probs",
        remedy="cap scores only where the config has attn_logit_softcapping",
    )
    cap: float = swept(5.0, grid=(5.0, 20.0, 30.0), between=(0.5, 200.0))

    def weights(self, scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.cap * torch.tanh(scores / self.cap) + hidden, dim=-1)


class SinkInvented(_Own, id="attention.sink_invented"):
    """The sum of the softmax has one more term than there are keys: a sink, or a softmax that adds one."""

    record = Record(
        shows="wrong at every position, position 0 most: the weights do not sum to one",
        first_tap="layers.0.attn.probs",
        remedy="divide by the sum over the keys alone where the family has no sinks",
    )

    def weights(self, scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.nn.functional.pad(scores + hidden, (0, 1)), dim=-1)[..., :-1]


class HeadDead(WrongAttention, id="attention.head_dead"):
    """One head of one layer gives nothing: its output is zero."""

    record = Record(
        shows="exact before its layer, wrong from there on",
        first_tap="layers.0.attn.context",
        remedy="run every head of the layer, also the last one of a tile or a rank",
    )
    layer: int = -1
    head: int = 0

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every head of every layer."""
        layers, heads = range(config.num_hidden_layers), range(config.num_attention_heads)
        yield from ({"layer": layer, "head": head} for layer in layers for head in heads)

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        """In one layer, or with -1 in all."""
        out, weights = right(module, q, k, v, mask, **rest)
        if self.layer in (-1, module.layer_idx):
            out = out.clone()
            out[:, :, self.head] = 0.0
        return out, weights
