"""Reads and replaces the taps of a transformers model from outside: hooks, and the functions that rotate and attend.

At every tap the model's own value is kept; where another value is given for the tap, that one flows on. So a pass with
the taps of another engine applies every operation of this model to the other engine's own input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from logitproof.protocol import taps as vocabulary
from logitproof.reference import parts
from logitproof.reference.choices import Router
from logitproof.reference.parts import function_names, roles
from logitproof.reference.patches import CHUNKED, RECURRENT, attributes_replaced, functions_replaced, replaced, replaced_in
from logitproof.reference.rotations import Calls, is_pair

ATTEND = "eager_attention_forward"
SCAN = ("mamba2_chunk_scan", "mamba2_selective_state_update")
CONVOLVE = ("causal_conv1d_fn", "causal_conv1d_update")
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
TAPS = (*vocabulary.BEGIN, *(f"layers.*.{name}" for name in vocabulary.LAYER), *vocabulary.END)


class Taps:
    """Values at the taps of one sequence. `given` are replaced, [T, ...] in the canonical layout."""

    def __init__(self, patterns: Sequence[str], given: Mapping[str, np.ndarray]) -> None:
        self._patterns, self._given = patterns, given
        self._kept: dict[str, list[np.ndarray]] = {}
        self.layer, self.start, self.length = 0, 0, 0
        self.whole = True

    def at(self, leaf: str, value: torch.Tensor, *, layer: int | None = None) -> torch.Tensor:
        """The value that flows on: the model's own, or the given one in its place. In and out [T, ...] canonical."""
        name = leaf if leaf in vocabulary.BEGIN | vocabulary.END else f"layers.{self.layer if layer is None else layer}.{leaf}"
        if leaf == "attn.scores" and not self.whole:
            return value  # of the keys that a cache has let go there are none, and they are not zero
        end = self.start + self.length
        self._keep(name, leaf, value)
        if name not in self._given:
            return value
        part = self._given[name]
        if leaf not in vocabulary.MATRICES:
            part = part[self.start : end]
        elif not self.whole:
            part = part[:, self.start : end, end - value.shape[-1] : end]
        if part.size != value.numel():
            return value  # of another size it cannot flow on; that it is, the comparison says
        return torch.from_numpy(np.array(part)).reshape(value.shape).to(value)

    def cached(self, leaf: str, heads: torch.Tensor, *, layer: int) -> torch.Tensor:
        """Keys or values [K, S, D] as attention reads them: those of the last S positions until the end of this pass.

        A pass over everything reads what it has just made, which is what it leaves to the steps after it.
        """
        name, slots = f"layers.{layer}.{leaf}", heads.transpose(0, 1)
        begin = self.start + self.length - len(slots)
        if begin < 0:
            return heads  # more slots than positions: a cache that is padded shows no slot of its own
        if vocabulary.wanted(name, self._patterns):
            before = self._kept.get(name, [np.zeros((0, *slots.shape[1:]), np.float32)])[-1]
            now = slots.detach().to(torch.float32).cpu().numpy().copy()
            # what a window has let go stays as it was read last
            self._kept[name] = [np.concatenate([before[:begin], now])]
        if self.whole or name not in self._given:
            return heads  # an engine may attend to what it has just made, and store something else
        part = self._given[name][begin : begin + len(slots)]
        if part.size != slots.numel():
            return heads
        return torch.from_numpy(np.array(part)).reshape(slots.shape).to(heads).transpose(0, 1)

    def choice(self, layer: int) -> torch.Tensor | None:
        """The experts [n, k] that are given for this pass without their weights; None where they are not."""
        index = self._given.get(f"layers.{layer}.moe.index")
        if index is None or f"layers.{layer}.moe.weights" in self._given:
            return None
        return torch.from_numpy(np.array(index[self.start : self.start + self.length])).long()

    def own_choice(self, index: torch.Tensor, layer: int) -> None:
        """Keep what a router would have chosen where it was made to choose what is given."""
        self._keep(f"layers.{layer}.moe.index", "moe.index", index)

    def _keep(self, name: str, leaf: str, value: torch.Tensor) -> None:
        if vocabulary.wanted(name, self._patterns):
            piece = value.detach().to(torch.float32).cpu().numpy().copy()
            if leaf in vocabulary.MATRICES and not self.whole:
                piece = np.pad(piece, ((0, 0), (0, 0), (max(self.start + self.length - piece.shape[-1], 0), 0)))
            self._kept.setdefault(name, []).append(piece)

    def kept(self) -> dict[str, np.ndarray]:
        """Everything that was kept, over all passes."""
        return {name: vocabulary.joined(name, pieces) for name, pieces in self._kept.items()}


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
            return _attended(self.taps, original, module, q, k, v, mask, **rest)

        return attend


@contextmanager
def tapped(model: Any, watch: Watch, taps: Taps) -> Iterator[None]:
    """While open, passes of `model` go through `taps`; one sequence without padding at a time."""
    with ExitStack() as stack:
        stack.callback(setattr, watch, "taps", None)
        watch.taps = taps
        hook = _Hooks(stack, taps)
        for number, layer in enumerate(parts.layers(model)):
            hook.before(layer, number)
            _layer(hook, layer, number)
        names = tuple(function_names(model.config))
        stack.enter_context(functions_replaced(model, "Attention", names, lambda original: _rotated(taps, original)))
        if parts.delta_nets(model):
            stack.enter_context(replaced(model, (CHUNKED, RECURRENT), lambda layer, original: _core(taps, layer, original)))
            stack.enter_context(replaced(model, CONVOLVE, lambda layer, original: _convolved(taps, layer, original)))
        for layers, leaf in ((parts.scans(model), "scan.conv"), (parts.short_convolutions(model), "shortconv.conv")):
            stack.enter_context(replaced_in(layers, CONVOLVE, functools.partial(_convolved_as, taps, leaf)))
        stack.enter_context(replaced_in(parts.scans(model), SCAN, functools.partial(_scanned, taps)))
        if (norm := parts.final_norm(model)) is not None:
            hook.output(norm, "norm")
        yield


