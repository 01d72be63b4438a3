"""torch's kernels at a model's own shapes: its modules, replayed in a narrower type on what flowed into them in float64."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from logitproof.contract.arithmetic import Arithmetic
from logitproof.kernels.kernel import SETTINGS, Kernel
from logitproof.reference import float64 as wide
from logitproof.reference.angles import disturbed
from logitproof.reference.calls import Call, captured, scores_of
from logitproof.reference.model import EXACT, Dtype, Loading, load
from logitproof.reference.noise import FLOATS, Noise, Spec, mark
from logitproof.reference.versions import instruction_set, versions

LENGTH = 48
SEEDS = 8
"""Draws of the noise whose RMS is the error that is assumed: some of its errors are one number for all positions."""
KINDS = {
    "apply_rotary_pos_emb": ("rope", "query at 0"),
    "eager_attention_forward": ("attention", "unfused"),
    "causal_conv1d_fn": ("delta-net", "conv1d"),
    "torch_chunk_gated_delta_rule": ("delta-net", "gated_delta_rule"),
}
"""Kind and name of the operations that are functions, as ggml's have them."""


class TorchKernels:
    """One model and the first call of each of its operations, by kind, name and shape."""

    def __init__(self, model: Path, text: str) -> None:
        torch.set_num_threads(1)
        reference = load(model, loading=EXACT)
        self._folder, self.model = model, reference.model
        ids = reference.tokenize(text)[:LENGTH]
        self.tokens = len(ids)
        self.calls, self.functions = captured(self.model, ids)
        self.versions = versions()
        self.isa = {**instruction_set(), **{name: os.environ[name] for name in SETTINGS if name in os.environ}}

    def measure(self, dtype: str) -> list[Kernel]:
        """Every operation in this type, against float64 on the same rounded weights and inputs."""
        models = [load(self._folder, loading=loading).model for loading in (Loading(dtype=cast(Dtype, dtype)), EXACT)]
        with torch.no_grad():
            for rounded, exact in zip(*(model.parameters() for model in models), strict=True):
                exact.copy_(rounded)
        modules = [(call, *(model.get_submodule(call.path) for model in models)) for call in self.calls]
        functions = [(call, call.module, call.module) for call in self._functions()]
        with torch.inference_mode():
            return [_measured(call, dtype, rounding, widened) for call, rounding, widened in (*modules, *functions)]

    def _functions(self) -> list[Call]:
        """The operations that are functions, and the softmax that is inside of one."""
        calls = [replace(call, kind=KINDS[name][0], path=KINDS[name][1]) for name, call in self.functions.items()]
        attention = self.functions["eager_attention_forward"]
        given = (scores_of(attention) * attention.kwargs["scaling"] + attention.args[4],)
        return [*calls, Call("softmax", "softmax", _softmax, given, {})]


def _measured(call: Call, dtype: str, narrow: Any, exact: Any) -> Kernel:
    """A module, or the same function twice, in this type and in float64 with and without noise."""
    kind = FLOATS[dtype]
    args, kwargs = (_cast(values, kind) for values in (call.args, call.kwargs))
    rounded = _first(narrow(*args, **kwargs))
    given = (_cast(args, torch.float64), _cast(kwargs, torch.float64))
    parameters = (
        [tuple(parameter.shape) for parameter in call.module.parameters()] if isinstance(call.module, torch.nn.Module) else []
    )
    module = exact if isinstance(exact, torch.nn.Module) else torch.nn.Module()
    tables = [exact] if hasattr(exact, "inv_freq") else []
    arithmetic = Arithmetic(base=dtype)  # type: ignore[arg-type]
    with wide.float64():
        right = _first(exact(*given[0], **given[1]))
        _tag(given, kind)
        noisy = []
        for seed in range(SEEDS):
            with disturbed(tables, arithmetic, seed), Noise(Spec(base=kind), module, seed):
                noisy.append(_first(exact(*given[0], **given[1])))
    shape = next(iter(parameters), tuple(right.shape))
    first = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor) and value.is_floating_point())
    return kernel_of("torch", call.kind, call.name, dtype, shape, first, right, rounded, torch.stack(noisy))


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    """Softmax as models have it: in float32, whatever the scores are."""
    return torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(scores.dtype)


def kernel_of(
    engine: str, kind: str, name: str, precision: str, shape: tuple[int, ...], given: Any, right: Any, rounded: Any, noisy: Any
) -> Kernel:
    exact, error = right.double(), (rounded.double() - right.double()).abs()
    scale = float(exact.square().mean().sqrt())
    source = given.double()
    size = float(source.square().mean().sqrt())
    return Kernel(
        engine,
        kind,
        name,
        precision,
        shape,
        float(error.square().mean().sqrt()) / scale,
        float(np.quantile(error.numpy(), 0.999)) / scale,
        float((noisy.double() - exact).square().mean().sqrt()) / scale,
        size,
        float(source.abs().max()) / size,
    )


def _cast(value: Any, kind: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(kind) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: _cast(part, kind) for key, part in value.items()}
    return type(value)(_cast(part, kind) for part in value) if isinstance(value, tuple | list) else value


def _tag(value: Any, kind: torch.dtype) -> None:
    """Mark every tensor as one that would be of this type."""
    if isinstance(value, torch.Tensor):
        mark(value, kind)
    elif isinstance(value, dict | tuple | list):
        for part in value.values() if isinstance(value, dict) else value:
            _tag(part, kind)


def _first(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else _first(value[0])
