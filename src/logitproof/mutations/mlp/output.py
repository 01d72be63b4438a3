"""What the MLP adds to the residual stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations._residual import less, remembered
from logitproof.mutations._tensors import ZeroTensors
from logitproof.mutations.norm._norms import each_layer_has
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import outputs_changed


class DownBiasDropped(ZeroTensors, id="mlp.down_bias_dropped"):
    """The bias of the MLP's down projection is dropped."""

    record = Record(
        shows="the same error added at every position, from the first MLP on",
        first_tap="layers.0.mlp.out",
        remedy="load the bias of down_proj where the checkpoint has one",
        seen_in=("mlc-llm #3494", "LlamaFactory #3721"),
    )

    def affected(self, model: Any) -> list[torch.Tensor]:
        biases = parts.parameters(model, "down_proj.bias") + parts.parameters(model, "experts.down_proj_bias")
        return [bias for _, bias in biases]


class OutputDoubled(Mutation, id="mlp.output_doubled"):
    """The MLP's output is added once per rank although it was not sharded."""

    record = Record(
        shows="the MLP's output exactly ranks times too large, at every position",
        first_tap="layers.0.mlp.out",
        remedy="shard the MLP, or leave its reduction out",
        seen_in=("tokenspeed #80",),
    )
    ranks: int = swept(2, grid=(2, 4, 8))

    def applies(self, config: Any) -> bool:
        """Not where the MLP's output is normalized, which undoes any factor."""
        layers = parts.layers(parts.skeleton(config))
        alone = all(parts.feed_forward(layer) is not None for layer in layers)
        return alone and not any("post_feedforward_layernorm" in layer._modules for layer in layers)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Multiply what every layer's MLP returns."""
        return outputs_changed([parts.feed_forward(layer) for layer in parts.layers(model)], self._multiplied)

    def _multiplied(self, module: Any, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * self.ranks, *output[1:])
        return output * self.ranks


class ResidualMissing(Mutation, id="mlp.residual_missing"):
    """The residual stream is not added after the MLP."""

    record = Record(
        shows="the first layer's output is the MLP's alone; the stream does not grow with the layers",
        first_tap="layers.0.out",
        remedy="add what the norm before the MLP read to the MLP's output",
        seen_in=("facebookresearch/multimodal #305",),
    )

    def applies(self, config: Any) -> bool:
        """Layers with a norm before the MLP."""
        return each_layer_has(config, "before_mlp")

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Take the stream off every layer's output."""
        return _without_stream(parts.layers(model))


@contextmanager
def _without_stream(layers: list[Any]) -> Iterator[None]:
    with remembered([roles(layer)["before_mlp"] for layer in layers]) as kept:
        places = {id(layer): place for place, layer in enumerate(layers)}
        with outputs_changed(layers, lambda layer, inputs, output: less(output, kept[places[id(layer)]])):
            yield