class _Hooks:
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


def _layer(hook: _Hooks, layer: Any, number: int) -> None:
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


def _attention(hook: _Hooks, attention: Any, number: int) -> None:
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


def _delta_net(hook: _Hooks, module: Any, number: int) -> None:
    for name in ("qkv", "z", "b", "a"):
        if hasattr(module, f"in_proj_{name}"):
            hook.output(getattr(module, f"in_proj_{name}"), f"linear_attn.{name}", number)
    hook.input(module.out_proj, "linear_attn.norm", number)
    hook.output(module.out_proj, "linear_attn.out", number)


def _mlp(hook: _Hooks, mlp: Any, number: int) -> None:
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


def _rotated(taps: Taps, original: Callable[..., Any]) -> Callable[..., Any]:
    """Q [1, H, T, D] and K [1, K, T, D] after the rotation; where a model rotates each alone, [1, T, H, D] of one of them."""
    leaves, calls = ("attn.q_rope", "attn.k_rope"), Calls()

    def rotate(first: torch.Tensor, second: torch.Tensor, *args: Any, **named: Any) -> Any:
        turned = original(first, second, *args, **named)
        if not is_pair(first, second):
            return taps.at(leaves[calls.place()], turned[0])[None]
        pairs = zip(leaves, turned, strict=True)
        return tuple(taps.at(leaf, rotated[0].transpose(0, 1)).transpose(0, 1)[None] for leaf, rotated in pairs)

    return rotate


def _attended(
    taps: Taps,
    original: Callable[..., Any],
    module: Any,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: Any,
    **rest: Any,
) -> Any:
    """Attention in steps: scores and probabilities may be given. Without any given, the model's own function answers."""
    layer = module.layer_idx
    k, v = (
        taps.cached(leaf, heads[0], layer=layer)[None]
        for leaf, heads in zip(vocabulary.CACHED, (k, v), strict=True)
    )  # fmt: skip
    groups = q.shape[1] // k.shape[1]
    keys, values = (heads.repeat_interleave(groups, dim=1) for heads in (k, v))
    scaling = rest.get("scaling")
    scores = q @ keys.mT * (module.head_dim**-0.5 if scaling is None else scaling)
    if cap := rest.get("softcap"):
        scores = cap * torch.tanh(scores / cap)
    flowing = taps.at("attn.scores", scores[0], layer=layer)[None]
    out, weights = original(module, q, k, v, mask, **rest)
    if flowing.data_ptr() != scores.data_ptr():
        weights = _softmax(flowing, mask, rest.get("s_aux", getattr(module, "sinks", None)))
    given = taps.at("attn.probs", weights[0], layer=layer)[None]
    if given.data_ptr() == weights.data_ptr() and flowing.data_ptr() == scores.data_ptr():
        return out, weights
    return (given.to(values.dtype) @ values).transpose(1, 2).contiguous(), given


def _softmax(scores: torch.Tensor, mask: Any, sinks: torch.Tensor | None) -> torch.Tensor:
    masked = scores if mask is None else scores + mask
    if sinks is None:
        return masked.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
    beside = sinks.reshape(1, -1, 1, 1).expand(masked.shape[0], -1, masked.shape[-2], 1).to(masked)
    return torch.cat([masked, beside], dim=-1).softmax(dim=-1, dtype=torch.float32)[..., :-1].to(scores.dtype)


def _core(taps: Taps, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """The gated delta rule: its first result is [1, T, H, D]."""

    def rule(*args: Any, **named: Any) -> Any:
        out, *rest = original(*args, **named)
        return (taps.at("linear_attn.core", out[0], layer=layer.layer_idx)[None], *rest)

    return rule


def _convolved_as(taps: Taps, leaf: str, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """A causal convolution [1, C, T], of which the last positions are those of this pass, under a name of its own."""

    def convolve(*args: Any, **named: Any) -> Any:
        out = original(*args, **named)
        now = taps.at(leaf, out[0, :, -taps.length :].transpose(0, 1), layer=layer.layer_idx)
        return torch.cat([out[:, :, : -taps.length], now.transpose(0, 1)[None]], dim=-1)

    return convolve


def _scanned(taps: Taps, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """A Mamba-2 scan: [1, T, H, P], or [1, H, P] of one position, and the state after it where it is asked for."""

    def scan(*args: Any, **named: Any) -> Any:
        result = original(*args, **named)
        out, *rest = result if isinstance(result, tuple) else (result,)
        flowing = taps.at("scan.core", out.reshape(taps.length, -1), layer=layer.layer_idx).reshape(out.shape)
        return (flowing, *rest) if isinstance(result, tuple) else flowing

    return scan


def _convolved(taps: Taps, layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """The causal convolution: [1, C, T], of which the last positions are those of this pass."""

    def convolve(*args: Any, **named: Any) -> Any:
        out = original(*args, **named)
        now = taps.at("linear_attn.conv", out[0, :, -taps.length :].transpose(0, 1), layer=layer.layer_idx)
        return torch.cat([out[:, :, : -taps.length], now.transpose(0, 1)[None]], dim=-1)

    return convolve
