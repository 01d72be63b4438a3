"""The last layer is not run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


@dataclass
class LastLayerSkipped(Mutation):
    """The loop over the layers ends one too early."""

    bug: ClassVar[str] = "the last layer is not run"
    shows: ClassVar[str] = "exact before the last layer, then its input is its output"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.1.out"
    remedy: ClassVar[str] = "run num_hidden_layers layers"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return len(parts.layers(parts.skeleton(config))) > 1

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Return the last layer's input."""
        layer = parts.layers(model)[-1]
        return outputs_changed([layer], _unchanged)


def _unchanged(layer: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]
