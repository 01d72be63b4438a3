"""YaRN's attention factor (mscale) is applied twice: in the table and again in the scores."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations.rope._function import rotary_class
from logitproof.mutations.rope._tables import Parameters, WrongParameters


@dataclass
class YarnMscaleDouble(WrongParameters):
    """YaRN's attention factor (mscale) is applied twice: in the table and again in the scores."""

    bug: ClassVar[str] = "YaRN's attention factor (mscale) is applied twice"
    shows: ClassVar[str] = "scores too large from position 1 on; position 0 exact without sinks; does not grow with position"
    seen_in: ClassVar[tuple[str, ...]] = (
        "TensorRT-LLM #16379",
        "vLLM #46280",
        "vLLM #48351",
        "mlx-lm #1507",
        "mobius #548",
        "xinfer #329",
    )
    first_tap: ClassVar[str] = "layers.0.attn.q_rope"
    remedy: ClassVar[str] = "apply the factor either to cos and sin or to the scores, and its logarithm once"

    def parameters(self, right: Parameters, config: Any) -> Parameters | None:
        """The attention factor twice."""
        if right.get("rope_type") != "yarn":
            return None
        scale = rotary_class(config)(config=copy.deepcopy(config)).attention_scaling
        return right | {"attention_factor": scale**2}
