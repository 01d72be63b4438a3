"""compressed-tensors, as llm-compressor and vLLM publish: which of its formats a matrix has is read from its tensors.

The document is the package's compressors (compressed_tensors/compressors/*/base.py) and quantization/lifecycle/forward.py:

* pack-quantized: `weight_packed` int32, the numbers of a row less −2^(bits−1) one after another from the lowest bit on, also
  across words, as the package does today (pack_quantized/helpers.py of 0.20), or 32 // bits whole numbers a word, as it did
  until then: the count of words tells which; `weight_shape`; `weight_scale`, one a group of inputs, a row or the matrix;
  `weight_zero_point` packed likewise along the outputs; `weight_g_idx`, the group of every input. The weight is (number −
  zero) × scale.
* int-quantized, float-quantized, naive-quantized, mxfp8: `weight` in int8 or FP8 with `weight_scale`, and blocks as well.
* nvfp4-pack-quantized: `weight_packed` uint8, `weight_scale` E4M3; the weight is number × scale / `weight_global_scale`.
* mxfp4-pack-quantized: `weight_packed` uint8, `weight_scale` E8M0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from logitproof.files.untrusted import Foreign
from logitproof.weights.quantized import fp8, mxfp4, nvfp4
from logitproof.weights.quantized.held import Held, Matrix, Settings, grouped
from logitproof.weights.quantized.numbers import EIGHT, Array, bits_of, words_of

METHODS = ("compressed-tensors", "compressed_tensors")
READ = ("dense", "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "mixed-precision",
        "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized")  # fmt: skip
FLOATS = ("F32", "F16", "BF16")
WORD = 32
Size = Annotated[int, Field(ge=1, lt=1 << 31)]


class Weights(Foreign):
    """How the weights of a group of layers are quantized."""

    num_bits: Annotated[int, Field(ge=1, le=8)]
    type: str = "int"
    group_size: int | None = None
    strategy: str | None = None
    block_structure: list[Size] | str | None = None


class Scheme(Foreign):
    """A group of layers."""

    weights: Weights | None = None
    format: str | None = None


class Stated(Foreign):
    """The settings that say what a number means."""

    config_groups: dict[str, Scheme]
    format: str = "dense"
    sparsity_config: dict[str, Any] | None = None
    transform_config: dict[str, Any] | None = None


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every matrix with `weight_packed`, and every one of eight bits with `weight_scale`."""
    stated = settings.read(Stated)
    formats = {stated.format, *(scheme.format for scheme in stated.config_groups.values() if scheme.format)}
    if foreign := sorted(formats - set(READ)):
        text = f"is {foreign[0]!r}; read are {', '.join(READ)}"
        raise settings.refused(text, "format", "take a checkpoint in one of these formats")
    sparse = str((stated.sparsity_config or {}).get("format", "dense"))
    if sparse != "dense":
        text = f"is {sparse!r}: weights that are packed as sparse are not read"
        raise settings.refused(text, "sparsity_config.format", "take a checkpoint that is not sparse")
    if (stated.transform_config or {}).get("config_groups"):
        text = "turns activations or weights while the model runs, so the stored weights alone are not those of the model"
        raise settings.refused(text, "transform_config", "take a checkpoint without transforms")
    schemes = [scheme.weights for scheme in stated.config_groups.values() if scheme.weights]
    return list(_matrices(held, schemes))


def _matrices(held: Held, schemes: list[Weights]) -> Iterator[Matrix]:
    for stem in held.stems(".weight_packed", "I32"):
        yield _packed(held, stem, schemes)
    for stem in held.stems(".weight_packed", "U8"):
        yield _halves(held, stem)
    for stem in held.stems(".weight", "I8", *fp8.NUMBERS):
        yield _eight(held, stem, schemes)
    for stem in held.stems(".weight_packed"):
        held.check(f"{stem}.weight_packed", ("I32", "U8"), held.shape(f"{stem}.weight_packed"), f"{stem}.weight")


