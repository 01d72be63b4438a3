"""ggml's kernels without weights: RMS norm, rotary positions, softmax, attention and activations, as llama.cpp builds them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from logitproof.contract.arithmetic import AT_ONCE, GGML_LANES, Arithmetic, Format
from logitproof.gguf.rotary import llama3_rope_factors
from logitproof.kernels.ggml_case import Case, array, narrowed
from logitproof.kernels.ggml_graph import Ggml
from logitproof.reference import float64 as wide
from logitproof.reference.angles import disturbed
from logitproof.reference.calls import Call, scores_of
from logitproof.reference.noise import Spec

NEIGHBOURS, HALVES, SECTIONS = 0, 2, 40
"""ggml's modes of rotary positions: pairs that lie side by side, pairs D/2 apart, and those with interleaved sections."""
SCALINGS = ("default", "llama3")
PRECISIONS: dict[str, Format | None] = {"F32": None, "F16": "f16"}
"""Types of keys and values."""


def norm(call: Call) -> Case:
    """RMS norm, times the weight, and times silu of the gate where there is one."""
    x, *gate = (narrowed(tensor).reshape(-1, tensor.shape[-1]) for tensor in call.args)
    module, eps = call.module, _epsilon(call.module)
    with torch.inference_mode(), wide.float64():
        ones = [torch.ones_like(x[:1])]
        silu = torch.nn.functional.silu(ones[0]) if gate else ones[0]
        # of ones a norm makes its weight, whatever the family adds to the parameter
        weight = module(*ones, *ones[: len(gate)]) / silu * math.sqrt(1 + eps)
    computed = partial(rms_norm, x=array(x), weight=array(weight[0]), eps=eps, gate=array(gate[0]) if gate else None)
    return Case("norm", call.name, "F32", tuple(weight[0].shape), x, lambda: module(x, *gate), computed)


def rms_norm(ggml: Ggml, *, x: np.ndarray, weight: np.ndarray, eps: float, gate: np.ndarray | None = None) -> np.ndarray:
    """x [T, E] over its RMS, times the weight [E], times silu of the gate [T, E]."""
    with ggml.graph(x) as graph:
        result = graph.apply("mul", graph.apply("rms_norm", graph.put(x), eps), graph.put(weight))
        if gate is not None:
            result = graph.apply("mul", result, graph.apply("silu", graph.put(gate)))
        return graph.computed(result, x.shape)


def activation(call: Call) -> Case:
    """silu as it stands alone."""
    x, module = narrowed(call.args[0]), call.module
    shape = tuple(x.shape)

    def computed(ggml: Ggml) -> np.ndarray:
        with ggml.graph(array(x)) as graph:
            return graph.computed(graph.apply("silu", graph.put(array(x))), shape)

    return Case("activation", call.name, "F32", shape, x, lambda: module(x), computed)


def swiglu(call: Call) -> Case:
    """silu(gate)·up of a feed-forward block, in one kernel."""
    block = call.module
    with torch.inference_mode(), wide.float64():
        gate, up = (narrowed(projection(call.args[0])) for projection in (block.gate_proj, block.up_proj))
    shape = tuple(gate.shape)

    def computed(ggml: Ggml) -> np.ndarray:
        with ggml.graph(array(gate), array(up)) as graph:
            return graph.computed(graph.apply("swiglu_split", graph.put(array(gate)), graph.put(array(up))), shape)

    return Case("activation", "swiglu", "F32", shape, gate, lambda: block.act_fn(gate) * up, computed)


def rope(call: Call, table: torch.nn.Module, config: Any, first: int = 0) -> Case:
    """Queries at the positions from `first` on. Raises ValueError of a scaling that llama.cpp does by other means."""
    scaling = config.rope_parameters.get("rope_type", "default")
    if scaling not in SCALINGS:
        raise ValueError(f"rope scaling {scaling} is not built here, only {', '.join(SCALINGS)}")
    query = narrowed(call.args[0])
    positions = torch.arange(first, first + query.shape[2])[None]
    computed = partial(rotated, query=array(query[0].transpose(0, 1)), first=first, **settings(config, query.shape[-1]))

    def reference() -> torch.Tensor:
        angles = table(query, positions)
        turned: torch.Tensor = call.module(query, query, *angles)[0]
        return turned.transpose(1, 2)

    errs = partial(disturbed, [table], Arithmetic(rope="iterated"))
    return Case("rope", f"query at {first}", "F32", tuple(query.shape), query, reference, computed, disturbed=errs)


def settings(config: Any, size: int) -> dict[str, Any]:
    """How llama.cpp rotates the heads of this family: `mode`, `count` of dimensions, `base`, `factors`, `sections`."""
    rules = config.rope_parameters
    rotation: dict[str, Any] = {"base": float(rules["rope_theta"]), "mode": HALVES}
    rotation["count"] = int(size * rules.get("partial_rotary_factor", 1.0))
    if config.model_type == "llama":
        rotation["mode"] = NEIGHBOURS
    if "mrope_section" in rules:
        rotation |= {"mode": SECTIONS, "sections": [*rules["mrope_section"], 0]}
    if rules.get("rope_type") == "llama3":
        rotation["factors"] = llama3_rope_factors(rules, size)
    return rotation


