"""The number of experts for a token is wrong."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class WrongK(Mutation):
    """One expert too many or too few for every token."""

    bug: ClassVar[str] = "the number of experts for a token is wrong"
    shows: ClassVar[str] = "discrete: an expert more or less at every position, heavy tail"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.index"
    remedy: ClassVar[str] = "read `num_experts_per_tok` of the config"
    grid: ClassVar[dict[str, tuple[Any, ...]]] = {"by": (1, -1)}

    by: int = 1

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        found = parts.routers(parts.skeleton(config))
        return any(0 < router.top_k + self.by <= router.num_experts for router in found)

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return attributes_replaced([(router, "top_k", router.top_k + self.by) for router in parts.routers(model)])
