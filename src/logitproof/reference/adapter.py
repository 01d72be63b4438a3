"""A LoRA adapter on a transformers model: beside each matrix, or merged into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from logitproof.errors import Refusal
from logitproof.weights.adapter import Pair, read_adapter

SCALE, RANK, MATRICES = "adapter_scale", "adapter_rank", "adapter_matrices"
"""Attributes of an adapted matrix and of a model's config."""


def apply(model: Any, folder: Path, *, merge: bool) -> int:
    """Apply every pair of the adapter in `folder`; returns how many matrices it changes.

    Raises Refusal for a matrix that the model does not have or that has another shape: an adapter that is half
    applied is a wrong model.
    """
    pairs, modules = read_adapter(folder), dict(model.named_modules())
    for name, pair in pairs.items():
        module = modules.get(name.removesuffix(".weight"))
        if not isinstance(module, torch.nn.Linear) or tuple(module.weight.shape) != (pair.b.shape[0], pair.a.shape[1]):
            text = f"the adapter changes {name}, which this model does not have in that shape"
            raise Refusal(text, field="adapter", remedy="take the adapter of this model")
        if merge:
            with torch.no_grad():
                module.weight += torch.from_numpy(pair.delta).to(module.weight)
        else:
            setattr(module, SCALE, pair.scale)
            setattr(module, RANK, pair.a.shape[0])
            module.register_forward_hook(_beside(pair, module.weight))
    if not merge:
        # what can have a bug of an adapter is told by the config of a model, as what else it has
        setattr(model.config, MATRICES, sorted(name.removesuffix(".weight") for name in pairs))
    return len(pairs)


def adapted(model: Any) -> dict[str, torch.nn.Linear]:
    """The matrices beside which an adapter is computed, by name; their scales are attributes called `SCALE`."""
    return {name: module for name, module in model.named_modules() if hasattr(module, SCALE)}


def _beside(pair: Pair, like: torch.Tensor) -> Any:
    a, b = (torch.from_numpy(half).to(like) for half in (pair.a, pair.b))

    def hook(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + getattr(module, SCALE) * torch.nn.functional.linear(torch.nn.functional.linear(inputs[0], a), b)

    return hook
