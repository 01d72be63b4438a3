"""The norms of a layer and the last one: left out, in another place, with the weight of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.mutations.norm._norms import (
    MissingNorm,
    WrongNorm,
    WrongRole,
    divided,
    each_layer_has,
    eps,
    forward_replaced,
    normalized,
)
from logitproof.reference import parts
from logitproof.reference.parts import roles
from logitproof.reference.patches import attributes_replaced, outputs_changed, tensors_replaced


class AttentionMissing(WrongRole, MissingNorm, id="norm.attention_missing"):
    """The norm before attention is left out."""

    record = Record(
        shows="a jump at the first layer; the residual stream grows",
        first_tap="layers.0.attn_norm",
        remedy="normalize before attention",
    )
    role = "before_attention"


class MlpMissing(WrongRole, MissingNorm, id="norm.mlp_missing"):
    """The norm before the MLP is left out."""

    record = Record(
        shows="a jump at the first layer; the residual stream grows",
        first_tap="layers.0.ffn_norm",
        remedy="normalize before the MLP",
    )
    role = "before_mlp"


class PostAttentionMissing(WrongRole, MissingNorm, id="norm.post_attention_missing"):
    """The norm after attention, before the residual is added, is left out."""

    record = Record(
        shows="a jump at the first layer; the residual stream grows",
        first_tap="layers.0.attn_post_norm",
        remedy="normalize after attention",
    )
    role = "after_attention"


class PostMlpMissing(WrongRole, MissingNorm, id="norm.post_mlp_missing"):
    """The norm after the MLP is left out."""

    record = Record(
        shows="a jump at the first layer; the residual stream grows",
        first_tap="layers.0.mlp_post_norm",
        remedy="normalize after the MLP",
        seen_in=("tt-metal #22808",),
    )
    role = "after_mlp"


class FinalMissing(MissingNorm, id="norm.final_missing"):
    """The norm before the head is left out."""

    record = Record(
        shows="every layer exact, the logits off by a scale",
        first_tap="norm",
        remedy="normalize before the head",
        seen_in=("awslabs/keys_values #139",),
    )
    names = ("norm",)


class FinalTwice(WrongNorm, id="norm.final_twice"):
    """The norm before the head is applied twice."""

    record = Record(
        shows="every layer exact, logits wrong by the last weight; nothing if the second norm has no weight",
        first_tap="norm",
        remedy="normalize once before the head",
        seen_in=("llama.cpp #1925",),
    )
    names = ("norm",)

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return normalized(norm, normalized(norm, x))


class MlpBesideAttention(Mutation, id="norm.mlp_beside_attention"):
    """Attention and MLP stand side by side: the norm before the MLP reads the layer's input, not the sum after attention."""

    record = Record(
        shows="attention of the first layer exact, wrong from its MLP on, at every position",
        first_tap="layers.0.ffn_norm",
        remedy="add attention to the residual stream before the MLP's norm reads it",
        seen_in=("QWen2-from_ground_up #2",),
    )

    def applies(self, config: Any) -> bool:
        """Layers that have a norm before attention and one before the MLP."""
        return each_layer_has(config, "before_attention", "before_mlp")

    def applied_to(self, model: Any) -> AbstractContextManager[None]:
        """Hand what the first norm reads to the second."""
        return attributes_replaced([change for layer in parts.layers(model) for change in _side_by_side(roles(layer))])


class MlpTakesAttentionWeight(Mutation, id="norm.mlp_takes_attention_weight"):
    """The norm before the MLP has the weight of the norm after attention (post_attention_layernorm)."""

    record = Record(
        shows="attention exact, wrong from the first MLP on",
        first_tap="layers.0.ffn_norm",
        remedy="where a layer has pre_feedforward_layernorm, that is the norm before the MLP",
        seen_in=("Megatron-Bridge #4200", "torchtune #1835"),
    )

    def applies(self, config: Any) -> bool:
        """Models with a norm after attention and another one before the MLP."""
        return each_layer_has(config, "after_attention", "before_mlp")

    def applied_to(self, model: Any) -> AbstractContextManager[None]:
        """Load the one weight into both."""
        named = map(roles, parts.layers(model))
        return tensors_replaced([(norms["before_mlp"].weight, norms["after_attention"].weight) for norms in named])


class PostForPre(Mutation, id="norm.post_for_pre"):
    """The norms of a layer stand after its blocks: what attention and the MLP give is normalized, not what they get."""

    record = Record(
        shows="gibberish from the first layer on",
        first_tap="layers.0.attn_norm",
        remedy="normalize before attention and before the MLP, and add to the residual what they give",
    )

    def applies(self, config: Any) -> bool:
        """Models with norms before both blocks and none after them."""
        layers = parts.layers(parts.skeleton(config))
        mixed = all({"self_attn", "linear_attn"} & set(layer._modules) and "mamba" not in layer._modules for layer in layers)
        apart = all(set(roles(layer)) == {"before_attention", "before_mlp"} for layer in layers)
        return mixed and apart and all(parts.feed_forward(layer) is not None for layer in layers)

    @contextmanager
    def applied_to(self, model: Any) -> Iterator[None]:
        """Move each norm behind its block."""
        moved = {}
        for layer in parts.layers(model):
            norm_by_role, own = roles(layer), dict(layer.named_children())
            moved[own.get("self_attn") or own["linear_attn"]] = norm_by_role["before_attention"]
            moved[parts.feed_forward(layer)] = norm_by_role["before_mlp"]

        def change(block: Any, _: Any, out: Any) -> Any:
            if isinstance(out, tuple):
                return (normalized(moved[block], out[0]), *out[1:])
            return normalized(moved[block], out)

        with forward_replaced(moved.values(), lambda _, x: x), outputs_changed(moved, change):
            yield


class ResidualNormalized(WrongNorm, id="norm.residual_normalized"):
    """A norm works in place, so that the residual stream is normalized too."""

    record = Record(
        shows=(
            "wrong from the first layer on; float32 may be wrong where bfloat16 is right, because only that is copied first"
        ),
        first_tap="layers.0.residual",
        remedy="keep the residual as it was before the norm",
        seen_in=("nano-vllm #170", "OLMo #680"),
    )

    def affected(self, model: Any) -> list[Any]:
        """Norms before which the residual stream is kept."""
        named = [roles(layer) for layer in parts.layers(model)]
        return [norms[role] for norms in named for role in ("before_attention", "before_mlp") if role in norms]

    def normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        right = normalized(norm, x)
        x.copy_(divided(x.float(), eps(norm)))
        return right


def _side_by_side(norms: Mapping[str, Any]) -> list[tuple[Any, str, Any]]:
    kept: list[torch.Tensor] = []

    def first(x: torch.Tensor) -> torch.Tensor:
        kept[:] = [x]
        return normalized(norms["before_attention"], x)

    def second(x: torch.Tensor) -> torch.Tensor:
        return normalized(norms["before_mlp"], kept[0])

    return [(norms["before_attention"], "forward", first), (norms["before_mlp"], "forward", second)]
