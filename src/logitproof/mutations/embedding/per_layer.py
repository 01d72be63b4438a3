"""Embeddings of a token for every layer, and the factor that each layer ends with (Gemma 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed, tensors_replaced


class _WrongPerLayer(Mutation):
    """A bug in the embeddings of every layer."""

    def applies(self, config: Any) -> bool:
        """Models with such embeddings."""
        return bool(getattr(config, "hidden_size_per_layer_input", 0)) and _has_gates(parts.skeleton(config))


class PerLayerSkipped(_WrongPerLayer, id="embedding.per_layer_skipped"):
    """What the embedding of a layer adds to its end is left out."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="gate the layer's output by its own embedding of the token and add it",
        seen_in=("quant.cpp #96",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norms = [layer.post_per_layer_input_norm for layer in parts.layers(model)]
        return outputs_changed(norms, lambda _, inputs, out: torch.zeros_like(out))


class PerLayerScaleMissing(_WrongPerLayer, id="embedding.per_layer_scale_missing"):
    """Embeddings of every layer are not multiplied by the root of their width."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="multiply by sqrt(hidden_size_per_layer_input)",
        seen_in=("mlx-vlm #893",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        root = float(model.config.hidden_size_per_layer_input) ** 0.5
        return outputs_changed([parts.decoder(model).embed_tokens_per_layer], lambda _, inputs, out: out / root)


class PerLayerWithoutContext(_WrongPerLayer, id="embedding.per_layer_projection_missing"):
    """The projection of the token's embedding is not added to those of every layer."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="add the normalized projection of the embedding, then divide by the root of two",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norm = parts.decoder(model).per_layer_projection_norm
        return outputs_changed([norm], lambda _, inputs, out: torch.zeros_like(out))


class PerLayerHalfMissing(_WrongPerLayer, id="embedding.per_layer_root_of_two_missing"):
    """The sum of both parts of a layer's embedding is not divided by the root of two."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="multiply the sum by 1/sqrt(2)",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        scale = parts.decoder(model).per_layer_input_scale
        if isinstance(scale, torch.Tensor):
            return tensors_replaced([(scale, torch.ones_like(scale))])
        return attributes_replaced([(parts.decoder(model), "per_layer_input_scale", 1.0)])


class PerLayerNotGated(_WrongPerLayer, id="embedding.per_layer_gate_linear"):
    """The gate of a layer's embedding has no activation."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="apply the family's activation to the gate",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(layer, "act_fn", torch.nn.Identity()) for layer in parts.layers(model)])


class PerLayerInterleaved(_WrongPerLayer, id="embedding.per_layer_interleaved"):
    """The table of every layer's embeddings is read as if the layers stood side by side within each of its columns."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="the row of a token is one layer's embedding after the other",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        layers, width = model.config.num_hidden_layers, model.config.hidden_size_per_layer_input
        table = parts.decoder(model).embed_tokens_per_layer.weight
        wrong = table.data.reshape(len(table), width, layers).swapaxes(1, 2).reshape(table.shape)
        return tensors_replaced([(table, wrong)])


class PerLayerOfNext(_WrongPerLayer, id="embedding.per_layer_of_next_layer"):
    """Every layer takes the embedding of the layer behind it."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="count layers from zero in the table of every layer's embeddings",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        table = parts.decoder(model).embed_tokens_per_layer.weight
        return tensors_replaced([(table, table.data.roll(-model.config.hidden_size_per_layer_input, dims=1))])


class _WrongFactor(Mutation):
    """A bug in the factor that each layer ends with."""

    def applies(self, config: Any) -> bool:
        """Models with such factors."""
        return all("layer_scalar" in layer._buffers for layer in parts.layers(parts.skeleton(config)))


class LayerFactorMissing(_WrongFactor, id="embedding.layer_factor_missing"):
    """The factor at the end of each layer is left out."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="load layer_scalar of each layer and multiply the layer's output by it",
        seen_in=("quant.cpp #96",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        factors = [layer.layer_scalar for layer in parts.layers(model)]
        return tensors_replaced([(factor, torch.ones_like(factor)) for factor in factors])


class LayerFactorOfAdded(_WrongFactor, id="embedding.layer_factor_of_what_is_added"):
    """The factor at the end of a layer multiplies what the layer adds, and not the whole residual stream."""

    record = Record(
        shows="wrong at every position from the first layer on",
        first_tap="layers.0.out",
        remedy="multiply the residual stream itself",
        seen_in=("quant.cpp #96",),
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return outputs_changed(parts.layers(model), _of_added)


def _of_added(layer: Any, inputs: tuple[Any, ...], out: torch.Tensor) -> torch.Tensor:
    return out + inputs[0] * (1 - layer.layer_scalar)


def _has_gates(model: Any) -> bool:
    return all("per_layer_input_gate" in layer._modules for layer in parts.layers(model))
