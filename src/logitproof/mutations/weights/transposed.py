"""A projection's matrix is read in transposed order."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_replaced


@dataclass
class Transposed(Mutation):
    """A matrix is stored in one order of axes and read in the other.

    A square one is transposed; one that is not square is scrambled.
    """

    bug: ClassVar[str] = "a projection's matrix is read in transposed order"
    shows: ClassVar[str] = "gibberish, every position, from the first layer on"
    seen_in: ClassVar[tuple[str, ...]] = ("nntile #370", "aprender #155")
    first_tap: ClassVar[str] = "layers.0.attn.q_proj"
    remedy: ClassVar[str] = "keep PyTorch's [out, in] order, and transpose Conv1D weights only"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {
        "projection": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj")
    }

    projection: str = "q_proj"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return bool(parts.projections(parts.skeleton(config), self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Read the memory of the transposed matrix of every layer."""
        found = [one.weight for one in parts.projections(model, self.projection)]
        return tensors_replaced([(one, one.T.contiguous().view(one.shape)) for one in found])
