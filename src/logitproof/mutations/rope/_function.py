"""Replaces `apply_rotary_pos_emb` for one model only, although it belongs to a whole modeling module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

NAME = "apply_rotary_pos_emb"


@contextmanager
def replaced(model: Any, rotate: Callable[..., Any]) -> Iterator[None]:
    """While open, the attention layers of `model`, and of no other model, call `rotate` instead.

    The function is swapped when such a layer's forward begins and swapped back when it ends, also by an
    exception; other models of the same family keep the original.
    """
    handles = []
    for layer in model.modules():
        module = sys.modules[type(layer).__module__]
        if type(layer).__name__.endswith("Attention") and hasattr(module, NAME):
            swap = _Swap(module, rotate)
            handles.append(layer.register_forward_pre_hook(swap.enter))
            handles.append(layer.register_forward_hook(swap.leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_split_half(config: Any) -> bool:
    """Whether models of `config` rotate split-half pairs (i, i+D/2) through the replaceable function."""
    module = _modeling_module(config)
    if module is None or not hasattr(module, NAME) or not hasattr(module, "rotate_half"):
        return False
    return bool(torch.equal(module.rotate_half(torch.arange(4)), torch.tensor([-2, -3, 0, 1])))


def rotary_dimensions(config: Any) -> int:
    """How many dimensions of a head are rotated."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    factor = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    return int(size * factor)


class _Swap:
    """The two hooks of one attention layer."""

    def __init__(self, module: ModuleType, rotate: Callable[..., Any]) -> None:
        self._module, self._rotate = module, rotate
        self._original: Any = None

    def enter(self, *_: Any) -> None:
        self._original = getattr(self._module, NAME)
        setattr(self._module, NAME, self._rotate)

    def leave(self, *_: Any) -> None:
        if self._original is not None:
            setattr(self._module, NAME, self._original)
            self._original = None


def _modeling_module(config: Any) -> ModuleType | None:
    name = type(config).__module__.replace(".configuration_", ".modeling_")
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
