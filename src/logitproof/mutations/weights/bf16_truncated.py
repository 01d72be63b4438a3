"""Float32 weights are truncated to bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation
from logitproof.reference.patches import tensors_replaced


@dataclass
class Bf16Truncated(Mutation):
    """float32 weights are cut to bfloat16 by dropping bits instead of rounding."""

    bug: ClassVar[str] = "float32 weights are truncated to bfloat16"
    shows: ClassVar[str] = "every weight slightly too small in size: a scale error, slow, growing with depth"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "embedding"
    remedy: ClassVar[str] = "round to nearest even"

    def applies(self, config: Any) -> bool:
        """Checkpoints that are not in bfloat16 already."""
        return str(config.dtype) not in ("torch.bfloat16", "bfloat16")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Cut every parameter."""
        return tensors_replaced([(one, _truncated(one.data)) for one in model.parameters()])


def _truncated(weight: torch.Tensor) -> torch.Tensor:
    bits = weight.float().contiguous().view(torch.int32)
    return (bits & -65536).view(torch.float32)
