"""The output of attention replaces the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations._residual import less, remembered
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import inputs_changed, outputs_changed


@dataclass
class ResidualMissing(Mutation):
    """The stream before attention is not added to its output."""

    bug: ClassVar[str] = "the residual stream is not added after attention"
    shows: ClassVar[str] = "the embedding of a token does not reach the MLP of the first layer; wrong at every position"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.residual"
    remedy: ClassVar[str] = "add what the norm before attention read to the output of attention"

    def applies(self, config: Any) -> bool:
        """Layers with a norm before attention and one before the MLP."""
        return all({"before_attention", "before_mlp"} <= set(roles(layer)) for layer in parts.layers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Take the stream off what the MLP's norm reads and off every layer's output."""
        return _without_stream(parts.layers(model))


@contextmanager
def _without_stream(layers: list[Any]) -> Iterator[None]:
    found = [roles(layer) for layer in layers]
    places = {id(one["before_mlp"]): place for place, one in enumerate(found)}
    places |= {id(layer): place for place, layer in enumerate(layers)}
    with remembered([one["before_attention"] for one in found]) as kept:

        def read(norm: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (args[0] - kept[places[id(norm)]], *args[1:]), named

        def out(layer: Any, inputs: Any, output: Any) -> Any:
            return less(output, kept[places[id(layer)]])

        with inputs_changed([one["before_mlp"] for one in found], read), outputs_changed(layers, out):
            yield
