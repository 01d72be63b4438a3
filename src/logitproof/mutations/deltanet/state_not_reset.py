"""The recurrent state is not reset between sequences."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import has_delta_net
from logitproof.reference.patches import CHUNKED, RECURRENT, replaced


@dataclass
class StateNotReset(Mutation):
    """A sequence begins with the state that the one before left."""

    bug: ClassVar[str] = "the recurrent state is not reset between sequences"
    shows: ClassVar[str] = "the first sequence exact, every later one wrong from position 0 on"
    seen_in: ClassVar[tuple[str, ...]] = ("vLLM #34587", "transformers #46190")
    first_tap: ClassVar[str] = "layers.0.linear_attn.out"
    remedy: ClassVar[str] = "reset the state when a sequence begins"
    needs: ClassVar[str] = "second sequence"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Let every layer remember its last state."""
        return replaced(model, (CHUNKED, RECURRENT), functools.partial(_remembering, {}))


def _remembering(states: dict[Any, Any], layer: Any, original: Any) -> Any:
    def rule(query: Any, key: Any, value: Any, **options: Any) -> Any:
        wanted = options.pop("output_final_state", False)
        if options.get("initial_state") is None:
            options["initial_state"] = states.get(layer)
        out, states[layer] = original(query, key, value, output_final_state=True, **options)
        return out, states[layer].clone() if wanted else None

    return rule