def rotated(
    ggml: Ggml, *, query: np.ndarray, first: int, mode: int, count: int, base: float,
    factors: np.ndarray | None = None, sections: Sequence[int] = (),
) -> np.ndarray:  # fmt: skip
    """Queries [T, H, D] with pairs D/2 apart, before and after."""
    places = np.arange(first, first + len(query), dtype=np.int32)
    # pairs side by side are made by the order of the weights' rows, as in a GGUF file
    order = np.arange(query.shape[-1])
    if mode == NEIGHBOURS:
        order[:count] = order[:count].reshape(2, -1).T.reshape(-1)
    limits = (0, base, 1.0, 0.0, 1.0, 32.0, 1.0)
    with ggml.graph(query) as graph:
        x, divisors = graph.put(query[..., order]), None if factors is None else graph.put(factors.astype(np.float32))
        if mode == SECTIONS:
            parts = (ctypes.c_int * 4)(*sections)
            streams = graph.put(np.concatenate([np.tile(places, 3), np.zeros_like(places)]))
            result = graph.apply("rope_multi", x, streams, divisors, count, ctypes.addressof(parts), mode, *limits)
        else:
            result = graph.apply("rope_ext", x, graph.put(places), divisors, count, mode, *limits)
        turned = graph.computed(result, query.shape)
    return turned[..., np.argsort(order)]


def softmax(call: Call) -> Case:
    """Softmax of the scores of the first layer's attention, scaled and masked."""
    mask = call.args[4]
    scaling = float(call.kwargs["scaling"])
    scores = narrowed(scores_of(call))
    hidden, shape = _mask(*[scores.shape[-1]] * 2), tuple(scores.shape[1:])

    def computed(ggml: Ggml) -> np.ndarray:
        with ggml.graph(array(scores)) as graph:
            x = graph.put(array(scores, *shape))
            return graph.computed(graph.apply("soft_max_ext", x, graph.put(hidden), scaling, 0.0), shape)

    def reference() -> torch.Tensor:
        return torch.nn.functional.softmax(scores * scaling + mask, dim=-1)

    return Case("softmax", "softmax", "F32", tuple(scores.shape), scores, reference, computed)


def attention(call: Call, precision: str, *, flash: bool, last: bool = False) -> Case:
    """Queries on keys and values of a type, in three kernels or in one; all of them, or the `last` alone as in decode."""
    module, *given, mask = call.args[:5]
    query, key, value = (narrowed(tensor) for tensor in given)
    if last:
        query, mask = query[:, :, -1:], mask[:, :, -1:]
    halves = flash and precision == "F16" and query.shape[2] < AT_ONCE
    spec = Spec(lanes=GGML_LANES, cache=PRECISIONS[precision], half_sums=halves)

    def reference() -> torch.Tensor:
        out: torch.Tensor = call.module(module, query, key, value, mask, **call.kwargs)[0]
        return out

    parts = [array(tensor[0]) for tensor in (query, key, value)]
    kind = np.float16 if precision == "F16" else np.float32
    function: Callable[..., np.ndarray] = attended_at_once if flash else attended
    computed = partial(
        function, query=parts[0], key=parts[1].astype(kind), value=parts[2].astype(kind), scale=call.kwargs["scaling"]
    )
    name = ("flash" if flash else "unfused") + (", one query" if last else "")
    return Case("attention", name, precision, tuple(query.shape), query, reference, computed, spec, module)


def attended(ggml: Ggml, *, query: np.ndarray, key: np.ndarray, value: np.ndarray, scale: float) -> np.ndarray:
    """[T, H, D] of the last queries [H, T, D] on keys and values [K, S, D]."""
    mask = _mask(key.shape[1], query.shape[1])
    with ggml.graph(query, key, value, np.broadcast_to(mask, (len(query), *mask.shape))) as graph:
        scores = graph.apply("mul_mat", graph.put(key), graph.put(query))
        weights = graph.apply("soft_max_ext", scores, graph.put(mask), scale, 0.0)
        result = graph.apply("mul_mat", graph.put(np.ascontiguousarray(value.swapaxes(1, 2))), weights)
        return graph.computed(result, query.shape).swapaxes(0, 1).copy()


def attended_at_once(ggml: Ggml, *, query: np.ndarray, key: np.ndarray, value: np.ndarray, scale: float) -> np.ndarray:
    """The same by flash attention."""
    heads, length, size = query.shape
    with ggml.graph(query, key, value) as graph:
        mask = graph.put(_mask(key.shape[1], length).astype(np.float16))
        result = graph.apply("flash_attn_ext", *map(graph.put, (query, key, value)), mask, scale, 0.0, 0.0)
        return graph.computed(result, (length, heads, size))


def _mask(keys: int, queries: int) -> np.ndarray:
    """What each of the last queries may not see."""
    return np.triu(np.full((queries, keys), -np.inf, np.float32), keys - queries + 1)


def _epsilon(module: torch.nn.Module) -> float:
    return float(next(getattr(module, name) for name in ("variance_epsilon", "eps") if hasattr(module, name)))
