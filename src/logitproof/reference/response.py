"""How logits answer to a small disturbance of what leaves each decoder layer, and what a bug in one layer disturbs there.

One pass forward and one backward for each of a few weightings of the logits give, for all layers at once, how much a
disturbance d of a layer's output changes each weighted sum: <g, d>, to first order. One more pass, in which every layer is fed
what enters it in the right model, gives what a bug does to the output of each layer by itself. The two together foretell what
the bug would do to the logits from any one layer, at the cost of one pass for all layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from logitproof.reference import parts
from logitproof.reference.shared import fewest

KEPT = 512 * 2**20
"""Bytes of gradients that are kept; where more would be needed, fewer sums are weighed."""
LEAST = 8
Planting = Callable[[int], AbstractContextManager[Any] | None]
"""The bug as it is in one layer, or None where that layer has none."""


class Response:
    """The answer of one model's logits on the tokens `ids`; `sums` weighted sums of the logits are looked at."""

    def __init__(self, model: Any, ids: Sequence[int], sums: int, seed: int = 0) -> None:
        self.model, self._layers = model, parts.layers(model)
        self._fed = torch.tensor([list(ids)], device=model.device)
        size = self._fed.shape[1] * model.config.hidden_size * 4 * len(self._layers)
        self.sums = max(LEAST, min(sums, KEPT // size))
        self.layers = len(self._layers)
        self._inputs: list[torch.Tensor] = []
        self._outputs: list[torch.Tensor] = []
        self._gradients, self._signs = self._weighed(torch.Generator().manual_seed(seed))

    def of_logits(self, change: np.ndarray) -> np.ndarray:
        """The weighted sums [S] of a change of the logits [T, V]."""
        rows = torch.from_numpy(np.ascontiguousarray(change, np.float32))
        return np.array([float((signs.float() * rows).sum()) for signs in self._signs], np.float64)

    def foretold(self, planting: Planting) -> np.ndarray:
        """The weighted sums [L, S] that change, to first order, by the bug in each layer alone."""
        return self._run(planting, nullcontext())

    def foretold_of(self, bug: AbstractContextManager[Any], among: Collection[int] | None = None) -> np.ndarray:
        """The same of a bug that is in all layers, and in nothing before them: what each would change by itself, or each of
        those `among` them, so that the others need not be computed.
        """
        return self._run(
            lambda number: nullcontext() if among is None or number in among else None, _between(self._layers, bug)
        )

    def _run(self, planting: Planting, around: AbstractContextManager[Any]) -> np.ndarray:
        outputs: list[torch.Tensor | None] = [None] * self.layers
        with ExitStack() as stack:
            stack.enter_context(around)
            for number, layer in enumerate(self._layers):
                stack.enter_context(_fed_alone(layer, self._inputs[number], planting(number), number, outputs))
            with torch.inference_mode():
                self.model(self._fed, use_cache=False, **fewest(self.model))
        sums = np.zeros((self.layers, self.sums))
        for number, (out, right) in enumerate(zip(outputs, self._outputs, strict=True)):
            if out is not None:
                disturbance = (out.float() - right).flatten()
                sums[number] = (self._gradients[number] @ disturbance).double().numpy()
        return sums

    def _weighed(self, generator: torch.Generator) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """For each layer the gradients [S, T * E] of the sums; and the weights int8 [T, V] of each sum."""
        with torch.enable_grad(), ExitStack() as stack:
            kept: list[torch.Tensor] = []
            for number, layer in enumerate(self._layers):
                stack.callback(layer.register_forward_pre_hook(self._entering(number), with_kwargs=True).remove)
                stack.callback(layer.register_forward_hook(_leaving(kept)).remove)
            logits = self.model(self._fed, use_cache=False).logits[0]
            if len(kept) != len(self._layers):
                raise RuntimeError("not every decoder layer gives one hidden state")
            self._outputs = [out.detach().float().clone() for out in kept]
            signs, rows = [], []
            for _ in range(self.sums):
                sign = torch.randint(0, 2, logits.shape, generator=generator, dtype=torch.int8) * 2 - 1
                weights = sign.to(logits.dtype)
                # the mean of a row is no part of a difference of logits
                weights = weights - weights.mean(-1, keepdim=True)
                parted = torch.autograd.grad(logits, kept, weights, retain_graph=True)
                rows.append([gradient.detach().float().flatten() for gradient in parted])
                signs.append(sign)
        return [torch.stack([row[number] for row in rows]) for number in range(len(self._layers))], signs

    def _entering(self, number: int) -> Callable[..., Any]:
        def enter(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            value = args[0] if args else named["hidden_states"]
            self._inputs.append(value.detach().clone())
            if number == 0:  # where the graph begins: no weight is asked for its gradient
                return _replaced(args, named, value.detach().requires_grad_(True))
            return None

        return enter


@contextmanager
def _between(layers: Sequence[Any], bug: AbstractContextManager[Any]) -> Iterator[None]:
    """While open, the bug is there from the beginning of the first layer to the end of the last."""
    planted = ExitStack()

    def begin(*_: Any) -> None:
        planted.enter_context(bug)

    def end(*_: Any) -> None:
        planted.close()

    hooks = [layers[0].register_forward_pre_hook(begin), layers[-1].register_forward_hook(end)]
    try:
        yield
    finally:
        planted.close()
        for hook in hooks:
            hook.remove()


@contextmanager
def _fed_alone(
    layer: Any, right: torch.Tensor, bug: AbstractContextManager[Any] | None, number: int, outputs: list[torch.Tensor | None]
) -> Iterator[None]:
    """While open, the layer is fed the right hidden state, has the bug while it runs, and what it gives is kept."""
    if bug is None:
        with _idle(layer):
            yield
        return
    planted = ExitStack()

    def begin(_: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        planted.enter_context(bug)
        # after the bug's own hooks, which may change what the layer gives
        hooks.append(layer.register_forward_hook(end))
        return _replaced(args, named, right)

    def end(_: Any, inputs: Any, out: Any) -> None:
        planted.close()
        outputs[number] = _hidden(out).detach().clone()

    hooks = [layer.register_forward_pre_hook(begin, with_kwargs=True)]
    try:
        yield
    finally:
        planted.close()
        for hook in hooks:
            hook.remove()


@contextmanager
def _idle(layer: Any) -> Iterator[None]:
    """While open, the layer gives what it gets: whoever is fed the right hidden state asks nothing of it."""
    own = vars(layer).get("forward")
    layer.forward = lambda hidden_states, *_, **__: hidden_states
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own


def _replaced(args: tuple[Any, ...], named: dict[str, Any], value: torch.Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((value, *args[1:]), named) if args else (args, {**named, "hidden_states": value})


def _leaving(kept: list[torch.Tensor]) -> Callable[..., None]:
    def leave(_: Any, inputs: Any, out: Any) -> None:
        kept.append(_hidden(out))

    return leave


def _hidden(out: Any) -> torch.Tensor:
    return torch.as_tensor(out[0] if isinstance(out, tuple) else out)
