"""One tensor is not loaded and is zero."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class TensorDropped(Mutation):
    """One tensor of one layer is not loaded and stays zero."""

    bug: ClassVar[str] = "one tensor is not loaded and is zero"
    shows: ClassVar[str] = "exact before its layer, wrong from there on"
    seen_in: ClassVar[tuple[str, ...]] = ("paiml #231", "vllm-gguf-plugin #103")
    first_tap: ClassVar[str] = "layers.0.attn.v_proj"
    remedy: ClassVar[str] = "refuse to run with a tensor missing"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {
        "tensor": ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "up_proj.weight", "down_proj.weight"),
        "layer": (0, 1),
    }

    tensor: str = "v_proj.weight"
    layer: int = 0

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(self._found(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change the tensor of that one layer."""
        return tensors_replaced([(one, torch.zeros_like(one)) for one in self._found(model)])

    def _found(self, model: Any) -> list[torch.Tensor]:
        return [one for _, one in parts.parameters(model, self.tensor, self.layer)]
