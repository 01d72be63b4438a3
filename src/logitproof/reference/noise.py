"""The reference with the rounding errors of another arithmetic: noise at every operation, at its own size.

While a `Noise` is entered, torch computes in the model's wide type and every tensor carries the type that
it would have in the arithmetic that is imitated. What would be rounded there is given, here, a random error of
the size of that rounding: uniform over one unit in the last place. The model's code is not touched, so whatever
it computes in float32 on purpose (norms, softmax, a recurrent state) is float32 here too.

Sums are not rounded once but at every addition. A sum of K products x·w that grows in `lanes` partial sums has
K / lanes additions in each, on sums that grow from nothing, then log2 lanes more: its error is
`ADDITION`·√(K / 2 lanes + log2 lanes)·√Σx²w². Where attention sums values in float16, each partial
sum is rounded to it. Quantized matrices of llama.cpp are multiplied with activations in blocks (Q8_0, Q8_K) or f16: they
get the error of that format at the input.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from logitproof.contract.arithmetic import Format
from logitproof.errors import Refusal

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DIGITS = {torch.float32: 23, torch.bfloat16: 7, torch.float16: 10}
LEAST = {torch.float32: -126, torch.bfloat16: -126, torch.float16: -14}
"""The exponent of the smallest normal number: below it the unit in the last place shrinks no further."""
ADDITION = 0.72 * 2.0**-23 / 12**0.5
"""RMS relative error of rounding to float32: the unit in the last place is 0.72 of 2^-23 in the mean over a binade."""
HALF_ADDITION = 2.0**13 * ADDITION
"""The same of float16, whose unit in the last place is so much larger."""
BLOCKS = {"q8_0": 32, "q8_k": 256}
ROWS = 4096
"""Rows of a matrix whose squares lie in memory at once."""
STEPS = 127
"""A block of 8 bits has 127 steps from zero to its largest value."""

ATTENTION = "eager_attention_forward"
"""The function of every model's code with two products in it: of queries and keys, and with the values."""
SUMMING = {"linear", "matmul", "__matmul__", "bmm", "conv1d", "sum", "mean", "cumsum", "solve_triangular"}
SUMMING |= {"einsum", "index_add_", "index_add", "linalg_solve_triangular"}
ROUNDING = {
    "mul", "add", "sub", "div", "rsub", "pow", "rsqrt", "sqrt", "exp", "expm1", "log", "log1p", "cos", "sin", "tanh",
    "sigmoid", "silu", "gelu", "softplus", "softmax", "log_softmax", "square", "reciprocal", "true_divide", "erf",
    "normalize", "rms_norm", "erfinv", "rdiv", "std", "layer_norm", "multiply",
}  # fmt: skip
EXACT = {
    "abs", "amax", "amin", "arange", "as_tensor", "bfloat16", "broadcast_tensors", "broadcast_to", "cat", "chunk", "clamp",
    "clone", "concat",
    "contiguous", "copy", "cpu", "detach", "diagonal", "double", "dropout", "embedding", "empty", "empty_like", "expand",
    "expand_as", "eye", "fill", "flatten", "flip", "float", "floor", "full", "full_like", "gather", "get", "getattr", "getitem",
    "half", "index_select", "ldexp", "masked_fill", "max", "min", "movedim", "narrow", "neg", "new_empty", "new_full",
    "new_ones", "new_zeros", "ones", "ones_like", "pad", "permute", "pin_memory", "relu", "repeat", "repeat_interleave",
    "requires_grad", "reshape", "roll", "scalar_tensor", "scatter", "set", "setitem", "sort", "split", "split_with_sizes",
    "squeeze", "stack", "swapaxes", "tensor", "to", "topk", "transpose", "tril", "triu", "type", "type_as", "unbind",
    "unflatten", "unfold", "unsqueeze", "view", "view_as", "where", "zero", "zeros", "zeros_like",
}  # fmt: skip


@dataclass
class Spec:
    """What is imitated: the type of weights and activations, and how llama.cpp takes the input of each matrix.

    `scale` multiplies every error; 0 computes without any. `formats` is by parameter, `cache` is the format of
    keys and values, and so of what is multiplied with them. With `half_sums`, attention sums them in float16, key by key. With
    `routes`, every choice of experts is the one given, in the order of the calls, whatever the noise says. `sums` is how many
    times larger than float32's the rounding of a partial sum is. With `half_gelu`, GELU reads and gives float16.
    """

    base: torch.dtype = torch.float32
    scale: float = 1.0
    lanes: int = 1
    formats: Mapping[str, Format] = field(default_factory=dict)
    cache: Format | None = None
    half_sums: bool = False
    routes: Sequence[torch.Tensor] | None = None
    sums: float = 1.0
    half_gelu: bool = False


