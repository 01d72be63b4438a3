"""What flows into the operations of a transformers model in float64: its modules, and the functions of its own code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from logitproof.reference import float64 as wide

KINDS = {
    "linear": "matmul", "rmsnorm": "norm", "rmsnormgated": "norm", "attention": "attention", "rotaryembedding": "rope",
    "gateddeltanet": "delta-net", "experts": "experts", "topkrouter": "router", "siluactivation": "activation",
    "silu": "activation", "sparsemoeblock": "MoE", "mlp": "mlp",
}  # fmt: skip
"""Kind of operation by how the name of its module's class ends, in small letters."""
FUNCTIONS = ("apply_rotary_pos_emb", "eager_attention_forward", "causal_conv1d_fn", "torch_chunk_gated_delta_rule")
"""Operations that are functions in the file of the model's code."""


@dataclass
class Call:
    """A module or a function and what flowed into it in float64."""

    kind: str
    path: str
    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]


def captured(model: torch.nn.Module, ids: Sequence[int]) -> tuple[list[Call], dict[str, Call]]:
    """The first call of every module by kind, name and shapes, and of every function by its name."""
    calls: dict[tuple[Any, ...], Call] = {}
    functions: dict[str, Call] = {}

    def keep(name: str, kind: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            leaf = name.rpartition(".")[2]
            shapes = tuple(tuple(parameter.shape) for parameter in module.parameters())
            calls.setdefault((kind, leaf, shapes), Call(kind, name, module, args, kwargs))

        return hook

    with ExitStack() as stack, torch.inference_mode():
        for name, module in model.named_modules():
            if (kind := _kind(module)) is not None:
                hook = module.register_forward_pre_hook(keep(name, kind), with_kwargs=True)
                stack.callback(hook.remove)
        stack.enter_context(_watched(sys.modules[type(model).__module__], functions))
        stack.enter_context(wide.float64())
        model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    return list(calls.values()), functions


def scores_of(attention: Call) -> torch.Tensor:
    """Queries times keys [1, H, T, T] of a call of `eager_attention_forward`, neither scaled nor masked."""
    module, query, key = attention.args[:3]
    with torch.inference_mode(), wide.float64():
        scores: torch.Tensor = query @ key.repeat_interleave(module.num_key_value_groups, 1).transpose(2, 3)
    return scores


@contextmanager
def _watched(code: ModuleType, calls: dict[str, Call]) -> Iterator[None]:
    """The functions of the model's file keep what they are given, until the context is left."""
    before = {name: getattr(code, name) for name in FUNCTIONS if hasattr(code, name)}

    def keeping(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*args: Any, **kwargs: Any) -> Any:
            calls.setdefault(name, Call("", name, function, args, kwargs))
            return function(*args, **kwargs)

        return kept

    for name, function in before.items():
        setattr(code, name, keeping(name, function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(code, name, function)


def _kind(module: torch.nn.Module) -> str | None:
    name = type(module).__name__.lower()
    return next((kind for end, kind in sorted(KINDS.items(), key=lambda pair: -len(pair[0])) if name.endswith(end)), None)
