"""The softplus of the time step is replaced by ReLU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class SoftplusIsRelu(Mutation):
    """A cheap ReLU stands for the softplus of the time step."""

    bug: ClassVar[str] = "the softplus of the time step is replaced by ReLU"
    shows: ClassVar[str] = "position 0 exact, decays wrong where the step is near zero"
    seen_in: ClassVar[tuple[str, ...]] = ("tt-metal #9910",)
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "use log(1 + exp(x))"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    rate = layer.A_log.float().exp()
    step = torch.special.expm1(-options["g"] / rate).log()
    return {**options, "g": -rate * step.clamp(min=0)}
