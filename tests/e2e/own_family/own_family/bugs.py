"""Known bugs of Nemotron."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class OneNotAdded(Mutation, id="norm.layer_norm_one_not_added"):
    """The weight of LayerNorm is taken as it is stored, which is one less."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.attn_norm", remedy="add one to the weight")

    def applies(self, config: Any) -> bool:
        """Nemotron."""
        return bool(self._norms(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Norm by the stored weight."""
        return attributes_replaced([(norm, "forward", functools.partial(self._normed, norm)) for norm in self._norms(model)])

    def _normed(self, norm: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def _norms(self, model: Any) -> list[Any]:
        return [module for module in model.modules() if type(module).__name__ == "NemotronLayerNorm1P"]
