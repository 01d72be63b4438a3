"""Changes what the gated delta rule of a layer is given, in chunks and token by token alike."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from logitproof.mutations import _parts as parts
from logitproof.mutations._tensors import functions_replaced

CHUNKED, RECURRENT = "torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"
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


@contextmanager
def replaced(
    model: Any, names: tuple[str, ...], make: Callable[[Any, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """While open, every gated delta-net layer calls `make(layer, original)` for each of the named functions."""
    with ExitStack() as stack:
        for layer in parts.delta_nets(model):
            stack.enter_context(functions_replaced(layer, "GatedDeltaNet", names, functools.partial(make, layer)))
        yield


def has_delta_net(config: Any) -> bool:
    """Whether the model has gated delta-net layers of the known kind."""
    return config.model_type in parts.GATED_DELTA_NETS and bool(parts.delta_nets(parts.skeleton(config)))