class Noise(TorchFunctionMode):  # type: ignore[misc]
    """While entered, every operation of the model has the error that it would have in another arithmetic."""

    def __init__(self, spec: Spec, model: torch.nn.Module, seed: int) -> None:
        super().__init__()
        self.spec, self.routes, self._products = spec, list[torch.Tensor](), 0
        first = next(model.parameters(), torch.empty(0, dtype=torch.float64))
        self._wide, self._random = first.dtype, torch.Generator(first.device).manual_seed(seed)
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func == DTYPE:
            return self._kind(args[0]) or func(*args, **named)
        name = _name(func)
        given = [tensor for tensor in _tensors((args, named)) if tensor.is_floating_point()]
        asked = _asked(name, args, named)
        if asked is not None and isinstance(asked, torch.Tensor):
            asked = self._kind(asked)
        target = asked if asked in DIGITS else None
        args = tuple(self._widened(argument) for argument in args)
        named = {key: self._widened(value) for key, value in named.items()}
        if name in ("linear", "matmul", "__matmul__") and self.spec.scale:
            args = self._inputs(name, args, sys._getframe(1).f_code.co_name)
        if name == "gelu" and self.spec.half_gelu:
            args = (self._rounded(args[0], "f16"), *args[1:])
        result = func(*args, **named)
        if name == "gelu" and self.spec.half_gelu:
            result = self._rounded(result, "f16")
        if name in ("matmul", "__matmul__") and self.spec.half_sums and sys._getframe(1).f_code.co_name == ATTENTION:
            result = self._half_summed(result, *args)
        if name == "topk":
            result = self._routed(args[0], result)
        kind = target or self._promoted(given)
        if kind is None or not isinstance(result, torch.Tensor | tuple | list):
            return result
        self._check(name, given, result)
        if isinstance(result, torch.Tensor):
            return self._finished(name, kind, result, given, args)
        done = [self._tagged(output, kind, given) if isinstance(output, torch.Tensor) else output for output in result]
        return type(result)(done) if type(result) in (tuple, list) else type(result)(iter(done))

    def _finished(
        self, name: str, kind: torch.dtype, result: torch.Tensor, given: list[torch.Tensor], args: Any
    ) -> torch.Tensor:
        if not result.is_floating_point():
            return result
        if any(result is tensor for tensor in given) and not _in_place(name):
            result = result.detach()
        narrower = bool(given) and DIGITS[kind] < max(DIGITS[self._kind(tensor) or kind] for tensor in given)
        if self.spec.scale and (name.strip("_") in ROUNDING or name in SUMMING or name in IN_PLACE or narrower):
            with torch._C.DisableTorchFunction():
                error = self._error(name, kind, result, args)
                if _in_place(name):
                    result.add_(error)
                else:
                    result = result + error
        return self._tagged(result, kind, given)

    def _error(self, name: str, kind: torch.dtype, result: torch.Tensor, args: Any) -> torch.Tensor:
        unit = _unit(result, kind)
        if (exact := _exact(name, unit, kind, args)) is not None:
            unit = unit.masked_fill(exact, 0.0)
        error = unit * (self._uniform(result) - 0.5)
        if name == "softmax":
            error = error + self._softmax_error(unit, kind, result, args[0])
        if (kind is torch.float32 or self.spec.sums > 1) and name in SUMMING:
            length = _length_of_sum(name, args)
            if length is not None:
                lanes = min(self.spec.lanes, args[0].shape[-1])
                steps = args[0].shape[-1] / (2 * lanes) + math.log2(lanes)
                error = error + self.spec.sums * ADDITION * steps**0.5 * length * self._normal(result)
        return self.spec.scale * error

    def _softmax_error(self, unit: torch.Tensor, kind: torch.dtype, result: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """What one rounding does not say: those of the shifted scores, of their exponentials and of the division."""
        shifted = _unit(scores - scores.amax(-1, keepdim=True), kind) * (self._uniform(result) - 0.5)
        return result * shifted + unit * (self._uniform(result) + self._uniform(result) - 1)

    def _routed(self, scores: torch.Tensor, chosen: Any) -> Any:
        """The experts that the noise chose, or those that were given; what was taken is kept."""
        if self.spec.routes is None:
            self.routes.append(chosen[1])
            return chosen
        given = self.spec.routes[len(self.routes)]
        self.routes.append(given)
        with torch._C.DisableTorchFunction():
            return (scores.gather(-1, given), given)

    def _inputs(self, name: str, args: Any, caller: str) -> Any:
        """The two factors with the error of the format in which llama.cpp multiplies them."""
        left, right, *rest = args
        form = self.spec.formats.get(getattr(right, "noise_source", "") or self._names.get(id(right), ""))
        if form is not None and name == "linear":
            return (self._rounded(left, form), right, *rest)
        if self.spec.cache is not None and caller == ATTENTION:
            along = right.transpose(-1, -2)
            return (self._rounded(left, self.spec.cache), self._rounded(along, self.spec.cache).transpose(-1, -2), *rest)
        return args

    def _half_summed(self, result: torch.Tensor, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The second product of attention, [B, H, T, D], with the error of rounding every partial sum to float16.

        Weights [B, H, T, K] of keys that are masked are no additions.
        """
        self._products += 1
        if self._products % 2 or not self.spec.scale:
            return result
        with torch._C.DisableTorchFunction():
            error = torch.empty_like(result)
            for query in range(weights.shape[-2]):
                seen = weights[..., query, :, None]
                sums = (seen * values).cumsum(-2) * (seen > 0)
                error[..., query, :] = sums.square().sum(-2).sqrt()
            return result + self.spec.scale * HALF_ADDITION * error * self._normal(result)

    def _rounded(self, values: torch.Tensor, form: Format) -> torch.Tensor:
        with torch._C.DisableTorchFunction():
            if form in BLOCKS:
                size = BLOCKS[form]
                blocks = torch.nn.functional.pad(values, (0, -values.shape[-1] % size)).unflatten(-1, (-1, size))
                error = self._block_error(blocks, form).flatten(-2)[..., : values.shape[-1]]
            else:
                step = _unit(values, torch.float16 if form == "f16" else torch.bfloat16)
                error = step * (self._uniform(values) - 0.5)
            return values + self.spec.scale * error

    def _block_error(self, blocks: torch.Tensor, form: Format) -> torch.Tensor:
        """The error of blocks [..., n, block] of 8 bits: uniform over a step, but for two kinds of values.

        The largest of a block is `STEPS` steps by definition, and what is less than half a step becomes zero. In a real model
        one activation can be a thousand times the others of its block: then a step is larger than all of those, and an error
        over a whole step would be several times what a kernel makes. Blocks of 32 keep their step in float16 besides.
        """
        sizes = blocks.abs()
        largest = sizes.amax(-1, keepdim=True)
        step = largest / STEPS
        error = step * (self._uniform(blocks) - 0.5)
        error = torch.where(sizes < step / 2, -blocks, error).masked_fill(sizes == largest, 0.0)
        if form == "q8_0":
            share = _unit(step, torch.float16) / step.clamp(min=torch.finfo(step.dtype).tiny)
            error = error + (blocks + error) * share * (self._uniform(step) - 0.5)
        return error

    def _kind(self, tensor: torch.Tensor) -> torch.dtype | None:
        """The type that `tensor` would have; parameters are of the model's, what the model computed by itself float32."""
        kind = getattr(tensor, "noise_kind", None)
        if kind is not None:
            return kind  # type: ignore[no-any-return]
        with torch._C.DisableTorchFunction():
            if not tensor.is_floating_point():
                return None
        return self.spec.base if id(tensor) in self._names else torch.float32

    def _promoted(self, given: list[torch.Tensor]) -> torch.dtype | None:
        """Scalars, and tensors without dimensions beside others, do not widen the result."""
        counting = [tensor for tensor in given if tensor.ndim] or given
        kinds = [kind for kind in map(self._kind, counting) if kind is not None]
        if not kinds:
            return None
        # the promotion of float16 and bfloat16 is float32
        return kinds[0] if len(set(kinds)) == 1 else torch.float32

    def _tagged(self, tensor: torch.Tensor, kind: torch.dtype, given: list[torch.Tensor]) -> torch.Tensor:
        if tensor.is_floating_point() and id(tensor) not in self._names:
            mark(tensor, kind)
            if len(given) == 1:
                source = getattr(given[0], "noise_source", "") or self._names.get(id(given[0]), "")
                if source:
                    tensor.noise_source = source  # type: ignore[attr-defined]
        return tensor

    def _widened(self, value: Any) -> Any:
        return self._wide if isinstance(value, torch.dtype) and value in DIGITS else value

    def _check(self, name: str, given: list[torch.Tensor], result: Any) -> None:
        """Refuse an operation that is known neither to round nor to be exact: silence would make bands too tight."""
        plain = name.strip("_")
        known = plain in ROUNDING or plain in EXACT or name in SUMMING or name in IN_PLACE
        makes = any(tensor.is_floating_point() for tensor in _tensors(result))
        if given and makes and not known:
            raise Refusal(f"no noise is known for torch's {name}", field="noise", remedy="calibrate another model family")

    def _uniform(self, like: torch.Tensor) -> torch.Tensor:
        return torch.rand(like.shape, generator=self._random, dtype=like.dtype, device=like.device)

    def _normal(self, like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=self._random, dtype=like.dtype, device=like.device)


DTYPE = torch.Tensor.dtype.__get__  # type: ignore[attr-defined]
IN_PLACE = {"__iadd__", "__imul__", "__isub__", "__itruediv__", "__idiv__"}
SHORT = {
    "__rmul__": "mul",
    "__radd__": "add",
    "__rsub__": "sub",
    "__rtruediv__": "div",
    "__rpow__": "pow",
    "__truediv__": "div",
}


def mark(tensor: torch.Tensor, kind: torch.dtype) -> None:
    """Say of a tensor what type it would have, as `Noise` reads it."""
    tensor.noise_kind = kind  # type: ignore[attr-defined]


def _name(func: Callable[..., Any]) -> str:
    """`__add__`, `__radd__` and `add` are one operation; what works in place keeps its underscore."""
    name = getattr(func, "__name__", str(func))
    return SHORT.get(name, name)


def _in_place(name: str) -> bool:
    return name in IN_PLACE or (name.endswith("_") and not name.startswith("__"))


def _asked(name: str, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The type, or the tensor of the type, that the call asks for."""
    if name == "float":
        return torch.float32
    if name in ("to", "type_as") and len(args) > 1 and isinstance(args[1], torch.Tensor):
        return args[1]
    return next((argument for argument in (*args, *named.values()) if isinstance(argument, torch.dtype)), None)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in _tensors(part)]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple | list) else []


def _unit(values: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """The unit in the last place of each value in the type `kind`; 0 of 0 and of what is not finite."""
    _, exponent = torch.frexp(values)
    unit = torch.ldexp(torch.ones_like(values), (exponent - 1).clamp(min=LEAST[kind]) - DIGITS[kind])
    largest = torch.finfo(kind).max / 2
    return torch.where((values != 0) & (values.abs() < largest), unit, torch.zeros_like(unit))


def _exact(name: str, unit: torch.Tensor, kind: torch.dtype, args: Any) -> torch.Tensor | None:
    """Where a sum of two numbers lies on the grid already, or a factor is a power of two."""
    plain = name.strip("_")
    if plain not in ("add", "sub", "mul", "div") or _in_place(name):
        return None
    left, right = (torch.as_tensor(operand, dtype=unit.dtype, device=unit.device) for operand in args[:2])
    if plain in ("mul", "div"):
        powers = [torch.frexp(operand)[0].abs() == 0.5 for operand in ((right,) if plain == "div" else (left, right))]
        return powers[0] | powers[-1]
    grids = [_unit(operand, kind) for operand in (left, right)]
    finer = torch.minimum(*(torch.where(grid == 0, torch.inf, grid) for grid in grids))
    return finer >= unit


def _length_of_sum(name: str, args: Any) -> torch.Tensor | None:
    """√Σx²w² of every sum of products, in float32: it is the size of an error, and needs few digits."""
    if name == "linear":
        squares, weight = args[0].float().square(), args[1]
        parts = [torch.nn.functional.linear(squares, rows.float().square()) for rows in weight.split(ROWS)]
        return torch.cat(parts, dim=-1).sqrt().to(args[0].dtype)
    if name in ("matmul", "__matmul__", "bmm"):
        return torch.matmul(args[0].square(), args[1].square()).sqrt()
    return None
