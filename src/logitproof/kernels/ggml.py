"""ggml's own kernels at a model's own shapes, each alone in a graph, on what flows there in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from logitproof.contract.arithmetic import ACTIVATIONS
from logitproof.errors import Refusal
from logitproof.kernels import ggml_deltanet as delta
from logitproof.kernels import ggml_operations as plain
from logitproof.kernels import ggml_weights as weighted
from logitproof.kernels.ggml_case import Case
from logitproof.kernels.ggml_graph import Ggml
from logitproof.kernels.kernel import Kernel
from logitproof.kernels.torch import TorchKernels

FILES = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K"), "Q4_K_S": ("Q4_K",), "Q5_K_S": ("Q5_K",)}
"""Types of weights in a mixed file."""
WITH_IMPORTANCE = ("IQ1_S", "IQ2_XXS", "IQ2_XS")
"""Types that ggml ends the process over where it is to quantize to them without an importance matrix."""
FAR = 1000
"""A position at which the errors of iterated angles have grown."""


@dataclass(frozen=True)
class Missing:
    """What was not measured, and why."""

    engine: str
    kind: str
    name: str
    precision: str
    reason: str


class GgmlKernels:
    """The kernels of one build, on the calls of one model."""

    def __init__(self, bench: TorchKernels, build: Path | None = None) -> None:
        self.ggml = Ggml(build)
        self._config = bench.model.config
        self._functions, self._missing, self._done = bench.functions, list[Missing](), set[tuple[object, ...]]()
        self._calls = {
            kind: [call for call in bench.calls if call.kind == kind] for kind in {call.kind for call in bench.calls}
        }
        mixtures = zip(self._calls.get("MoE", []), self._calls.get("router", []), strict=True)
        self._mixtures = [weighted.Experts(block, router) for block, router in mixtures]

    def measure(self, quantization: str) -> list[Kernel]:
        """Everything with weights, with them in each type of this quantization; exact has the dequantized weights."""
        return [case.measured(self.ggml) for case in self.weighted(quantization)]

    def measure_plain(self) -> list[Kernel]:
        """Everything that has no weights, or float32 ones in every file."""
        return [case.measured(self.ggml) for case in self.plain()]

    @property
    def missing(self) -> list[dict[str, str]]:
        """What the cases so far left out."""
        return [asdict(missing) for missing in self._missing]

    def weighted(self, quantization: str) -> Iterator[Case]:
        """Matrices, the experts' products, and whole blocks of experts."""
        kinds = FILES.get(quantization, (quantization,))
        for kind in kinds:
            if kind not in ACTIVATIONS:
                known = ", ".join([*ACTIVATIONS, *FILES])
                raise Refusal(f"no kernel is known for {quantization!r}", field="--quant", remedy=f"name one of {known}")
            if kind in WITH_IMPORTANCE:
                text = f"{kind} is not quantized without what an importance matrix says of the model"
                raise Refusal(text, field="--quant", remedy="name IQ3_S or IQ4_XS")
        for kind in kinds:
            for call in self._calls.get("matmul", []):
                weight = call.module.weight
                if self._is_new("matmul", call.name, short := weighted.type_for(weight.shape[1], kind), weight.shape):
                    yield weighted.matmul(call, short, self.ggml)
            for mixture in self._mixtures:
                for name, weight in mixture.parameters.items():
                    if self._is_new("experts", name, short := weighted.type_for(weight.shape[-1], kind), weight.shape):
                        yield mixture.product(name, short, self.ggml)
                if self._is_new("MoE", mixture.block.name, kind, ()):
                    yield mixture.whole(kind, self.ggml)

    def plain(self) -> Iterator[Case]:
        """Norms, activations, positions, softmax, attention, routers and what is special to delta nets."""
        yield from (plain.norm(call) for call in self._calls.get("norm", []))
        yield from (plain.activation(call) for call in self._calls.get("activation", []))
        yield from (plain.swiglu(call) for call in self._calls.get("mlp", []))
        yield from self._rotated()
        attention = self._functions["eager_attention_forward"]
        yield plain.softmax(attention)
        for precision, flash in (("F32", False), ("F16", False), ("F16", True)):
            yield from (plain.attention(attention, precision, flash=flash, last=last) for last in (False, True))
        for mixture in self._mixtures:
            yield from (mixture.routed(), mixture.combined())
        yield from (case for call in self._calls.get("delta-net", []) for case in delta.gates(call))
        special: dict[str, Callable[..., Case]] = {
            "causal_conv1d_fn": delta.convolution,
            "torch_chunk_gated_delta_rule": delta.delta_rule,
        }
        yield from (make(self._functions[name]) for name, make in special.items() if name in self._functions)

    def _rotated(self) -> Iterator[Case]:
        made = partial(plain.rope, self._functions["apply_rotary_pos_emb"], self._calls["rope"][0].module, self._config)
        try:
            for first in (0, FAR):
                yield made(first)
        except ValueError as error:
            self._missing.append(Missing("ggml", "rope", "query", "F32", str(error)))

    def _is_new(self, *key: object) -> bool:
        """Two mixed files share types of weights."""
        new = key not in self._done
        self._done.add(key)
        return new
