"""A router made to choose the experts that it is told: their weights are its own, by its own rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from logitproof.errors import Refusal

TOP_K = (torch.topk, torch.Tensor.topk)


class Choices(TorchFunctionMode):  # type: ignore[misc]
    """While open, the top-k over all experts gives these `index` [T, k], each with its own value; `own` is what it would be."""

    def __init__(self, index: torch.Tensor, experts: int) -> None:
        super().__init__()
        self._index, self._experts = index, experts
        self.own: torch.Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function not in TOP_K or out[1].shape != self._index.shape or args[0].shape[-1] != self._experts:
            return out
        self.own = out[1]
        return torch.return_types.topk((args[0].gather(-1, self._index), self._index))


class Router:
    """The forward function of a router, which chooses by itself or what `chosen` gives it: [T, k], or None."""

    def __init__(self, module: Any, chosen: Callable[[], torch.Tensor | None]) -> None:
        self._module, self._forward, self._chosen = module, module.forward, chosen
        self.own: torch.Tensor | None = None

    def forward(self, *args: Any, **named: Any) -> Any:
        """What the router gives; `own` is its own choice where it was made to take another. Raises Refusal where it cannot."""
        index, self.own = self._chosen(), None
        if index is None:
            return self._forward(*args, **named)
        matrix = next(parameter for parameter in self._module.parameters() if parameter.ndim == 2)
        with Choices(index, matrix.shape[0]) as choices:
            out = self._forward(*args, **named)
        if choices.own is None:
            text = f"a {type(self._module).__name__} cannot be told which experts to choose"
            raise Refusal(text, field="given", remedy="leave --replay-experts out, or give `moe.weights` too")
        self.own = choices.own
        return out
