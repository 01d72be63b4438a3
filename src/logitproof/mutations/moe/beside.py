"""Experts beside a dense block, chosen by a router with a scale and followed by a factor of each expert (Gemma 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, inputs_changed, outputs_changed, tensors_replaced


class _WrongBeside(Mutation):
    """A bug of layers that have experts and a dense block."""

    def applies(self, config: Any) -> bool:
        """Models with such layers."""
        return bool(_layers(parts.skeleton(config)))


class ExpertScaleMissing(_WrongBeside, id="moe.scale_of_expert_missing"):
    """What an expert gives is not multiplied by the expert's own factor."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.moe.weights",
        remedy="multiply each chosen weight by per_expert_scale, or fold it into the down projection",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        factors = [layer.router.per_expert_scale for layer in _layers(model)]
        return tensors_replaced([(factor, torch.ones_like(factor)) for factor in factors])


class RouterScaleMissing(_WrongBeside, id="moe.scale_of_router_missing"):
    """The router's input is not multiplied by its scale."""

    record = Record(
        shows="discrete: other experts at some positions",
        first_tap="layers.0.moe.router",
        remedy="load router.scale of each layer",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        scales = [layer.router.scale for layer in _layers(model)]
        return tensors_replaced([(scale, torch.ones_like(scale)) for scale in scales])


class RouterRootMissing(_WrongBeside, id="moe.root_of_router_missing"):
    """The router's input is not divided by the root of the hidden size."""

    record = Record(
        shows="shares far too sharp",
        first_tap="layers.0.moe.router",
        remedy="multiply the router's input by 1/sqrt(hidden_size)",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(layer.router, "scalar_root_size", 1.0) for layer in _layers(model)])


class RouterReadsDense(_WrongBeside, id="moe.router_reads_norm_of_dense_block"):
    """The router reads the norm before the dense block, and not the residual stream by a norm of its own."""

    record = Record(
        shows="discrete: other experts at some positions",
        first_tap="layers.0.moe.router",
        remedy="give the router the residual stream, which it normalizes without a weight",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        before = {layer.router: layer.pre_feedforward_layernorm for layer in _layers(model)}
        return inputs_changed(before, lambda router, args, named: ((before[router](args[0]), *args[1:]), named))


class DenseBlockMissing(_WrongBeside, id="moe.dense_block_missing"):
    """What the dense block beside the experts gives is left out."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.out",
        remedy="add what the dense block gives, behind its own norm, to what the experts give",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norms = [layer.post_feedforward_layernorm_1 for layer in _layers(model)]
        return outputs_changed(norms, lambda _, inputs, out: torch.zeros_like(out))


def _layers(model: Any) -> list[Any]:
    return [layer for layer in parts.layers(model) if hasattr(getattr(layer, "router", None), "per_expert_scale")]
