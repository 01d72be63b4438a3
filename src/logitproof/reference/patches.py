"""Parts of one model replaced from outside and put back: tensors, attributes, inputs, outputs, functions."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from logitproof.reference import parts

CHUNKED = "torch_chunk_gated_delta_rule"
RECURRENT = "torch_recurrent_gated_delta_rule"


_ABSENT = object()
MUCH = 64 * 2**20
"""Bytes of tensors above which a second copy of them is not made."""
Spoil = Callable[[torch.Tensor], torch.Tensor]
Make = Callable[[Callable[..., Any]], Callable[..., Any]]


@contextmanager
def tensors_replaced(changes: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[None]:
    """While open, each tensor (parameter or buffer) has the values of its partner; then its own storage again."""
    kept = []
    try:
        for tensor, values in list(changes):  # all of them first: one may be made of another
            kept.append((tensor, tensor.data))
            tensor.data = values.detach().to(tensor.dtype)
        yield
    finally:
        for tensor, original in reversed(kept):
            tensor.data = original


@contextmanager
def tensors_spoilt(model: Any, tensors: Sequence[torch.Tensor], spoil: Spoil) -> Iterator[None]:
    """While open, each tensor has the values that `spoil` makes of its own; then its own storage again.

    Where there is much of them, those that a linear module or an embedding reads have them only while it runs, so that at no
    time two copies of a large model lie in memory.
    """
    lazy: dict[int, list[Any]] = {}
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) > MUCH:
        for module in model.modules():
            if type(module).forward in (torch.nn.Linear.forward, torch.nn.Embedding.forward):
                lazy.setdefault(id(module.weight), []).append(module)
    with ExitStack() as stack:
        for tensor in tensors:
            for module in lazy.get(id(tensor), ()):
                spoiling = _Spoiling(tensor, spoil)
                stack.callback(module.register_forward_pre_hook(spoiling.enter).remove)
                stack.callback(module.register_forward_hook(spoiling.leave, always_call=True).remove)
        stack.enter_context(tensors_replaced((tensor, spoil(tensor.data)) for tensor in tensors if id(tensor) not in lazy))
        yield


class _Spoiling:
    """The two hooks of one module whose tensor is spoilt while it runs."""

    def __init__(self, tensor: torch.Tensor, spoil: Spoil) -> None:
        self._tensor, self._spoil = tensor, spoil
        self._right: torch.Tensor | None = None

    def enter(self, *_: Any) -> None:
        self._right = self._tensor.data
        self._tensor.data = self._spoil(self._right).detach().to(self._right.dtype)

    def leave(self, *_: Any) -> None:
        if self._right is not None:
            self._tensor.data, self._right = self._right, None


@contextmanager
def attributes_replaced(changes: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """While open, `owner.name` is the given value: a number, a submodule, a parameter, a method of one module."""
    kept = []
    try:
        for owner, name, value in list(changes):
            kept.append((owner, name, _own(owner, name)))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, original in reversed(kept):
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)


@contextmanager
def outputs_changed(modules: Iterable[Any], change: Callable[[Any, tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """While open, `change(module, inputs, output)` is what each module returns."""
    handles = [module.register_forward_hook(change) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def inputs_changed(modules: Iterable[Any], change: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """While open, each module gets the (args, kwargs) that `change(module, args, kwargs)` returns."""
    handles = [module.register_forward_pre_hook(change, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def functions_replaced(model: Any, owner: str, names: Iterable[str], make: Make) -> Iterator[None]:
    """While open, layers of `model` whose class name ends in `owner` call `make(original)` for each function.

    The functions belong to a whole modeling module, so they are swapped when such a layer's forward begins
    and swapped back when it ends, also by an exception: other models of the family keep the originals.
    """
    handles = []
    for layer in [module for module in model.modules() if type(module).__name__.endswith(owner)]:
        for name in names:
            swap = _Swap(sys.modules[type(layer).__module__], name, make)
            handles.append(layer.register_forward_pre_hook(swap.enter))
            # the first to enter is the last to leave, so that two mutations of one function can be nested
            handles.append(layer.register_forward_hook(swap.leave, always_call=True, prepend=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Swap:
    """The two hooks of one layer for one function."""

    def __init__(self, module: Any, name: str, make: Make) -> None:
        self._module, self._name, self._make = module, name, make
        self._original: Any = None

    def enter(self, *_: Any) -> None:
        self._original = getattr(self._module, self._name)
        setattr(self._module, self._name, self._make(self._original))

    def leave(self, *_: Any) -> None:
        if self._original is not None:
            setattr(self._module, self._name, self._original)
            self._original = None


def _own(owner: Any, name: str) -> Any:
    """What `owner` itself, not its class, holds under `name`."""
    if isinstance(owner, torch.nn.Module) and name not in vars(owner) and not hasattr(type(owner), name):
        return getattr(owner, name, _ABSENT)  # a parameter, a buffer or a submodule, or a None that stands for one
    return vars(owner).get(name, _ABSENT)


@contextmanager
def replaced_in(
    layers: Iterable[Any], names: tuple[str, ...], make: Callable[[Any, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """While open, every one of `layers` calls `make(layer, original)` for each named function of its modeling module."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(functions_replaced(layer, type(layer).__name__, names, functools.partial(make, layer)))
        yield


@contextmanager
def replaced(
    model: Any, names: tuple[str, ...], make: Callable[[Any, Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """While open, every gated delta-net layer calls `make(layer, original)` for each of the named functions."""
    with replaced_in(parts.delta_nets(model), names, make):
        yield
