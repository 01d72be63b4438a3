"""torch's kernels at a model's own shapes: its modules, replayed in a narrower type on what flowed into them in float64."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logitproof.engines import _float64 as wide
from logitproof.engines._kernel_calls import Call, captured
from logitproof.engines._noise import FLOATS, Noise, Spec
from logitproof.engines.transformers import Transformers
from logitproof.kernels import SETTINGS, Kernel

LENGTH = 48


class TorchKernels:
    """One model and the first call of each of its operations, by kind, name and shape."""

    def __init__(self, model: Path, text: str) -> None:
        self._engine = Transformers(dtype="float64", threads=1)
        self._engine.load(model)
        self._folder, self.model = model, self._engine._model
        ids = self._engine.tokenize(text)[:LENGTH]
        self.tokens = len(ids)
        self.calls, self.functions = captured(self.model, ids)
        hello = self._engine.hello()
        self.versions = hello.versions
        self.isa = {**hello.isa, **{name: os.environ[name] for name in SETTINGS if name in os.environ}}

    def measure(self, dtype: str) -> list[Kernel]:
        """Every operation in this type, against float64 on the same rounded weights and inputs."""
        narrow = Transformers(dtype=dtype, threads=1)  # type: ignore[arg-type]
        narrow.load(self._folder)
        exact = Transformers(dtype="float64", threads=1)
        exact.load(self._folder)
        with torch.no_grad():
            for ours, theirs in zip(exact._model.parameters(), narrow._model.parameters(), strict=True):
                ours.copy_(theirs)
        models = (narrow._model, exact._model)
        return [self._measured(call, dtype, *models) for call in self.calls] + self._functions(dtype)

    def _measured(self, call: Call, dtype: str, rounding: torch.nn.Module, widened: torch.nn.Module) -> Kernel:
        kind = FLOATS[dtype]
        narrow, exact = rounding.get_submodule(call.path), widened.get_submodule(call.path)
        args, kwargs = (_cast(one, kind) for one in (call.args, call.kwargs))
        with torch.inference_mode():
            rounded = _first(narrow(*args, **kwargs))
            given = (_cast(args, torch.float64), _cast(kwargs, torch.float64))
            with wide.float64():
                right = _first(exact(*given[0], **given[1]))
            _tag(given, kind)
            with wide.float64(), Noise(Spec(base=kind), exact, 0):
                noisy = _first(exact(*given[0], **given[1]))
        shape = tuple(next((tuple(one.shape) for one in call.module.parameters()), tuple(right.shape)))
        first = next(one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor) and one.is_floating_point())
        return kernel_of("torch", call.kind, call.name, dtype, shape, first, right, rounded, noisy)

    def _functions(self, dtype: str) -> list[Kernel]:
        """Softmax of attention scores and the rotation of queries, which are no modules."""
        kind, random = FLOATS[dtype], torch.Generator().manual_seed(0)
        heads = self.model.config.num_attention_heads
        size = getattr(self.model.config, "head_dim", None) or self.model.config.hidden_size // heads
        scores = 3 * torch.randn((1, heads, self.tokens, self.tokens), generator=random, dtype=torch.float64)
        query = torch.randn((1, heads, self.tokens, size), generator=random, dtype=torch.float64)
        angles = torch.rand((1, self.tokens, size), generator=random, dtype=torch.float64) * 6
        cases: list[tuple[str, str, Callable[..., Any], tuple[torch.Tensor, ...]]] = [
            (
                "softmax",
                "softmax",
                lambda x: torch.nn.functional.softmax(x, dim=-1, dtype=torch.float32).to(x.dtype),
                (scores,),
            ),
            ("rope", "rotate", _rotated, (query, angles.cos()[:, None], angles.sin()[:, None])),
        ]
        found = []
        for sort, name, function, inputs in cases:
            given = tuple(one.to(kind) for one in inputs)
            same = tuple(one.double() for one in given)
            with torch.inference_mode():
                rounded = function(*given)
                with wide.float64():
                    right = function(*same)
                _tag(same, kind)
                with wide.float64(), Noise(Spec(base=kind), torch.nn.Module(), 0):
                    noisy = function(*same)
            found.append(kernel_of("torch", sort, name, dtype, tuple(right.shape), given[0], right, rounded, noisy))
        return found


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions by halves (Su et al. 2021)."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-right, left), dim=-1) * sin


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
        return {key: _cast(one, kind) for key, one in value.items()}
    return type(value)(_cast(one, kind) for one in value) if isinstance(value, tuple | list) else value


def _tag(value: Any, kind: torch.dtype) -> None:
    """Say of every tensor that it would be of this type, as `Noise` reads it."""
    if isinstance(value, torch.Tensor):
        value._kind = kind  # type: ignore[attr-defined]
    elif isinstance(value, dict | tuple | list):
        for one in value.values() if isinstance(value, dict) else value:
            _tag(one, kind)


def _first(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else _first(value[0])
