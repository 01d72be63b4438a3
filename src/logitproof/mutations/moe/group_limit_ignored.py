"""Group-limited routing is ignored."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced


@dataclass
class GroupLimitIgnored(Mutation):
    """Experts are chosen from all groups."""

    bug: ClassVar[str] = "group-limited routing is ignored"
    shows: ClassVar[str] = "discrete: other experts at some positions, heavy tail"
    seen_in: ClassVar[tuple[str, ...]] = ()
    first_tap: ClassVar[str] = "layers.0.moe.index"
    remedy: ClassVar[str] = "choose groups first, then experts within them"

    def applies(self, config: Any) -> bool:
        """Whether a model of this config has the part that the bug is in."""
        return any(_limits(router) for router in parts.routers(parts.skeleton(config)))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Plant the bug in every layer of `model`."""
        return attributes_replaced([(router, "topk_group", router.num_group) for router in parts.routers(model)])


def _limits(router: Any) -> bool:
    return getattr(router, "num_group", 1) > getattr(router, "topk_group", 1)