def _packed(held: Held, stem: str, schemes: list[Weights]) -> Matrix:
    packed, shape_name, scale = (f"{stem}.{ending}" for ending in ("weight_packed", "weight_shape", "weight_scale"))
    zero, index, name = f"{stem}.weight_zero_point", f"{stem}.weight_g_idx", f"{stem}.weight"
    held.check(shape_name, ("I64", "I32"), (2,), name)
    rows, columns = (int(length) for length in held.whole(shape_name))
    if not (0 < rows < 1 << 31 and 0 < columns < 1 << 31):
        raise held.refused(shape_name, f"is {rows} × {columns}")
    (own_rows, words) = held.check(packed, ("I32",), (rows, None), name)
    bits, dense = _layout(held, packed, {scheme.num_bits for scheme in schemes}, (words, columns))
    own = held.check(scale, FLOATS, held.shape(scale) if scale in held else (), name)
    block = _block(held, scale, own, (own_rows, columns), [scheme for scheme in schemes if scheme.num_bits == bits])
    groups, zero_dense = own[-1] if len(own) > 1 else 1, dense
    if zero in held and held.kind(zero) == "I32":
        zero_words, _ = held.check(zero, ("I32",), (None, groups), name)
        _, zero_dense = _layout(held, zero, {bits}, (zero_words, rows))
    if index in held:
        held.check(index, ("I32", "I64"), (columns,), name)

    def values() -> Array:
        numbers = bits_of(held.whole(packed), bits, columns, dense=dense).astype(np.float32) - float(1 << (bits - 1))
        zeros = _zeros(held, zero, bits, rows, dense=zero_dense)
        return _scaled(held, stem, numbers, zeros, block)

    sources = [packed, shape_name, scale, *(extra for extra in (zero, index) if extra in held)]
    return Matrix(name, (rows, columns), f"INT{bits}", tuple(sources), values)


def _layout(held: Held, name: str, widths: set[int], size: tuple[int, int]) -> tuple[int, bool]:
    """The bits of a number, of those stated, and whether numbers lie across words: what (words, numbers) of a row leave open.

    Raises ModelError where nothing stated gives these words, or two of them do and mean other numbers.
    """
    words, count = size
    fitting = {(bits, True) for bits in widths if words_of(count, bits) == words}
    fitting |= {(bits, False) for bits in widths if WORD % bits and words_of(count, bits, dense=False) == words}
    if count <= WORD // max(widths, default=1):  # in a single word both ways are the same
        fitting = {layout for layout in fitting if layout[1]}
    if len(fitting) > 1:
        raise held.refused(name, f"has {words} words for {count} numbers, whose bits may lie in {len(fitting)} ways")
    for layout in fitting:
        return layout
    raise held.refused(name, f"has {words} words for {count} numbers, and those of {sorted(widths)} bits need others")


def _zeros(held: Held, name: str, bits: int, rows: int, *, dense: bool = True) -> Array | None:
    """float32 of zero points; packed ones lie along the outputs."""
    if name not in held:
        return None
    if held.kind(name) == "I32":
        return np.asarray(bits_of(held.whole(name).T, bits, rows, dense=dense).T.astype(np.float32) - float(1 << (bits - 1)))
    return held.whole(name).astype(np.float32) if held.kind(name) in ("I8", "U8") else held.floats(name)


def _eight(held: Held, stem: str, schemes: list[Weights]) -> Matrix:
    name, scale, zero, index = (f"{stem}.weight{ending}" for ending in ("", "_scale", "_zero_point", "_g_idx"))
    shape = held.shape(name)
    own = held.check(scale, fp8.SCALES, held.shape(scale) if scale in held else (), name)
    whole = held.kind(name) == "I8"
    # naive-quantized keeps whole numbers of fewer bits in bytes
    fitting = [scheme for scheme in schemes if (scheme.type == "int" if whole else scheme.num_bits == EIGHT)]
    block = _block(held, scale, own, shape, fitting)

    def values() -> Array:
        numbers = held.whole(name).astype(np.float32) if whole else held.floats(name)
        if not np.isfinite(numbers).all():
            raise held.refused(name, "holds a number that is not finite")
        return _scaled(held, stem, numbers, _zeros(held, zero, 8, shape[0]), block)

    sources = (name, scale, *(extra for extra in (zero, index) if extra in held))
    return Matrix(name, shape, "INT8" if whole else held.kind(name), sources, values)


