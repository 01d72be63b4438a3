"""Changes what the gated delta rule of a layer is given, in chunks and token by token alike."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from logitproof.reference import parts
from logitproof.reference.patches import CHUNKED, RECURRENT, replaced

Change = Callable[[Any, dict[str, Any]], dict[str, Any]]


def given(model: Any, change: Change, names: tuple[str, ...] = (CHUNKED, RECURRENT)) -> AbstractContextManager[None]:
    """While open, the rule gets `change(layer, arguments)`.

    Arguments: query and key [1, T, K, D], value [1, T, H, D], g and beta [1, T, H], initial_state [1, H, D, D] or None.
    """

    def make(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def rule(query: Any, key: Any, value: Any, **options: Any) -> Any:
            return original(**change(layer, {"query": query, "key": key, "value": value, **options}))

        return rule

    return replaced(model, names, make)


def has_delta_net(config: Any) -> bool:
    """Whether the model has gated delta-net layers of the known kind."""
    return config.model_type in parts.GATED_DELTA_NETS and bool(parts.delta_nets(parts.skeleton(config)))
