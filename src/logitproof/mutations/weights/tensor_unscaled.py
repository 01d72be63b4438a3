"""One tensor's block scales are not applied."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class TensorUnscaled(Mutation):
    """One quantized tensor is used without its scales: the codes of its Q8_0 blocks are the weights."""

    bug: ClassVar[str] = "one tensor's block scales are not applied"
    shows: ClassVar[str] = "exact before its layer, then huge activations"
    seen_in: ClassVar[tuple[str, ...]] = ("paiml #231", "flashinfer #3398")
    first_tap: ClassVar[str] = "layers.0.attn.v_proj"
    remedy: ClassVar[str] = "multiply every block by its scale"
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
        return tensors_replaced([(one, _codes(one.data)) for one in self._found(model)])

    def _found(self, model: Any) -> list[torch.Tensor]:
        return [one for _, one in parts.parameters(model, self.tensor, self.layer)]


def _codes(weight: torch.Tensor) -> torch.Tensor:
    """The int8 codes of Q8_0 as numbers; the last block of a row may be short."""
    blocks = torch.nn.functional.pad(weight, (0, -weight.shape[-1] % 32)).unflatten(-1, (-1, 32))
    scale = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    return (blocks / scale).round().flatten(-2)[..., : weight.shape[-1]]