def _halves(held: Held, stem: str) -> Matrix:
    """Two numbers of E2M1 a byte: NVFP4 where a scale stands for 16 inputs and the matrix has one more, else MXFP4."""
    packed, scale, whole = (f"{stem}.{ending}" for ending in ("weight_packed", "weight_scale", "weight_global_scale"))
    name, shape = f"{stem}.weight", held.shape(packed)
    nvidia = whole in held or (scale in held and held.kind(scale) == "F8_E4M3")
    size = nvfp4.GROUP if nvidia else fp8.MX_GROUP
    if len(shape) < 2 or shape[-1] * 2 % size:
        raise held.refused(packed, f"has the shape {list(shape)}, and rows hold whole groups of {size}")
    columns = shape[-1] * 2
    kinds = ("F8_E4M3",) if nvidia else ("U8", "F8_E8M0")
    held.check(scale, kinds, (*shape[:-1], columns // size), name)
    if nvidia:
        held.check(whole, ("F32",), held.shape(whole) if whole in held else (), name)
        if held.shape(whole) not in ((), (1,)):
            raise held.refused(whole, f"has the shape {list(held.shape(whole))}, and a matrix has one")

    def values() -> Array:
        if nvidia:
            divisor = held.scales(whole).reshape(())
            if divisor == 0:
                raise held.refused(whole, "is 0, and scales are divided by it")
            return nvfp4.decoded(held.whole(packed), held.scales(scale)) / divisor
        return mxfp4.decoded(held.whole(packed), mxfp4.exponents_of(held, scale))

    sources = (packed, scale, *([whole] if nvidia else []))
    return Matrix(name, (*shape[:-1], columns), "NVFP4" if nvidia else "MXFP4", sources, values)


def _block(
    held: Held, name: str, own: tuple[int, ...], shape: tuple[int, ...], schemes: list[Weights]
) -> tuple[int, int] | None:
    """For how many outputs and inputs one scale stands, by its shape and what is stated; None where one stands for all."""
    rows, columns = shape[-2:] if len(shape) > 1 else (1, shape[0])
    if own in ((), (1,)) or (own == (1, 1) and rows > 1 and all(scheme.strategy != "block" for scheme in schemes)):
        return None
    if own in ((rows,), (rows, 1)) and all(scheme.strategy != "block" for scheme in schemes):
        sizes = {scheme.group_size for scheme in schemes if scheme.group_size and scheme.group_size > 0}
        if columns in sizes or any(not scheme.group_size or scheme.group_size < 0 for scheme in schemes):
            return (1, columns)
    for scheme in schemes:
        block = _stated_block(scheme)
        if block and own == (-(-rows // block[0]), -(-columns // block[1])):
            return block
    stated = [f"{block[0]} × {block[1]}" for scheme in schemes if (block := _stated_block(scheme))]
    groups = ", ".join(stated) or "none"
    raise held.refused(name, f"has the shape {list(own)}, which the groups stated ({groups}) do not make of {list(shape)}")


def _stated_block(scheme: Weights) -> tuple[int, int] | None:
    """Outputs and inputs of a group or a block."""
    structure = scheme.block_structure
    if isinstance(structure, str):  # as older files have it: "128x128"
        parts = structure.lower().split("x")
        sizes = [int(part) for part in parts] if all(part.isdecimal() and len(part) < 10 for part in parts) else []
    else:
        sizes = structure or []
    if len(sizes) == 2 and min(sizes) > 0:
        return (sizes[0], sizes[1])
    return (1, scheme.group_size) if scheme.group_size and scheme.group_size > 0 else None


def _scaled(held: Held, stem: str, numbers: Array, zeros: Array | None, block: tuple[int, int] | None) -> Array:
    """(numbers − zeros) × scales, each spread over what it stands for."""
    scales, index = fp8.scale_values(held, f"{stem}.weight_scale"), f"{stem}.weight_g_idx"
    if zeros is not None and zeros.size != scales.size:
        place = f"{stem}.weight_zero_point"
        raise held.refused(place, f"holds {zeros.size} zero points, and there are {scales.size} scales")
    if block is None:
        scale = scales.reshape(-1)[0]
        return np.asarray((numbers if zeros is None else numbers - zeros.reshape(-1)[0]) * scale, np.float32)
    rows, columns = numbers.shape[-2:]
    if block == (1, columns):
        scales = scales.reshape(*numbers.shape[:-1], 1)
    order = held.whole(index) if index in held and not (held.whole(index) < 0).any() else None
    if order is not None and int(order.max(initial=0)) >= scales.shape[-1]:
        raise held.refused(index, f"names group {int(order.max())}, and there are {scales.shape[-1]}")

    def spread(table: Array) -> Array:
        table = table.reshape(scales.shape)
        return grouped(table, rows, columns, block) if order is None else table[..., order]

    return np.asarray((numbers if zeros is None else numbers - spread(zeros)) * spread(scales), np.float32)
