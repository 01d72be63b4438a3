"""Factors on the paths of Falcon-H1, each of which an engine may forget."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch

from logitproof.mutations import Mutation, Record
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


class _FactorMissing(Mutation):
    """A factor that is one: subclasses name the attribute, and in `owners` the modules that have it."""

    attribute: ClassVar[str]

    def applies(self, config: Any) -> bool:
        """Falcon-H1."""
        return config.model_type == "falcon_h1"

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Let it be one everywhere."""
        changes = [(owner, self.attribute, self.neutral(getattr(owner, self.attribute))) for owner in self.owners(model)]
        return attributes_replaced(changes)

    def owners(self, model: Any) -> Iterable[Any]:
        """The modules that multiply by it."""
        return [module for module in model.modules() if hasattr(module, self.attribute)]

    def neutral(self, right: Any) -> Any:
        """What stands in place of the factor."""
        return torch.ones_like(right) if isinstance(right, torch.Tensor) else 1.0


class OfEmbedding(_FactorMissing, id="scan.factor_of_embedding_missing"):
    """The embedding is not multiplied by embedding_multiplier."""

    record = Record(shows="wrong from position 0 on", first_tap="embedding", remedy="multiply the embedding")
    attribute = "embedding_multiplier"


class OfLogits(_FactorMissing, id="scan.factor_of_logits_missing"):
    """Logits are not multiplied by lm_head_multiplier."""

    record = Record(shows="logits off by a factor", first_tap="logits", remedy="multiply the logits")
    attribute = "lm_head_multiplier"


class OfKeys(_FactorMissing, id="scan.factor_of_keys_missing"):
    """Keys are not multiplied by key_multiplier."""

    record = Record(
        shows="position 0 right but for the scan", first_tap="layers.0.attn.k_rope", remedy="multiply K before the rotation"
    )
    attribute = "key_multiplier"


class OfAttentionInput(_FactorMissing, id="scan.factor_of_attention_input_missing"):
    """What attention reads is not multiplied by attention_in_multiplier."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.attn.q_proj", remedy="multiply the norm's output for attention"
    )
    attribute = "attention_in_multiplier"


class OfAttentionOutput(_FactorMissing, id="scan.factor_of_attention_output_missing"):
    """What attention gives is not multiplied by attention_out_multiplier."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.residual", remedy="multiply the output of attention")
    attribute = "attn_out_multiplier"


class OfInput(_FactorMissing, id="scan.factor_of_input_missing"):
    """What the scan reads is not multiplied by ssm_in_multiplier."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.in", remedy="multiply the norm's output for the scan"
    )
    attribute = "ssm_in_multiplier"


class OfOutput(_FactorMissing, id="scan.factor_of_output_missing"):
    """What the scan gives is not multiplied by ssm_out_multiplier."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.residual", remedy="multiply the output of the scan")
    attribute = "ssm_out_multiplier"


class OfParts(_FactorMissing, id="scan.factors_of_parts_missing"):
    """The five parts of the scan's projection are not multiplied by ssm_multipliers."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.scan.in", remedy="multiply z, x, B, C and dt, each by its own"
    )
    attribute = "mup_vector"

    def owners(self, model: Any) -> Iterable[Any]:
        return parts.scans(model)


class OfGate(_FactorMissing, id="scan.factor_of_mlp_gate_missing"):
    """The gate of the feed-forward block is not multiplied by the first of mlp_multipliers."""

    record = Record(
        shows="wrong from position 0 on", first_tap="layers.0.mlp.activation", remedy="multiply the gate before its activation"
    )
    attribute = "gate_multiplier"


class OfDown(_FactorMissing, id="scan.factor_of_mlp_output_missing"):
    """The feed-forward block's output is not multiplied by the second of mlp_multipliers."""

    record = Record(shows="wrong from position 0 on", first_tap="layers.0.mlp.out", remedy="multiply the output of the block")
    attribute = "down_multiplier"
