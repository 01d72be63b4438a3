"""Taps of an mlx-lm model: what goes into its modules and what comes out of them, by the canonical names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from logitproof.protocol.taps import wanted

OUTPUTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.out",
    "linear_attn.in_proj_qkv": "linear_attn.qkv",
    "linear_attn.in_proj_z": "linear_attn.z",
    "linear_attn.in_proj_b": "linear_attn.b",
    "linear_attn.in_proj_a": "linear_attn.a",
    "linear_attn.out_proj": "linear_attn.out",
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.out",
    "mlp.gate": "moe.router",
    "": "out",
}
INPUTS = {"self_attn.o_proj": "attn.context", "linear_attn.out_proj": "linear_attn.norm", "mlp.down_proj": "mlp.activation"}
TWO_NORMS: dict[str, tuple[str | None, str | None]] = {"post_attention_layernorm": ("residual", "ffn_norm")}
"""Input and output of the norms of a layer that has one norm before each half."""
FOUR_NORMS: dict[str, tuple[str | None, str | None]] = {
    "post_attention_layernorm": (None, "attn_post_norm"),
    "pre_feedforward_layernorm": ("residual", "ffn_norm"),
    "post_feedforward_layernorm": (None, "mlp_post_norm"),
}
ROTATED = (("attn.q", "attn.q_rope"), ("attn.k", "attn.k_rope"))
"""What the first and the second call of a layer's `rope` read and give."""
INSIDE = (
    *dict.fromkeys([*OUTPUTS.values(), *INPUTS.values()]),
    *(name for pair in (*TWO_NORMS.values(), *FOUR_NORMS.values(), *ROTATED) for name in pair if name),
    "moe.out",
)
TAPS = ("embedding", *(f"layers.*.{name}" for name in dict.fromkeys(INSIDE)), "norm", "logits")
Found = dict[str, list[np.ndarray]]
Call = tuple[str | None, str | None]
"""The names of what a module reads and of what it gives in one call."""


@contextmanager
def tapped(model: nn.Module, patterns: Sequence[str]) -> Iterator[Found]:
    """Pieces [T, ...] float32 of every wanted tap, one a pass; the model is as before afterwards."""
    pieces: Found = {}
    named = model.named_modules()
    paths = {path for path, _ in named}
    watched = [(module, module.__class__, calls) for path, module in named if (calls := _calls(path, module, paths))]
    for module, kind, calls in watched:
        module.__class__ = _watching(kind, _Watch(calls, pieces, patterns))
    try:
        yield pieces
    finally:
        for module, kind, _ in watched:
            module.__class__ = kind


class _Watch:
    """Keeps input and output of one module under the names of its calls, in turn."""

    def __init__(self, calls: list[Call], pieces: Found, patterns: Sequence[str]) -> None:
        self._calls, self._kept, self._patterns = calls, pieces, patterns
        self._count = 0

    def keep(self, given: mx.array, made: mx.array) -> None:
        before, after = self._calls[self._count % len(self._calls)]
        self._count += 1
        for name, value in ((before, given), (after, made)):
            if name is not None and wanted(name, self._patterns):
                self._kept.setdefault(name, []).append(_canonical(value))


def _watching(kind: type[nn.Module], watch: _Watch) -> type[nn.Module]:
    """Python looks `__call__` up in the class, so the module is given one of its own."""

    def call(self: nn.Module, x: mx.array, *rest: Any, **named: Any) -> mx.array:
        made = kind.__call__(self, x, *rest, **named)
        watch.keep(x, made)
        return made

    return type(kind.__name__, (kind,), {"__call__": call})


def _canonical(value: mx.array) -> np.ndarray:
    """[1, T, ...] or heads [1, H, T, D] as [T, ...] or [T, H, D]."""
    array = np.array(value[0].astype(mx.float32))
    return array.transpose(1, 0, 2) if array.ndim == 3 else array


def _calls(path: str, module: nn.Module, paths: set[str]) -> list[Call]:
    """What is kept of each call of the module at `path`; none of one that is not known."""
    inside = re.fullmatch(r"(?:language_model\.)?model\.(norm|layers\.(\d+)\.?(.*))", path)
    if inside is None:
        return []
    if inside[1] == "norm":
        return [(None, "norm")]
    layer, leaf = inside[2], inside[3]
    around = path.removesuffix(leaf)
    norms = FOUR_NORMS if f"{around}pre_feedforward_layernorm" in paths else TWO_NORMS
    calls: list[Call] = []
    if leaf == "self_attn.rope":
        normed = f"{around}self_attn.q_norm" in paths
        calls = [(before if normed else None, after) for before, after in ROTATED]
    elif leaf == "mlp" and "gate" in module:
        calls = [(None, "moe.out")]
    elif leaf in norms:
        calls = [norms[leaf]]
    elif leaf in OUTPUTS:
        calls = [(INPUTS.get(leaf), OUTPUTS[leaf])]
    named: list[Call] = [(_in_layer(layer, before), _in_layer(layer, after)) for before, after in calls]
    return [("embedding", named[0][1])] if (layer, leaf) == ("0", "") else named


def _in_layer(layer: str, name: str | None) -> str | None:
    return f"layers.{layer}.{name}" if name else None
