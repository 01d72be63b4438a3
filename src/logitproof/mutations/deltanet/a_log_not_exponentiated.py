"""A_log is not exponentiated."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.mutations.deltanet._rule import given, has_delta_net


@dataclass
class ALogNotExponentiated(Mutation):
    """A_log is used as the decay rate itself."""

    bug: ClassVar[str] = "A_log is not exponentiated"
    shows: ClassVar[str] = "position 0 exact, decays of all heads wrong"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.linear_attn.core"
    remedy: ClassVar[str] = "use -exp(A_log)"

    def applies(self, config: Any) -> bool:
        """Models with gated delta-net layers."""
        return has_delta_net(config)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Change what the rule of every gated delta-net layer gets."""
        return given(model, _change)


def _change(layer: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "g": options["g"] * (layer.A_log / layer.A_log.exp()).to(options["g"])}
