"""YaRN and LongRoPE: frequencies stretched by dimension, and the attention factor (mscale) that goes with it."""

from __future__ import annotations

import copy
from typing import Any

from logitproof.mutations import Record, swept
from logitproof.mutations.rope._function import rotary_class
from logitproof.mutations.rope._tables import Parameters, WrongScaling


class _Yarn(WrongScaling):
    scaling = "yarn"


class _LongRope(WrongScaling):
    scaling = "longrope"


class YarnMissing(_Yarn, id="rope.scaling.yarn_missing"):
    """RoPE turns by unscaled frequencies where the model has yarn scaling."""

    record = Record(
        shows="scores too small at all positions and fast frequencies where slow ones are meant, growing with position",
        first_tap="layers.0.attn.q_rope",
        remedy="build the table with YaRN's ramp and multiply cos and sin by the attention factor",
        seen_in=("sglang #26187",),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"rope_type": "default"}


class YarnFactor(_Yarn, id="rope.scaling.yarn_factor"):
    """RoPE's yarn scaling uses another factor than the model's."""

    record = Record(
        shows="all positions: the factor also sets the scale of the scores",
        first_tap="layers.0.attn.q_rope",
        remedy="read the factor from the model's rope_parameters",
        seen_in=("transformers #38224",),
    )
    factor: float = swept(4.0, grid=(2.0, 4.0, 8.0, 16.0, 32.0, 40.0), between=(1.01, 256.0))

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"factor": self.factor}


class YarnMscaleMissing(_Yarn, id="rope.scaling.yarn_mscale_missing"):
    """YaRN's attention factor (mscale) is left out: cos and sin are not multiplied by it."""

    record = Record(
        shows="scores too small from position 1 on; position 0 exact without sinks; does not grow with position",
        first_tap="layers.0.attn.q_rope",
        remedy="multiply cos and sin by 0.1 ln(factor) + 1, or the scores by its square",
        seen_in=("imp #880", "exllamav3 #259"),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"attention_factor": 1.0}


class YarnMscaleDouble(_Yarn, id="rope.scaling.yarn_mscale_double"):
    """YaRN's attention factor (mscale) is applied twice: in the table and again in the scores."""

    record = Record(
        shows="scores too large from position 1 on; position 0 exact without sinks; does not grow with position",
        first_tap="layers.0.attn.q_rope",
        remedy="apply the factor either to cos and sin or to the scores, and its logarithm once",
        seen_in=("TensorRT-LLM #16379", "vLLM #46280", "vLLM #48351", "mlx-lm #1507", "mobius #548", "xinfer #329"),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        table = rotary_class(config)(config=copy.deepcopy(config))
        # tables of several kinds of layers keep the factor of each
        scale = getattr(table, "attention_scaling", None) or table.full_attention_attention_scaling
        return {"attention_factor": scale**2}


class YarnTruncate(_Yarn, id="rope.scaling.yarn_truncate"):
    """The bounds of YaRN's ramp are rounded to whole dimensions where the model's are not, or the other way round."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on; small, only the dimensions in the ramp",
        first_tap="layers.0.attn.q_rope",
        remedy="read truncate from the model's rope_parameters; it is true where it is absent",
        seen_in=("vLLM #28244", "sglang #14270"),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"truncate": not right.get("truncate", True)}


class LongropeMscaleMissing(_LongRope, id="rope.scaling.longrope_mscale_missing"):
    """LongRoPE's attention factor is not applied."""

    record = Record(
        shows="scores too small from position 1 on: greedy text repeats itself; position 0 exact; does not grow with position",
        first_tap="layers.0.attn.q_rope",
        remedy="multiply cos and sin by sqrt(1 + ln(factor) / ln(original length))",
        seen_in=("executorch #19235",),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"attention_factor": 1.0}


class LongropeSwapped(_LongRope, id="rope.scaling.longrope_swapped"):
    """LongRoPE takes the long factors where the sequence is within the original length, and the short ones beyond."""

    record = Record(
        shows="position 0 exact, wrong from position 1 on, already on short prompts",
        first_tap="layers.0.attn.q_rope",
        remedy=(
            "choose the factors by the last position of the sequence: long ones beyond original_max_position_embeddings only"
        ),
        seen_in=("mlxcel #1358", "mistral.rs #251", "llama.cpp #24823", "mlx-lm #660"),
    )

    def scaled(self, right: Parameters, config: Any) -> Parameters:
        return {"short_factor": right["long_factor"], "long_factor": right["short_factor"]}
