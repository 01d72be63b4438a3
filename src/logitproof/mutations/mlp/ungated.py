"""Activations of blocks without a gate: xIELU and the squared ReLU."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch.nn import functional

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class _WrongActivation(Mutation):
    """Another function than an activation module's own: subclasses name its class and say it in `activated`."""

    kind: ClassVar[str]

    def applies(self, config: Any) -> bool:
        """Models with the activation."""
        return bool(self._affected(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Replace the forward of each of them."""
        return attributes_replaced(
            [(module, "forward", functools.partial(self.activated, module)) for module in self._affected(model)]
        )

    def activated(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        """The wrong function of `x`."""
        raise NotImplementedError

    def _affected(self, model: Any) -> list[Any]:
        return [module for module in model.modules() if type(module).__name__ == self.kind]


class _WrongXielu(_WrongActivation):
    """xIELU (Huang and Schlag 2024) with other parameters."""

    kind = "XIELUActivation"

    def activated(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        positive, negative, beta, eps = self.parameters(module)
        below = (torch.expm1(torch.minimum(x, eps)) - x) * negative + beta * x
        return torch.where(x > 0, positive * x * x + beta * x, below)

    def parameters(self, module: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Slopes above and below zero, beta and eps as they should be."""
        return functional.softplus(module.alpha_p), module.beta + functional.softplus(module.alpha_n), module.beta, module.eps


class XieluRawSlopes(_WrongXielu, id="mlp.xielu_slopes_raw"):
    """The slopes of xIELU are taken as they are stored, without softplus."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="apply softplus to alpha_p and alpha_n"
    )

    def parameters(self, module: Any) -> Any:
        return module.alpha_p, module.beta + module.alpha_n, module.beta, module.eps


class XieluBetaNotAdded(_WrongXielu, id="mlp.xielu_beta_not_in_slope"):
    """beta is not added to xIELU's slope below zero."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.mlp.activation",
        remedy="the slope below zero is beta + softplus(alpha_n)",
    )

    def parameters(self, module: Any) -> Any:
        return functional.softplus(module.alpha_p), functional.softplus(module.alpha_n), module.beta, module.eps


class XieluSlopesSwapped(_WrongXielu, id="mlp.xielu_slopes_swapped"):
    """xIELU's slopes above and below zero are mistaken for each other."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="alpha_p is for positive values"
    )

    def parameters(self, module: Any) -> Any:
        return functional.softplus(module.alpha_n), module.beta + functional.softplus(module.alpha_p), module.beta, module.eps


class XieluSlopesOfInit(_WrongXielu, id="mlp.xielu_slopes_not_loaded"):
    """xIELU's slopes are those of its initialization."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="load alpha_p and alpha_n of every layer"
    )

    def parameters(self, module: Any) -> Any:
        init = torch.full_like(module.alpha_p, 0.8)
        return init, init, module.beta, module.eps


class XieluLinearMissing(_WrongXielu, id="mlp.xielu_linear_part_missing"):
    """xIELU lacks its linear part beta * x."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="add beta * x on both sides of zero"
    )

    def parameters(self, module: Any) -> Any:
        right = super().parameters(module)
        return right[0], right[1], torch.zeros_like(right[2]), right[3]


class _WrongSquare(_WrongActivation):
    """The squared ReLU."""

    kind = "ReLUSquaredActivation"


class SquareMissing(_WrongSquare, id="mlp.squared_relu_not_squared"):
    """The squared ReLU is not squared."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="square what ReLU gives")

    def activated(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        return x.relu()


class SquareOfBothSides(_WrongSquare, id="mlp.squared_relu_of_both_sides"):
    """Negative values are squared too: ReLU is left out of the squared ReLU."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="cut off at zero before the square"
    )

    def activated(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        return x.square()


class SquaredSilu(_WrongSquare, id="mlp.squared_silu_for_relu"):
    """SiLU is squared in place of ReLU."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="the activation is ReLU squared"
    )

    def activated(self, module: Any, x: torch.Tensor) -> torch.Tensor:
        return functional.silu(x).square()
