"""The residual stream around attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from logitproof.mutations import Mutation, Record
from logitproof.mutations._residual import less, remembered
from logitproof.mutations.norm._norms import each_layer_has
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import inputs_changed, outputs_changed


class ResidualMissing(Mutation, id="attention.residual_missing"):
    """The residual stream is not added after attention."""

    record = Record(
        shows="the embedding of a token does not reach the MLP of the first layer; wrong at every position",
        first_tap="layers.0.residual",
        remedy="add what the norm before attention read to the output of attention",
        seen_in=("kyegomez/BitNet #32",),
    )

    def applies(self, config: Any) -> bool:
        """Layers with a norm before attention and one before the MLP."""
        return each_layer_has(config, "before_attention", "before_mlp")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Take the stream off what the MLP's norm reads and off every layer's output."""
        return _without_stream(parts.layers(model))


@contextmanager
def _without_stream(layers: list[Any]) -> Iterator[None]:
    named = [roles(layer) for layer in layers]
    places = {id(norms["before_mlp"]): place for place, norms in enumerate(named)}
    places |= {id(layer): place for place, layer in enumerate(layers)}
    with remembered([norms["before_attention"] for norms in named]) as kept:

        def read(norm: Any, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (args[0] - kept[places[id(norm)]], *args[1:]), options

        def out(layer: Any, inputs: Any, output: Any) -> Any:
            return less(output, kept[places[id(layer)]])

        with inputs_changed([norms["before_mlp"] for norms in named], read), outputs_changed(layers, out):
            yield
