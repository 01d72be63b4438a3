"""The shared expert is left out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


@dataclass
class SharedExpertMissing(Mutation):
    """The expert that every token uses is left out."""

    bug: ClassVar[str] = "the shared expert is left out"
    shows: ClassVar[str] = "MoE outputs lack one term, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("pegainfer",)
    first_tap: ClassVar[str] = "layers.0.moe.shared"
    remedy: ClassVar[str] = "add the shared expert's output"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(_shared(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return outputs_changed(_shared(model), lambda module, inputs, output: torch.zeros_like(output))


def _shared(model: Any) -> list[Any]:
    names = ("shared_expert", "shared_experts")
    return [one for name, one in model.named_modules() if name.rpartition(".")[2] in names]
