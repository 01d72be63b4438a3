"""Keys and values that later layers share, and values that are keys (Gemma 4)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations.attention._interface import Out, WrongAttention
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced, outputs_changed


class _WrongShared(Mutation):
    """Layers that attend to keys and values of another layer than they should: subclasses name it in `lender`."""

    def applies(self, config: Any) -> bool:
        """Models whose later layers have no keys and values of their own, and another layer to take them from."""
        attentions = parts.attentions(parts.skeleton(config))
        return any(self.lender(attentions, attention) is not None for attention in attentions if _borrows(attention))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Have the other layer lend, and the right one not."""
        attentions = parts.attentions(model)
        changes: list[tuple[Any, str, Any]] = []
        for borrower in (attention for attention in attentions if _borrows(attention)):
            wrong = self.lender(attentions, borrower)
            if wrong is not None:
                right = next(attention for attention in attentions if _lends(attention, borrower.layer_type))
                changes += [(right, "store_full_length_kv", False), (wrong, "store_full_length_kv", True)]
        return attributes_replaced(changes)

    def lender(self, attentions: list[Any], borrower: Any) -> Any:
        """The wrong layer, of the same kind, or None where there is none."""
        raise NotImplementedError


class SharedOfFirst(_WrongShared, id="attention.shared_keys_of_first_layer"):
    """Layers that share keys and values take those of the first layer of their kind, not of the last that has its own."""

    record = Record(
        shows="wrong from position 0 on, from the first layer that shares",
        first_tap="layers.0.attn.context",
        remedy="share with the last layer of the same kind before the shared ones",
        seen_in=("Rapid-MLX #1104", "mlx-swift-lm #201"),
    )

    def lender(self, attentions: list[Any], borrower: Any) -> Any:
        own = [attention for attention in attentions if not _borrows(attention) and attention.layer_type == borrower.layer_type]
        return own[0] if len(own) > 1 else None


class SharedOverwritten(WrongAttention, id="attention.shared_keys_overwritten"):
    """A layer that shares keys and values writes keys of its own queries over the shared ones."""

    record = Record(
        shows="wrong from position 0 on, from the first layer that shares",
        first_tap="layers.0.attn.scores",
        remedy="a layer that shares writes nothing into the cache",
        seen_in=("vllm-ascend #11791",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose later layers have no keys and values of their own."""
        return super().applies(config) and any(map(_borrows, parts.attentions(parts.skeleton(config))))

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        if not _borrows(module):
            return right(module, q, k, v, mask, **rest)
        written = torch.cat([k[:, :, : k.shape[2] - q.shape[2]], q[:, :: q.shape[1] // k.shape[1]]], dim=2)
        return right(module, q, written, v, mask, **rest)


class ScaledByHeadSize(WrongAttention, id="attention.scale_of_head_size_invented"):
    """Scores are divided by the root of the head size in a family whose normalized queries and keys are not."""

    record = Record(
        shows="position 0 exact, too flat from position 1 on",
        first_tap="layers.0.attn.scores",
        remedy="multiply scores by 1 where queries and keys are normalized and the config says so",
        seen_in=("mlc-llm #3485",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose scores are not scaled."""
        return super().applies(config) and all(
            getattr(attention, "scaling", None) == 1.0 for attention in parts.attentions(parts.skeleton(config))
        )

    def attend(
        self, right: Callable[..., Out], module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any
    ) -> Out:
        return right(module, q, k, v, mask, **{**rest, "scaling": q.shape[-1] ** -0.5})


class ValuesNotNormed(Mutation, id="attention.values_not_normalized"):
    """The norm of the values, which has no weight, is left out."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.attn.context",
        remedy="normalize values by head, without a weight",
        seen_in=("pegainfer #758",),
    )

    def applies(self, config: Any) -> bool:
        """Models that normalize values."""
        return bool(_value_norms(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        return outputs_changed(_value_norms(model), lambda _, inputs, out: inputs[0])


class ValuesAreNormedKeys(Mutation, id="attention.values_are_normed_keys"):
    """Where one matrix makes keys and values, values are the keys behind their norm and its weight."""

    record = Record(
        shows="wrong from position 0 on",
        first_tap="layers.0.attn.context",
        remedy="take values from what the matrix gives, before the norm of the keys",
        seen_in=("pegainfer #758",),
    )

    def applies(self, config: Any) -> bool:
        """Models whose values are what makes the keys."""
        return bool(_joined(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        changes = [
            (
                attention.v_norm,
                "forward",
                lambda x, norm=attention.v_norm, keys=attention.k_norm: type(norm).forward(norm, type(keys).forward(keys, x)),
            )
            for attention in _joined(model)
        ]
        return attributes_replaced(changes)


def _borrows(attention: Any) -> bool:
    return bool(getattr(attention, "is_kv_shared_layer", False))


def _lends(attention: Any, kind: str) -> bool:
    return bool(getattr(attention, "store_full_length_kv", False)) and attention.layer_type == kind


def _value_norms(model: Any) -> list[Any]:
    norms = [getattr(attention, "v_norm", None) for attention in parts.attentions(model)]
    return [norm for norm in norms if isinstance(norm, torch.nn.Module)]


def _joined(model: Any) -> list[Any]:
    return [attention for attention in parts.attentions(model) if getattr(attention, "use_alternative_attention", False)]
