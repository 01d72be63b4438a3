"""The MLP's output replaces the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations._residual import less, remembered
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import outputs_changed


@dataclass
class ResidualMissing(Mutation):
    """The stream before the MLP is not added to its output."""

    bug: ClassVar[str] = "the residual stream is not added after the MLP"
    shows: ClassVar[str] = "the first layer's output is the MLP's alone; the stream does not grow with the layers"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.out"
    remedy: ClassVar[str] = "add what the norm before the MLP read to the MLP's output"

    def applies(self, config: Any) -> bool:
        """Layers with a norm before the MLP."""
        return all("before_mlp" in roles(layer) for layer in parts.layers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Take the stream off every layer's output."""
        return _without_stream(parts.layers(model))


@contextmanager
def _without_stream(layers: list[Any]) -> Iterator[None]:
    with remembered([roles(layer)["before_mlp"] for layer in layers]) as kept:
        places = {id(layer): place for place, layer in enumerate(layers)}
        with outputs_changed(layers, lambda layer, inputs, output: less(output, kept[places[id(layer)]])):
            yield
