"""Hooks on the parts of a transformers model that give or read a tap, and which parts those are in every family."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from logitproof.protocol import taps as vocabulary
from logitproof.reference.choices import Router
from logitproof.reference.parts import roles
from logitproof.reference.patches import attributes_replaced
from logitproof.reference.tap_values import Taps

SCANS = ("mamba", "mixer")
INSIDE: dict[str, tuple[tuple[str, ...], bool]] = {
    "attn.latent": (("self_attn.kv_a_layernorm",), False),
    "attn.q_latent": (("self_attn.q_a_layernorm",), False),
    "scan.in": (tuple(f"{name}.in_proj" for name in SCANS), False),
    "scan.norm": (tuple(f"{name}.out_proj" for name in SCANS), True),
    "scan.out": (tuple(f"{name}.out_proj" for name in SCANS), False),
    "shortconv.in": (("conv.in_proj",), False),
    "shortconv.gated": (("conv.out_proj",), True),
    "shortconv.out": (("conv.out_proj",), False),
}
"""Taps that are what a submodule of a layer gives, or reads where it says True."""


class Hooks:
    """Hooks of one pass, removed when the stack is closed."""

    def __init__(self, stack: ExitStack, taps: Taps) -> None:
        self._stack, self._taps = stack, taps

    def before(self, layer: Any, number: int) -> None:
        """Notes which layer runs, and reads what the first one is given."""

        def enter(module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
            self._taps.layer = number
            if number:
                return None
            x = args[0] if args else named["hidden_states"]
            if "altup" in layer._modules:
                changed = _apart(self._taps.at("embedding", _beside(x)[0])[None], len(x))
            else:
                changed = self._taps.at("embedding", x[0])[None]
            return ((changed, *args[1:]), named) if args else (args, {**named, "hidden_states": changed})

        self._add(layer.register_forward_pre_hook(enter, with_kwargs=True))

    def output(self, module: Any, leaf: str, layer: int | None = None) -> None:
        """What a module returns, or the first part of it: [1, T, ...] or [T, ...]; of heads that were moved [1, H, T, D]."""

        def leave(_: Any, inputs: Any, out: Any) -> Any:
            value = out[0] if isinstance(out, tuple) else out
            changed = self._through(leaf, value, layer, moved=bool(inputs) and _has_heads_first(inputs[0], self._taps.length))
            return (changed, *out[1:]) if isinstance(out, tuple) else changed

        self._add(module.register_forward_hook(leave))

    def streams(self, module: Any, leaf: str, layer: int) -> None:
        """What a layer of several streams returns, [A, 1, T, E], as [1, T, A·E]."""

        def leave(_: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
            return _apart(self._through(leaf, _beside(out), layer), len(out))

        self._add(module.register_forward_hook(leave))

    def input(self, module: Any, leaf: str, layer: int) -> None:
        """What a module reads."""

        def enter(_: Any, args: tuple[Any, ...]) -> Any:
            return (self._through(leaf, args[0], layer), *args[1:])

        self._add(module.register_forward_pre_hook(enter))

    def pieces(self, module: Any, leaves: Sequence[str], sizes: Sequence[int], layer: int) -> None:
        """A fused projection [1, T, ...], cut into its parts."""

        def leave(_: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
            cut = out.split(list(sizes), dim=-1)
            return torch.cat([self._through(leaf, piece, layer) for leaf, piece in zip(leaves, cut, strict=True)], dim=-1)

        self._add(module.register_forward_hook(leave))

    def router(self, module: Any, layer: int, *, gives_logits: bool = True) -> None:
        """Logits, where the module gives them, weights and numbers of the chosen experts, in the order of the numbers."""
        router = Router(module, lambda: self._taps.choice(layer))
        self._stack.enter_context(attributes_replaced([(module, "forward", router.forward)]))

        def leave(_: Any, inputs: Any, out: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            index, order = out[2].sort(dim=-1)
            logits = self._taps.at("moe.router", out[0], layer=layer) if gives_logits else out[0]
            back = order.argsort(dim=-1)
            weights = self._taps.at("moe.weights", out[1].gather(-1, order), layer=layer).gather(-1, back)
            if router.own is not None:
                self._taps.own_choice(router.own.sort(dim=-1)[0], layer)
                return (logits, weights, *out[2:])
            return (logits, weights, self._taps.at("moe.index", index, layer=layer).gather(-1, back), *out[3:])

        self._add(module.register_forward_hook(leave))

    def _through(self, leaf: str, value: torch.Tensor, layer: int | None, *, moved: bool = False) -> torch.Tensor:
        if moved:
            return self._taps.at(leaf, value[0].transpose(0, 1), layer=layer).transpose(0, 1)[None]
        flat = value.reshape(self._taps.length, *value.shape[2 if value.ndim > 2 and value.shape[0] == 1 else 1 :])
        return self._taps.at(leaf, flat, layer=layer).reshape(value.shape)

    def _add(self, handle: Any) -> None:
        self._stack.callback(handle.remove)


def _has_heads_first(given: Any, length: int) -> bool:
    """Whether a norm of heads reads [1, H, T, D], which was moved from [1, T, H, D] and has its steps still.

    A single head leaves no trace in the steps: there the place of the T positions says it.
    """
    if not isinstance(given, torch.Tensor) or given.ndim != 4:
        return False
    return given.stride(1) < given.stride(2) or (given.shape[1] == 1 and given.shape[2] == length)


def _beside(streams: torch.Tensor) -> torch.Tensor:
    """Streams [A, 1, T, E] side by side: [1, T, A·E]."""
    return streams.permute(1, 2, 0, 3).flatten(-2)


def _apart(beside: torch.Tensor, count: int) -> torch.Tensor:
    """The streams [A, 1, T, E] of [1, T, A·E]."""
    return beside.unflatten(-1, (count, -1)).permute(2, 0, 1, 3)


def hook_layer(hook: Hooks, layer: Any, number: int) -> None:
    """Put the hooks of one layer on its parts."""
    named = roles(layer)
    leaves = {"before_attention": "attn_norm", "after_attention": "attn_post_norm", "before_mlp": "ffn_norm"}
    for role, leaf in (leaves | {"after_mlp": "mlp_post_norm"}).items():
        if role in named:
            hook.output(named[role], leaf, number)
    if "before_mlp" in named:
        hook.input(named["before_mlp"], "residual", number)
    for name, module in layer.named_children():
        if name == "linear_attn":
            _delta_net(hook, module, number)
        elif hasattr(module, "o_proj") and hasattr(module, "layer_idx"):
            _attention(hook, module, number)
        elif name == "router":
            hook.output(module.proj, "moe.router", number)
            hook.router(module, number, gives_logits=False)
            hook.output(layer.experts, "moe.out", number)
        elif name in ("mlp", "block_sparse_moe", "feed_forward"):
            _mlp(hook, module, number)
    for leaf, (path, reads) in _paths(layer).items():
        (hook.input if reads else hook.output)(layer.get_submodule(path), leaf, number)
    (hook.streams if "altup" in layer._modules else hook.output)(layer, "out", number)


def _paths(layer: Any) -> dict[str, tuple[str, bool]]:
    """The path of the submodule that gives or reads each tap, for every tap whose submodule the layer has."""
    modules = dict(layer.named_modules())
    table = INSIDE | {name: ((tap.module,), tap.reads) for name, tap in vocabulary.OWN.items() if tap.module}
    first_paths = {
        leaf: (next((path for path in paths if path in modules), ""), reads) for leaf, (paths, reads) in table.items()
    }
    return {leaf: (path, reads) for leaf, (path, reads) in first_paths.items() if path}


def _attention(hook: Hooks, attention: Any, number: int) -> None:
    if hasattr(attention, "qkv_proj"):
        size, config = attention.head_dim, attention.config
        shared = config.num_key_value_heads * size
        leaves = ("attn.q_proj", "attn.k_proj", "attn.v_proj")
        hook.pieces(attention.qkv_proj, leaves, (config.num_attention_heads * size, shared, shared), number)
    for letter in "qkv":
        if isinstance(projection := getattr(attention, f"{letter}_proj", None), torch.nn.Module):
            hook.output(projection, f"attn.{letter}_proj", number)
    for letter in "qk":
        if isinstance(norm := getattr(attention, f"{letter}_norm", None), torch.nn.Module):
            hook.output(norm, f"attn.{letter}", number)
    hook.input(attention.o_proj, "attn.context", number)
    hook.output(attention.o_proj, "attn.out", number)


def _delta_net(hook: Hooks, module: Any, number: int) -> None:
    for name in ("qkv", "z", "b", "a"):
        if hasattr(module, f"in_proj_{name}"):
            hook.output(getattr(module, f"in_proj_{name}"), f"linear_attn.{name}", number)
    hook.input(module.out_proj, "linear_attn.norm", number)
    hook.output(module.out_proj, "linear_attn.out", number)


def _mlp(hook: Hooks, mlp: Any, number: int) -> None:
    routers = [module for module in mlp.modules() if type(module).__name__.lower().endswith("topkrouter")]
    for router in routers:
        hook.router(router, number)
    for name in ("shared_expert", "shared_experts"):
        if isinstance(shared := getattr(mlp, name, None), torch.nn.Module):
            hook.output(shared, "moe.shared", number)
    if routers:
        hook.output(mlp, "moe.out", number)
        return
    if hasattr(mlp, "gate_up_proj"):
        size = mlp.gate_up_proj.out_features // 2
        hook.pieces(mlp.gate_up_proj, ("mlp.gate", "mlp.up"), (size, size), number)
    for leaf, names in (("mlp.gate", ("gate_proj", "w1")), ("mlp.up", ("up_proj", "w3"))):
        for name in names:
            if isinstance(projection := getattr(mlp, name, None), torch.nn.Module):
                hook.output(projection, leaf, number)
    for name in ("down_proj", "w2"):
        if isinstance(projection := getattr(mlp, name, None), torch.nn.Module):
            hook.input(projection, "mlp.activation", number)
    hook.output(mlp, "mlp.out", number)
