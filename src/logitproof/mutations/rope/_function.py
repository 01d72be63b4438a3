"""The function that rotates Q and K: `apply_rotary_pos_emb` of a modeling module, replaced for one model only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.parts import NAME, function_names, modeling_module, skeleton
from logitproof.reference.patches import functions_replaced
from logitproof.reference.rotations import Pair as Pair
from logitproof.reference.rotations import in_pairs


class WrongRotation(Mutation):
    """A bug in how Q and K are rotated by given angles: subclasses say what they do instead of `rotate`."""

    def applies(self, config: Any) -> bool:
        """Every model that rotates Q and K."""
        return bool(function_names(config))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Rotate wrongly in every attention layer of `model`."""
        names = function_names(model.config)
        return functions_replaced(model, "Attention", names, lambda original: in_pairs(original, self.rotate))

    def rotate(self, right: Callable[..., Pair], q: torch.Tensor, k: torch.Tensor, cos: Any, sin: Any) -> Pair:
        """q [B, H, T, D] and k [B, K, T, D] after the wrong rotation; `right` is the model's own function."""
        raise NotImplementedError


def is_split_half(config: Any) -> bool:
    """Whether models of `config` rotate split-half pairs (i, i+D/2) through the replaceable function."""
    module = modeling_module(config)
    if module is None or NAME not in function_names(config) or not hasattr(module, "rotate_half"):
        return False
    return bool(torch.equal(module.rotate_half(torch.arange(4)), torch.tensor([-2, -3, 0, 1])))


def rotary_dimensions(config: Any) -> int:
    """How many dimensions of a head are rotated."""
    factor = (getattr(config, "rope_parameters", None) or {}).get("partial_rotary_factor", 1.0)
    return int(head_size(config) * factor)


def head_size(config: Any) -> int:
    """How many dimensions a head has."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rotary_embedding(model: Any) -> Any:
    """The module that makes the angles, or nothing."""
    return getattr(parts.decoder(model), "rotary_emb", None)


def rotary_class(config: Any) -> Any:
    """The class of that module in a model of `config`, or nothing."""
    if not function_names(config):
        return None
    module = rotary_embedding(skeleton(config))
    return None if module is None else type(module)
