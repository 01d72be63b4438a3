"""ggml's kernels of a gated delta net: the short convolution, the gates and the gated delta rule (Yang et al. 2024)."""

from __future__ import annotations

import math
import sys

import numpy as np
import torch

from logitproof.kernels.ggml_case import Case, array, narrowed
from logitproof.kernels.ggml_graph import Ggml, Graph
from logitproof.reference import float64 as wide
from logitproof.reference.calls import Call
from logitproof.reference.predict import BY_STEPS

EPSILON = 1e-6
"""Of the L2 norm of queries and keys, in transformers' own code."""


def convolution(call: Call) -> Case:
    """Each channel with its own few weights, then silu: x [1, C, T], weight [C, K]."""
    x, weight = (narrowed(tensor) for tensor in call.args[:2])
    _, channels, length = x.shape
    given = np.pad(array(x[0]), ((0, 0), (weight.shape[1] - 1, 0)))[None]

    def reference() -> torch.Tensor:
        out: torch.Tensor = call.module(x, weight, *call.args[2:], **call.kwargs)
        return out.transpose(1, 2)

    def computed(ggml: Ggml) -> np.ndarray:
        with ggml.graph(given, array(weight)) as graph:
            made = graph.apply("ssm_conv", graph.put(given), graph.put(array(weight)))
            return graph.computed(graph.apply("silu", made), (length, channels))

    return Case("delta-net", "conv1d", "F32", tuple(weight.shape), x, reference, computed)


def gates(call: Call) -> list[Case]:
    """Decay and strength of every head, of the products of the hidden states."""
    net = call.module
    hidden = call.args[0] if call.args else call.kwargs["hidden_states"]
    with torch.inference_mode(), wide.float64():
        alpha, beta = (narrowed(projection(hidden)) for projection in (net.in_proj_a, net.in_proj_b))
        slope = narrowed(-net.A_log.exp())
    shift, shape = narrowed(net.dt_bias), tuple(alpha.shape)

    def decayed(ggml: Ggml) -> np.ndarray:
        with ggml.graph(array(alpha)) as graph:
            moved = graph.apply("add", graph.put(array(alpha)), graph.put(array(shift)))
            return graph.computed(graph.apply("mul", graph.apply("softplus", moved), graph.put(array(slope))), shape)

    def strong(ggml: Ggml) -> np.ndarray:
        with ggml.graph(array(beta)) as graph:
            return graph.computed(graph.apply("sigmoid", graph.put(array(beta))), shape)

    decay = Case(
        "delta-net", "decay", "F32", shape, alpha, lambda: slope * torch.nn.functional.softplus(alpha + shift), decayed
    )
    return [decay, Case("delta-net", "strength", "F32", shape, beta, beta.sigmoid, strong)]


def delta_rule(call: Call) -> Case:
    """Queries and keys [1, T, K, D], values [1, T, H, D], decay and strength [1, T, H], from an empty state."""
    query, key, value = (narrowed(tensor) for tensor in call.args[:3])
    decay, strength = narrowed(call.kwargs["g"]), narrowed(call.kwargs["beta"])
    length, heads, size = value.shape[1:]
    # ggml gives value head h the key head h mod K, transformers h // (H / K)
    order = np.arange(heads).reshape(query.shape[2], -1).T.reshape(-1)

    # the noise of steps: ggml goes token by token
    rule = getattr(sys.modules[call.module.__module__], BY_STEPS[call.name])

    def reference() -> torch.Tensor:
        out: torch.Tensor = rule(query, key, value, **{**call.kwargs, "g": decay, "beta": strength})[0]
        return out

    def computed(ggml: Ggml) -> np.ndarray:
        state = np.zeros((1, heads, size, size), np.float32)
        values = array(value)[:, :, order]
        gates = [array(tensor)[:, :, order, None] for tensor in (decay, strength)]
        with ggml.graph(array(query), array(key), values, *gates, state, state) as graph:
            pair = [_normalized(graph, array(tensor)) for tensor in (query, key)]
            rest = [graph.put(np.ascontiguousarray(part)) for part in (values, *gates, state)]
            result = graph.apply("gated_delta_net", *pair, *rest, 1)
            output = graph.computed(result, (1, length, heads, size))
        return output[:, :, np.argsort(order)]

    return Case("delta-net", "gated_delta_rule", "F32", tuple(value.shape), value, reference, computed)


def _normalized(graph: Graph, x: np.ndarray) -> int:
    """Each head divided by its length, as llama.cpp makes it from its RMS norm."""
    size = x.shape[-1]
    return graph.apply("scale", graph.apply("rms_norm", graph.put(x), EPSILON / size), 1 / math.sqrt(size))
