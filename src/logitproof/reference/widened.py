"""Single decoder layers that compute in float32 inside a model of narrower arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from logitproof.errors import Refusal
from logitproof.reference import parts


def widen(model: Any, numbers: Sequence[int]) -> None:
    """Let these layers compute in float32: weights, activations and cache; what leaves them has the model's own type again.

    Raises Refusal of a layer that the model has not got.
    """
    layers, kind = parts.layers(model), model.dtype
    for number in numbers:
        if not 0 <= number < len(layers):
            text = f"the model has {len(layers)} layers, no layer {number}"
            raise Refusal(text, field="float32_layers", remedy="count from 0")
        layers[number].float()
        layers[number].register_forward_pre_hook(_enter, with_kwargs=True)
        layers[number].register_forward_hook(lambda module, inputs, out: _cast(out, kind))


def _enter(module: Any, args: Any, named: Any) -> Any:
    return _cast(args, torch.float32), {name: _cast(value, torch.float32) for name, value in named.items()}


def _cast(value: Any, kind: torch.dtype) -> Any:
    """Tensors of numbers with a fraction, also those in tuples, in another type."""
    if isinstance(value, torch.Tensor):
        return value.to(kind) if value.is_floating_point() else value
    return tuple(_cast(part, kind) for part in value) if type(value) is tuple else value
