"""The factor of the logits that some families multiply by (Cohere's logit_scale)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from logitproof.mutations import Mutation, Record
from logitproof.reference.patches import attributes_replaced


class _WrongFactor(Mutation):
    """Another factor: said in `factor`."""

    def applies(self, config: Any) -> bool:
        """Models with one."""
        return getattr(config, "logit_scale", None) not in (None, 1.0)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Multiply by it."""
        return attributes_replaced([(model, "logit_scale", self.factor(model.logit_scale))])

    def factor(self, right: float) -> float:
        """The wrong factor for the right one."""
        raise NotImplementedError


class FactorMissing(_WrongFactor, id="head.factor_missing"):
    """Logits are not multiplied by logit_scale."""

    record = Record(
        shows="logits off by a factor, argmax right", first_tap="logits", remedy="multiply the logits by logit_scale"
    )

    def factor(self, right: float) -> float:
        return 1.0


class FactorDivides(_WrongFactor, id="head.factor_divides"):
    """Logits are divided by logit_scale, as Granite's are by logits_scaling."""

    record = Record(
        shows="logits off by a factor, argmax right", first_tap="logits", remedy="multiply the logits by logit_scale"
    )

    def factor(self, right: float) -> float:
        return 1.0 / right
