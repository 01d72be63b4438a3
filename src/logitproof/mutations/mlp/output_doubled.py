"""The MLP's output is added once per rank although it was not sharded."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


@dataclass
class OutputDoubled(Mutation):
    """Every rank computes the whole MLP and the sum over two ranks doubles it."""

    bug: ClassVar[str] = "the MLP's output is added once per rank although it was not sharded"
    shows: ClassVar[str] = "the MLP's output exactly ranks times too large, at every position"
    seen_in: ClassVar[tuple[str, ...]] = ("tokenspeed #80",)
    first_tap: ClassVar[str] = "layers.0.mlp.out"
    remedy: ClassVar[str] = "shard the MLP, or leave its reduction out"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"ranks": (2, 4, 8)}

    ranks: int = 2

    def applies(self, config: Any) -> bool:
        """Not where the MLP's output is normalized, which undoes any factor."""
        found = parts.layers(parts.skeleton(config))
        return not any("post_feedforward_layernorm" in layer._modules for layer in found)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return outputs_changed([layer.mlp for layer in parts.layers(model)], self._multiplied)

    def _multiplied(self, module: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * self.ranks, *output[1:])
        return output * self.ranks
