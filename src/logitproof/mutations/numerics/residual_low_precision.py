"""The residual stream is kept in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations._precision import rounded
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


@dataclass
class ResidualLowPrecision(Mutation):
    """The residual stream is kept in bfloat16."""

    bug: ClassVar[str] = "what a layer adds is lost in the rounding of the residual stream"
    shows: ClassVar[str] = "slow, grows with depth"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.out"
    remedy: ClassVar[str] = "keep the residual stream in float32"

    bits: int = 8

    def applies(self, config: Any) -> bool:
        """Every decoder."""
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Round what every layer returns to so many significant bits: 8 is bfloat16, 11 float16."""

        def change(layer: Any, inputs: tuple[Any, ...], out: Any) -> Any:
            return (rounded(out[0], self.bits), *out[1:]) if isinstance(out, tuple) else rounded(out, self.bits)

        return outputs_changed(parts.layers(model), change)
