"""Whole layers: left out, twice, in another order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations._tensors import Change, WrongTensors
from logitproof.reference import parts
from logitproof.reference.patches import outputs_changed


@dataclass
class _WrongTwins(WrongTensors):
    """A bug in two layers of the same shapes, the first two or those that are named: `loaded` says what each has."""

    first: int = -1
    second: int = -1

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every two layers of the same shapes."""
        shapes = [_shapes(layer) for layer in parts.layers(parts.skeleton(config))]
        for first, shape in enumerate(shapes):
            for second, partner in enumerate(shapes):
                if first != second and shape == partner:
                    yield {"first": first, "second": second}

    def changes(self, model: Any) -> list[Change]:
        """What the two have, or nothing where no two are alike."""
        layers = parts.layers(model)
        twins = _twins(model) if self.first < 0 else (layers[self.first], layers[self.second])
        return self.loaded(*(list(layer.parameters()) for layer in twins)) if twins else []

    def loaded(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> list[Change]:
        """The wrong values for parameters in one order."""
        raise NotImplementedError


class LastLayerSkipped(Mutation, id="weights.last_layer_skipped"):
    """The last layer is not run: the loop over the layers ends one too early."""

    record = Record(
        shows="exact before the last layer, then its input is its output",
        first_tap="layers.1.out",
        remedy="run num_hidden_layers layers",
        seen_in=("continual-inference #70",),
    )

    def applies(self, config: Any) -> bool:
        """Models with more layers than one."""
        return len(parts.layers(parts.skeleton(config))) > 1

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Return the last layer's input."""
        layer = parts.layers(model)[-1]
        return outputs_changed([layer], _unchanged)


class LayerSkipped(Mutation, id="weights.layer_skipped"):
    """A layer in the middle is not run, or all its weights are missing."""

    record = Record(
        shows="exact before the layer, then its input is its output",
        first_tap="layers.0.out",
        remedy="run every layer that the config counts",
    )
    layer: int = 0

    def applies(self, config: Any) -> bool:
        """Models with more layers than one."""
        return len(parts.layers(parts.skeleton(config))) > 1

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every layer."""
        yield from ({"layer": layer} for layer in range(config.num_hidden_layers))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Return the layer's input."""
        return outputs_changed([parts.layers(model)[self.layer]], _unchanged)


class LayerDuplicated(_WrongTwins, id="weights.layer_duplicated"):
    """A layer has the weights of an earlier layer, as when a shard is read twice."""

    record = Record(
        shows="exact before the layer, wrong from there on",
        first_tap="layers.1.attn_norm",
        remedy="read every shard once and check every tensor's name",
        seen_in=("vllm-gguf-plugin #103",),
    )

    def loaded(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> list[Change]:
        return [(second_tensor, first_tensor.data) for first_tensor, second_tensor in zip(first, second, strict=True)]


class LayersSwapped(_WrongTwins, id="weights.layers_swapped"):
    """Two layers are loaded in each other's place, as when names are sorted as text."""

    record = Record(
        shows="wrong from the first of the two on",
        first_tap="layers.0.attn_norm",
        remedy="sort layers by number, not by text",
    )

    def loaded(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> list[Change]:
        pairs = list(zip(first, second, strict=True))
        return [(first_tensor, second_tensor.data) for first_tensor, second_tensor in pairs] + [
            (second_tensor, first_tensor.data) for first_tensor, second_tensor in pairs
        ]


@dataclass
class _TensorOfTwins(_WrongTwins):
    """The same in one tensor of the two alone, that whose name ends so."""

    tensor: str = "v_proj.weight"

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Every tensor of every two layers of the same shapes."""
        layers = parts.layers(parts.skeleton(config))
        names = dict.fromkeys(name for layer in layers for name, _ in layer.named_parameters())
        for pair in super().instances(config, token_ids):
            here = dict(layers[pair["first"]].named_parameters())
            yield from ({**pair, "tensor": name} for name in names if name in here)

    def changes(self, model: Any) -> list[Change]:
        """What the two have in that tensor, or nothing where no two are alike or have it."""
        layers = parts.layers(model)
        twins = _twins(model) if self.first < 0 else (layers[self.first], layers[self.second])
        return self.loaded(*([_ending(layer, self.tensor)] for layer in twins)) if twins and _has(twins, self.tensor) else []


class TensorOfAnotherLayer(_TensorOfTwins, id="weights.tensor_of_another_layer"):
    """One tensor of a layer holds the values of the same tensor of another layer."""

    record = Record(
        shows="exact before the layer, wrong from there on",
        first_tap="layers.1.attn.v_proj",
        remedy="check every tensor's name and offset, also those of a file that another process writes",
    )

    def loaded(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> list[Change]:
        return [(second_tensor, first_tensor.data) for first_tensor, second_tensor in zip(first, second, strict=True)]


class TensorsExchanged(_TensorOfTwins, id="weights.tensors_exchanged"):
    """One tensor of a layer and the same tensor of another layer are loaded in each other's place."""

    record = Record(
        shows="wrong from the first of the two layers on",
        first_tap="layers.0.attn.v_proj",
        remedy="check every tensor's name and offset",
    )

    def instances(self, config: Any, token_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Each pair once."""
        yield from (place for place in super().instances(config, token_ids) if place["first"] < place["second"])

    def loaded(self, first: list[torch.Tensor], second: list[torch.Tensor]) -> list[Change]:
        pairs = list(zip(first, second, strict=True))
        return [(first_tensor, second_tensor.data) for first_tensor, second_tensor in pairs] + [
            (second_tensor, first_tensor.data) for first_tensor, second_tensor in pairs
        ]


def _ending(layer: Any, tensor: str) -> torch.Tensor:
    return next(parameter for name, parameter in layer.named_parameters() if f".{name}".endswith(f".{tensor}"))


def _has(twins: Sequence[Any], tensor: str) -> bool:
    return all(any(f".{name}".endswith(f".{tensor}") for name, _ in layer.named_parameters()) for layer in twins)


def _unchanged(layer: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]


def _twins(model: Any) -> tuple[Any, Any] | None:
    """The first two layers of the same shapes."""
    layers = parts.layers(model)
    for index, first in enumerate(layers):
        for second in layers[index + 1 :]:
            if _shapes(first) == _shapes(second):
                return first, second
    return None


def _shapes(layer: Any) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in layer.named_parameters()}
