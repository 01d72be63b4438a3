"""Alternating updates: streams that are predicted, one that is computed, and all corrected by it."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed, tensors_replaced


class _WrongStreams(Mutation):
    """A bug of models that have several streams."""

    def applies(self, config: Any) -> bool:
        """Models with alternating updates."""
        return bool(updates(parts.skeleton(config)))


class PredictionTransposed(_WrongStreams, id="streams.prediction_transposed"):
    """The coefficients of the prediction are read with the stream that is read and the stream that is made exchanged."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.attn_norm",
        remedy="row i of the coefficients makes stream i",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        changes = []
        for update in updates(model):
            weight, count = update.prediction_coefs.weight, int(update.config.altup_num_inputs)
            changes.append((weight, weight.unflatten(0, (count, count)).transpose(0, 1).flatten(0, 1)))
        return tensors_replaced(changes)


class PredictionSkipped(_WrongStreams, id="streams.prediction_skipped"):
    """Layers read the streams as they are, not what is predicted of them."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.attn_norm",
        remedy="add to each stream the mixture of all that the active one chooses",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(update, "predict", lambda streams: streams) for update in updates(model)])


class CorrectionOfActiveAlone(_WrongStreams, id="streams.correction_of_one"):
    """Only the stream that was computed is corrected, the others stay as they were predicted."""

    record = Record(
        shows="wrong from position 0 on, from the second layer on",
        first_tap="layers.0.out",
        remedy="correct every stream by its share of the result",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced(
            [(update, "correct", functools.partial(self._correct, update, update.correct)) for update in updates(model)]
        )

    def _correct(self, update: Any, right: Any, predictions: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
        active, made = update.config.altup_active_idx, predictions.clone()
        made[active] = right(predictions, activated)[active]
        return made


class CorrectionWithoutOne(_WrongStreams, id="streams.correction_without_one"):
    """The coefficients of the correction are taken as they are: nothing is added to them."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.out",
        remedy="add one to the coefficients of the correction",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return outputs_changed([update.correction_coefs for update in updates(model)], lambda _, inputs, out: out - 1)


class OrderSwapped(_WrongStreams, id="streams.order_swapped"):
    """The matrices that make the second and the third stream are mistaken for each other."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.attn_norm",
        remedy="altup_projections.0 makes the stream behind the embedding",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        first, second, *_ = (projection.weight for projection in parts.decoder(model).altup_projections)
        return tensors_replaced([(first, second.detach().clone()), (second, first.detach().clone())])


class RouterNotScaled(_WrongStreams, id="streams.router_not_scaled"):
    """What chooses the coefficients is not divided by the hidden size, so that its tanh is full."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.attn_norm",
        remedy="multiply the router's input by 1/hidden_size",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return tensors_replaced(
            [(update.router_input_scale, torch.ones_like(update.router_input_scale)) for update in updates(model)]
        )


class OutputScaleMissing(_WrongStreams, id="streams.output_scale_missing"):
    """What gates the embedding of a layer is not multiplied by correct_output_scale."""

    record = Record(
        shows="wrong from position 0 on, from the second layer on",
        first_tap="layers.0.out",
        remedy="multiply the corrected stream before per_layer_input_gate",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        scales = [update.correct_output_scale for update in updates(model)]
        return tensors_replaced([(scale, torch.ones_like(scale)) for scale in scales])


class FirstStreamAlone(_WrongStreams, id="streams.first_alone_read"):
    """Logits are read from the first stream, not from the mean of all."""

    record = Record(
        shows="wrong from position 0 on, in the last step alone",
        first_tap="norm",
        remedy="bring every stream to the size of the first by its own matrix, and take the mean",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norm, kept = parts.decoder(model).norm, list[torch.Tensor]()
        stack = ExitStack()
        stack.enter_context(outputs_changed([parts.layers(model)[-1]], lambda _, inputs, out: _kept(kept, out)))
        stack.enter_context(attributes_replaced([(norm, "forward", lambda _: type(norm).forward(norm, kept.pop()))]))
        return stack


def _kept(kept: list[torch.Tensor], streams: torch.Tensor) -> torch.Tensor:
    kept.append(streams[0])
    return streams


class LaurelSkipped(_WrongStreams, id="streams.laurel_skipped"):
    """What the low-rank path adds beside attention is left out; what attention read is still added."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.residual",
        remedy="add the normalized product of the two low-rank matrices",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return attributes_replaced([(layer.laurel, "forward", lambda x: x) for layer in parts.layers(model)])


class LaurelWithoutInput(_WrongStreams, id="streams.laurel_without_input"):
    """The low-rank path gives its product alone, without what it read."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.residual",
        remedy="the path is a residual of its own: add what it read",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return outputs_changed([layer.laurel for layer in parts.layers(model)], lambda _, inputs, out: out - inputs[0])


class LaurelBehindNorm(_WrongStreams, id="streams.laurel_not_normalized"):
    """The product of the two low-rank matrices is added without its norm."""

    record = Record(
        shows="wrong from position 0 on, from the first layer on",
        first_tap="layers.0.residual",
        remedy="apply post_laurel_norm before the sum",
    )

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        norms = [layer.laurel.post_laurel_norm for layer in parts.layers(model)]
        return outputs_changed(norms, lambda _, inputs, out: inputs[0])


def updates(model: Any) -> list[Any]:
    """The alternating updates of every layer."""
    return [layer.altup for layer in parts.layers(model) if "altup" in layer._modules]
