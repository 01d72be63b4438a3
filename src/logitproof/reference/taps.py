"""Reads and replaces the taps of a transformers model from outside: hooks, and the functions that rotate and attend.

At every tap the model's own value is kept; where another value is given for the tap, that one flows on. So a pass with
the taps of another engine applies every operation of this model to the other engine's own input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from logitproof.protocol import taps as vocabulary
from logitproof.reference import parts, tap_functions
from logitproof.reference.cache import through_cache
from logitproof.reference.parts import function_names
from logitproof.reference.patches import CHUNKED, RECURRENT, functions_replaced, replaced_in
from logitproof.reference.tap_hooks import Hooks, hook_layer
from logitproof.reference.tap_values import Taps

ATTEND = "eager_attention_forward"
SCAN = ("mamba2_chunk_scan", "mamba2_selective_state_update")
CONVOLVE = ("causal_conv1d_fn", "causal_conv1d_update")
TAPS = (*vocabulary.BEGIN, *(f"layers.*.{name}" for name in vocabulary.LAYER), *vocabulary.END)


class Watch:
    """Lets taps see inside attention, under every bug that is planted later. Passes everything on while `taps` is none."""

    def __init__(self, model: Any) -> None:
        self.taps: Taps | None = None
        self._stack = ExitStack()
        self._stack.enter_context(functions_replaced(model, "Attention", (ATTEND,), self._attend))

    def close(self) -> None:
        self._stack.close()

    def _attend(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def attend(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, **rest: Any) -> Any:
            if self.taps is None:
                return original(module, q, k, v, mask, **rest)
            return tap_functions.attended(self.taps, original, module, q, k, v, mask, **rest)

        return attend


@contextmanager
def tapped(model: Any, watch: Watch, taps: Taps) -> Iterator[None]:
    """While open, passes of `model` go through `taps`; one sequence without padding at a time."""
    with ExitStack() as stack:
        stack.callback(setattr, watch, "taps", None)
        watch.taps = taps
        hook = Hooks(stack, taps)
        for number, layer in enumerate(parts.layers(model)):
            hook.before(layer, number)
            hook_layer(hook, layer, number)
        names = tuple(function_names(model.config))
        rotated = functools.partial(tap_functions.rotated, taps)
        stack.enter_context(functions_replaced(model, "Attention", names, rotated))
        nets, scans = parts.delta_nets(model), parts.scans(model)
        stack.enter_context(replaced_in(nets, (CHUNKED, RECURRENT), functools.partial(tap_functions.core, taps)))
        short = parts.short_convolutions(model)
        for layers, leaf in ((nets, "linear_attn.conv"), (scans, "scan.conv"), (short, "shortconv.conv")):
            stack.enter_context(replaced_in(layers, CONVOLVE, functools.partial(tap_functions.convolved, taps, leaf)))
        stack.enter_context(replaced_in(scans, SCAN, functools.partial(tap_functions.scanned, taps)))
        if (norm := parts.final_norm(model)) is not None:
            hook.output(norm, "norm")
        yield


def pass_through(model: Any, watch: Watch, taps: Taps, ids: torch.Tensor, sizes: Sequence[int], **options: Any) -> None:
    """Let `taps` see `ids` [1, T] in passes of so many positions each, logits among them: without a cache where `taps.whole`.

    `options` are of the model's forward. What a pass through the cache finds there is what the passes before it left.
    """
    cache = None
    with torch.inference_mode(), tapped(model, watch, taps):
        for part in ids.split(list(sizes), dim=1):
            taps.length = part.shape[1]
            if taps.whole:
                out = model(input_ids=part, use_cache=False, **options)
            else:
                out, cache = through_cache(model, part, cache)
            taps.at("logits", out.logits[0])
            taps.start += taps.length
