"""The factor, the soft-cap and the temperature on the logits."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from logitproof.mutations import Mutation, Record, swept
from logitproof.mutations.head._logits import WrongLogits
from logitproof.reference.patches import attributes_replaced


class _WrongScaling(Mutation):
    """A bug in `logits_scaling`: subclasses say in `scaling` what divides the logits."""

    def applies(self, config: Any) -> bool:
        """Granite."""
        return float(getattr(config, "logits_scaling", 1.0)) != 1.0

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Divide by the wrong factor."""
        return attributes_replaced([(model.config, "logits_scaling", self.scaling(model.config.logits_scaling))])

    def scaling(self, right: float) -> float:
        """The wrong factor for the right one."""
        raise NotImplementedError


class ScaleMissing(_WrongScaling, id="head.scale_missing"):
    """Logits are not divided by the family's factor (logits_scaling)."""

    record = Record(
        shows="all logits too large by one factor: greedy text and cosine are exact",
        first_tap="logits",
        remedy="divide logits by logits_scaling",
        seen_in=("vLLM #52158",),
    )

    def scaling(self, right: float) -> float:
        return 1.0


class ScaleInverted(_WrongScaling, id="head.scale_inverted"):
    """Logits are multiplied by the factor that divides them (logits_scaling)."""

    record = Record(
        shows="all logits too large by one factor: greedy text and cosine are exact",
        first_tap="logits",
        remedy="divide logits by logits_scaling",
    )

    def scaling(self, right: float) -> float:
        return 1.0 / right


class ScaledByHiddenSize(WrongLogits, id="head.scaled_by_hidden_size"):
    """Logits are divided by the root of the hidden size, as attention scales its scores."""

    record = Record(
        shows="all logits off by one factor: greedy text and cosine are exact",
        first_tap="logits",
        remedy="do not scale logits",
        seen_in=("transformers #43681", "mlx-examples #591"),
    )

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits / float(model.config.hidden_size) ** 0.5


class SoftcapMissing(Mutation, id="head.softcap_missing"):
    """The soft-cap of the logits is left out."""

    record = Record(
        shows="large logits too large, the order of tokens kept: greedy text is exact",
        first_tap="logits",
        remedy="cap logits: c * tanh(logit / c)",
        seen_in=("llama.cpp #8197",),
    )

    def applies(self, config: Any) -> bool:
        """Families that cap their logits."""
        return bool(getattr(config, "final_logit_softcapping", None))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Without a cap."""
        return attributes_replaced([(model.config, "final_logit_softcapping", None)])


class SoftcapOfAttention(Mutation, id="head.softcap_of_attention"):
    """Logits are capped at the value of the attention scores: the two soft-caps of Gemma 2 are exchanged."""

    record = Record(
        shows="large logits too large or too small, greedy text is exact",
        first_tap="logits",
        remedy="cap logits at final_logit_softcapping",
    )

    def applies(self, config: Any) -> bool:
        """Families with two caps of different size."""
        caps = [getattr(config, name, None) for name in ("final_logit_softcapping", "attn_logit_softcapping")]
        return all(caps) and caps[0] != caps[1]

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Capped at the other value."""
        return attributes_replaced([(model.config, "final_logit_softcapping", model.config.attn_logit_softcapping)])


class SoftcapInvented(WrongLogits, id="head.softcap_invented"):
    """Logits are capped in a family that does not cap them."""

    record = Record(
        shows="large logits too small, the order of tokens kept: greedy text is exact",
        first_tap="logits",
        remedy="cap logits only where the config has final_logit_softcapping",
        seen_in=("ollama #9692",),
    )
    cap: float = swept(30.0, between=(2.0, 200.0))

    def applies(self, config: Any) -> bool:
        """Families without a cap."""
        return not getattr(config, "final_logit_softcapping", None)

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        """Capped as Gemma 2 caps them."""
        return self.cap * torch.tanh(logits / self.cap)


class TemperatureApplied(WrongLogits, id="head.temperature_applied"):
    """Logits are divided by a sampling temperature before they are reported."""

    record = Record(
        shows="all logits off by one factor: greedy text and cosine are exact",
        first_tap="logits",
        remedy="report logits before any sampling step, or set the temperature to one",
        seen_in=("vLLM #5334",),
    )
    temperature: float = swept(0.7, grid=(0.7, 0.8, 0.6), between=(0.1, 5.0))

    def reported(self, model: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits / self.temperature


class _WrongFactor(Mutation):
    """A bug in `logit_scale`, which multiplies the logits: subclasses say in `factor` what does instead."""

    def applies(self, config: Any) -> bool:
        """Cohere."""
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
