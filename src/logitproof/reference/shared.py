"""The layers below the one that a bug touches give what they gave: passes of one model on the same tokens begin above them.

What enters every decoder layer is kept of the right model. A pass of a model with a bug in layer k alone takes what entered
layer k, and computes from there. Whether a family allows that (nothing but the residual stream goes from layer to layer) is
not believed but tried: once for each model, a pass that begins in the middle must give the same bits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from logitproof import catalog
from logitproof.protocol import taps
from logitproof.reference import parts
from logitproof.reference.patches import attributes_replaced

KEPT = 256 * 2**20
"""Bytes of boundaries that are kept of one model; what would be more is computed from the beginning."""
OF_ONE_LAYER = ("layer", "first", "second")
"""Options of a bug that number the layers that it is in."""
Pass = Callable[[], torch.Tensor]


class Boundaries:
    """What enters each decoder layer of the right model, by the tokens [1, T] that it was fed."""

    def __init__(self, model: Any) -> None:
        self._model, self._layers = model, parts.layers(model)
        self._kept: dict[tuple[int, ...], list[torch.Tensor]] = {}
        # a layer that reads another's keys and values needs more than the residual stream
        shares = any(getattr(module, "is_kv_shared_layer", False) for module in model.modules())
        self._allowed: bool | None = False if shares else None

    def logits(self, fed: torch.Tensor, first: int, run: Pass) -> torch.Tensor:
        """What `run` gives, a pass of the model over `fed` whose layers below `first` are the right model's."""
        inputs = self._kept.get(tuple(fed.flatten().tolist())) if first > 0 and self._allowed is not False else None
        if inputs is None:
            return run()
        with self._begun(inputs, first):
            return run()

    def right(self, fed: torch.Tensor, run: Pass) -> torch.Tensor:
        """What `run` gives, a pass of the right model over `fed`, of which the boundaries are kept from now on."""
        key = tuple(fed.flatten().tolist())
        size = fed.shape[1] * self._model.config.hidden_size * 4 * (len(self._layers) + 1)
        if key in self._kept or self._allowed is False or size * (len(self._kept) + 1) > KEPT:
            return run()
        inputs: list[torch.Tensor] = []
        with ExitStack() as stack:
            for layer in self._layers:
                stack.callback(layer.register_forward_pre_hook(_entering(inputs), with_kwargs=True).remove)
            stack.callback(self._layers[-1].register_forward_hook(_leaving(inputs)).remove)
            logits = run()
        if len(inputs) != len(self._layers) + 1:
            self._allowed = False
        if self._allowed is None:
            with self._begun(inputs, len(self._layers) // 2):
                self._allowed = torch.equal(run(), logits)
        if self._allowed:
            self._kept[key] = inputs
        return logits

    @contextmanager
    def _begun(self, inputs: Sequence[torch.Tensor], first: int) -> Iterator[None]:
        """While open, the layers below `first` do nothing, and the last of them gives what enters `first`."""
        skipped = [(layer, "forward", _passing) for layer in self._layers[: first - 1]]
        with attributes_replaced([*skipped, (self._layers[first - 1], "forward", _giving(inputs[first]))] if first else []):
            yield


def idling(model: Any, names: Sequence[str], given: Mapping[str, Any]) -> list[tuple[Any, str, Any]]:
    """Replacements by which those layers do nothing that a replay of the taps `names` does not need, for what leaves the
    layer below each needed one is `given`. Names without a layer need the last layer's output, patterns need all layers.
    """
    layers = parts.layers(model)
    if any("*" in name for name in names):
        return []
    needed = {len(layers) if layer is None else layer for layer, _ in map(taps.split, names)}
    needed -= {len(layers)} if set(names) <= set(taps.BEGIN) else set()
    for layer in sorted(needed, reverse=True):
        below = layer - 1
        while below >= 0 and f"layers.{below}.out" not in given:
            needed.add(below)
            below -= 1
    return [(layer, "forward", _passing) for number, layer in enumerate(layers) if number not in needed]


def gives_stream(model: Any) -> bool:
    """Whether a decoder layer gives the residual stream and no tuple that begins with it, as Falcon-H1's does: by one token."""
    given: list[bool] = []
    hook = parts.layers(model)[0].register_forward_hook(lambda _, inputs, out: given.append(isinstance(out, torch.Tensor)))
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        hook.remove()
    return all(given)


def fewest(model: Any) -> dict[str, int]:
    """What a pass is asked for whose logits nobody reads: those of one position."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def first_layer(bugs: Sequence[tuple[str, Mapping[str, Any]]], layers: int, only: str) -> int:
    """The first decoder layer that some of the bugs touch; as many as there are `layers` where they touch what comes after.

    `only` is the option that puts any bug into one layer. What does not say where it is, is everywhere.
    """
    return min((_first(catalog.load("mutations", name), options, layers, only) for name, options in bugs), default=layers)


def _first(kind: Any, options: Mapping[str, Any], layers: int, only: str) -> int:
    if only in options:
        return int(options[only])
    numbers = [int(options[key]) for key in OF_ONE_LAYER if key in options]
    if numbers:
        return min(numbers)
    return layers if kind.first_tap in ("norm", "logits") else 0


def _entering(kept: list[torch.Tensor]) -> Callable[..., None]:
    def enter(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        value = args[0] if args else named.get("hidden_states")
        if isinstance(value, torch.Tensor):
            kept.append(value.detach().clone())

    return enter


def _leaving(kept: list[torch.Tensor]) -> Callable[..., None]:
    def leave(_: Any, inputs: Any, out: Any) -> None:
        if isinstance(out, torch.Tensor):
            kept.append(out.detach().clone())

    return leave


def _passing(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return hidden_states


def _giving(value: torch.Tensor) -> Callable[..., torch.Tensor]:
    def give(*_: Any, **__: Any) -> torch.Tensor:
        return value.clone()

    return give
