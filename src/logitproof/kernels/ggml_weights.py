"""ggml's kernels with weights: matrix products, and the router, the products and the sum of a mixture of experts."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from logitproof.contract.arithmetic import ACTIVATIONS, GGML_LANES, Format
from logitproof.kernels.ggml_case import Case, array, narrowed
from logitproof.kernels.ggml_graph import Ggml, Graph, Stored
from logitproof.reference import float64 as wide
from logitproof.reference.calls import Call
from logitproof.reference.noise import Spec

SMALLER = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    **{"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"},
}
"""What llama.cpp takes for rows that are no whole blocks (`tensor_type_fallback` of llama-quant.cpp)."""
PRODUCTS = ("gate_up_proj", "down_proj")
FLOAT = 4
"""Bytes of a float32."""
LEAST_SUM = 2.0**-14
"""llama.cpp divides the weights of experts by no less."""


def type_for(columns: int, kind: str) -> str:
    """The type that llama.cpp gives rows of this length in a file of `kind`: a smaller block where they are no whole ones."""
    kinds = (kind, SMALLER.get(kind, kind), "F16")
    return next(short for short in kinds if columns % GGML_QUANT_SIZES[GGMLQuantizationType[short]][0] == 0)


def matmul(call: Call, kind: str, ggml: Ggml) -> Case:
    """One matrix with its weights in this type; exact is the product with the dequantized ones."""
    x = narrowed(call.args[0]).reshape(-1, call.args[0].shape[-1])
    stored = ggml.stored(array(call.module.weight), kind)
    rows, columns = stored.shape
    module = torch.nn.Linear(columns, rows, bias=False, dtype=torch.float64)
    module.weight = _parameter(stored)

    def computed(ggml: Ggml) -> np.ndarray:
        with ggml.graph(stored.data, array(x)) as graph:
            return graph.computed(graph.apply("mul_mat", graph.put(stored), graph.put(array(x))), (len(x), rows))

    return Case("matmul", call.name, kind, stored.shape, x, lambda: module(x), computed, _spec({"weight": kind}), module)


class Chosen(torch.nn.Module):  # type: ignore[misc]
    """Rows [T, k, K] times the matrix of the expert that each is for, [X, N, K]."""

    def __init__(self, stored: Stored) -> None:
        super().__init__()
        self.weight = _parameter(stored)

    def forward(self, rows: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        """[T, k, N]."""
        products = rows.new_zeros((*experts.shape, self.weight.shape[1]))
        for number in range(len(self.weight)):
            taken = experts == number
            products[taken] = torch.nn.functional.linear(rows[taken], self.weight[number])
        return products


class Experts:
    """One block of a mixture and what flows through it in float64: x [T, E], the experts and their weights [T, k]."""

    def __init__(self, block: Call, router: Call) -> None:
        self.block, self.router = block, router
        size = block.args[0].shape[-1]
        self.x = narrowed(block.args[0]).reshape(-1, size)
        module = block.module
        with torch.inference_mode(), wide.float64():
            _, weights, self.chosen = router.module(self.x)
            self.weights = narrowed(weights)
        self.parameters = {name: getattr(module.experts, name) for name in PRODUCTS}
        self.normalized = bool(router.module.norm_topk_prob)

    def routed(self) -> Case:
        """The router: its own product, softmax, the best k and their weights."""
        gate = self.router.module
        shape = tuple(gate.weight.shape)

        def computed(ggml: Ggml) -> np.ndarray:
            with ggml.graph(array(self.x), array(gate.weight)) as graph:
                weights, _ = self._routes(graph, graph.put(array(self.x)))
                return graph.computed(weights, tuple(self.chosen.shape))

        return Case("router", self.router.name, "F32", shape, self.x, lambda: gate(self.x)[1], computed)

    def product(self, name: str, kind: str, ggml: Ggml) -> Case:
        """The products of every position with the matrices of its experts."""
        count = self.chosen.shape[1]
        with torch.inference_mode(), wide.float64():
            rows = self.x[:, None].expand(-1, count, -1)
            if name == "down_proj":
                rows = narrowed(self._activated(rows))
        stored = ggml.stored(array(self.parameters[name]), kind)
        module, given = Chosen(stored), array(rows if name == "down_proj" else rows[:, :1])

        def computed(ggml: Ggml) -> np.ndarray:
            with ggml.graph(stored.data, given, array(rows)) as graph:
                ids = graph.put(self.chosen.numpy().astype(np.int32))
                result = graph.apply("mul_mat_id", graph.put(stored), graph.put(given), ids)
                return graph.computed(result, (*self.chosen.shape, stored.shape[1]))

        reference = functools.partial(module.__call__, rows, self.chosen)
        return Case("experts", name, kind, stored.shape, rows, reference, computed, _spec({"weight": kind}), module)

    def combined(self) -> Case:
        """The sum of the experts' outputs, each times its weight."""
        with torch.inference_mode(), wide.float64():
            inner = self._activated(self.x[:, None].expand(-1, self.chosen.shape[1], -1))
            outputs = narrowed(_of_experts(inner, self.parameters["down_proj"], self.chosen))
        weights, shape = self.weights[..., None], tuple(self.x.shape)

        def computed(ggml: Ggml) -> np.ndarray:
            with ggml.graph(array(outputs), array(weights)) as graph:
                return graph.computed(_sum(graph, graph.put(array(outputs)), graph.put(array(weights)), outputs.shape), shape)

        return Case("experts", "combine", "F32", tuple(outputs.shape), outputs, lambda: (outputs * weights).sum(1), computed)

    def whole(self, kind: str, ggml: Ggml) -> Case:
        """The block as llama.cpp builds it in a file of `kind`, with its own choice of experts."""
        kinds = {name: type_for(weight.shape[-1], kind) for name, weight in self.parameters.items()}
        stored = {name: ggml.stored(array(self.parameters[name]), short) for name, short in kinds.items()}
        module = copy.deepcopy(self.block.module)
        for name, weight in stored.items():
            setattr(module.experts, name, _parameter(weight))
        spec = _spec({f"experts.{name}": short for name, short in kinds.items()}, routes=[self.chosen])
        size, inner = self.x.shape[1], stored["down_proj"].shape[-1]
        halves = [ggml.stored(array(half), kinds["gate_up_proj"]) for half in self.parameters["gate_up_proj"].chunk(2, 1)]

        def computed(ggml: Ggml) -> np.ndarray:
            given = array(self.x)
            with ggml.graph(given, *(weight.data for weight in (*halves, stored["down_proj"]))) as graph:
                x = graph.put(given)
                weights, ids = self._routes(graph, x)
                rows = graph.apply("reshape_3d", x, size, 1, len(given))
                parts = [graph.apply("mul_mat_id", graph.put(half), rows, ids) for half in halves]
                active = graph.apply("swiglu_split", *parts)
                outputs = graph.apply("mul_mat_id", graph.put(stored["down_proj"]), active, ids)
                scales = graph.apply("reshape_3d", weights, 1, self.chosen.shape[1], len(given))
                return graph.computed(_sum(graph, outputs, scales, (*self.chosen.shape, size)), given.shape)

        shape = (*self.parameters["gate_up_proj"].shape[:1], inner, size)
        return Case("MoE", self.block.name, kind, shape, self.x, lambda: module(self.x[None])[0], computed, spec, module)

    def _routes(self, graph: Graph, x: int) -> tuple[int, int]:
        """Weights and numbers of the experts."""
        gate = array(self.router.module.weight)
        length, count = self.chosen.shape
        scores = graph.apply("soft_max", graph.apply("mul_mat", graph.put(gate), x))
        ids = graph.apply("argsort_top_k", scores, count)
        weights = graph.apply("get_rows", graph.apply("reshape_3d", scores, 1, len(gate), length), ids)
        weights = graph.apply("reshape_2d", weights, count, length)
        if self.normalized:
            whole = graph.apply("clamp", graph.apply("sum_rows", weights), LEAST_SUM, math.inf)
            weights = graph.apply("div", weights, whole)
        return weights, ids

    def _activated(self, rows: torch.Tensor) -> torch.Tensor:
        gate, up = _of_experts(rows, self.parameters["gate_up_proj"], self.chosen).chunk(2, -1)
        active: torch.Tensor = self.block.module.experts.act_fn(gate) * up
        return active


def _sum(graph: Graph, outputs: int, weights: int, shape: Sequence[int]) -> int:
    """Sum over the k of outputs [T, k, E] times weights [T, k, 1], added one after the other."""
    length, count, size = shape
    scaled, row = graph.apply("mul", outputs, weights), size * FLOAT
    parts = [graph.apply("view_2d", scaled, size, length, count * row, number * row) for number in range(count)]
    return functools.reduce(functools.partial(graph.apply, "add"), parts[1:], graph.apply("cont", parts[0]))


def _of_experts(rows: torch.Tensor, weight: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return torch.einsum("tkc,tknc->tkn", rows, weight[chosen])


def _spec(kinds: Mapping[str, str], routes: Sequence[torch.Tensor] | None = None) -> Spec:
    """What calibrate assumes of a product with parameters of these types."""
    known: dict[str, Format | None] = {name: ACTIVATIONS[kind] for name, kind in kinds.items()}
    return Spec(lanes=GGML_LANES, formats={name: layout for name, layout in known.items() if layout}, routes=routes)


def _parameter(stored: Stored) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.from_numpy(stored.dequantized()).double(), requires_grad=False)
