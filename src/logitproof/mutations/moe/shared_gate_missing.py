"""The shared expert's gate is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


@dataclass
class SharedGateMissing(Mutation):
    """The shared expert is added without its own gate."""

    bug: ClassVar[str] = "the shared expert's gate is left out"
    shows: ClassVar[str] = "the shared expert's output too large, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("pegainfer",)
    first_tap: ClassVar[str] = "layers.0.moe.out"
    remedy: ClassVar[str] = "multiply the shared expert by the sigmoid of its gate"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(_gates(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Let every gate's sigmoid be one."""
        return outputs_changed(_gates(model), lambda module, inputs, output: torch.full_like(output, torch.inf))


def _gates(model: Any) -> list[Any]:
    return parts.projections(model, "shared_expert_gate")
