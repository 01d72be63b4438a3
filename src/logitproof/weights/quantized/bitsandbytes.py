"""bitsandbytes: NF4 and FP4 of four bits, and LLM.int8.

The documents are QLoRA and LLM.int8 (Dettmers et al. 2023, 2022), and bitsandbytes/functional.py for how they
lie: uint8 [n / 2, 1] of the matrix's numbers in order (the same bytes may be called another type, `bnb_4bit_quant_storage`),
the upper half first, each a place in `quant_map` (16 numbers);
`absmax` is the largest of every `blocksize` numbers. Where it is quantized itself, it is places in `nested_quant_map` (256) ×
`nested_absmax` of every `nested_blocksize`, plus `nested_offset`. `quant_state.bitsandbytes__nf4` is JSON with the rest. In
eight bits a weight is number × SCB / 127, SCB the largest of its row.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from logitproof.errors import ContractError, ModelError
from logitproof.files.untrusted import Foreign, parse_json
from logitproof.weights.quantized.held import AGAIN, Held, Matrix, Settings
from logitproof.weights.quantized.numbers import Array, nibbles

METHODS = ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit")
STATES = ("nf4", "fp4")
STORED = ("U8", "I8", "F16", "BF16", "F32")
"""What bytes may be called, so that they are sharded as plain weights are."""
LARGEST = 127
Length = Annotated[int, Field(ge=0, lt=1 << 48)]
Block = Annotated[int, Field(ge=1, lt=1 << 31)]


class State(Foreign):
    """`quant_state` of a matrix."""

    quant_type: str
    blocksize: Block
    shape: list[Length]
    nested_blocksize: Block | None = None
    nested_offset: float = 0.0


def matrices(held: Held, settings: Settings) -> list[Matrix]:
    """Every matrix with a `quant_state`, and every one of bytes with `SCB`."""
    four = [_four(held, name, kind) for kind in STATES for name in held.stems(f".quant_state.bitsandbytes__{kind}")]
    return four + [_eight(held, stem) for stem in held.stems(".weight", "I8")]


def _four(held: Held, name: str, kind: str) -> Matrix:
    """The matrix `name`, its bytes and the tensors that are called as it is with an ending."""
    place = f"{name}.quant_state.bitsandbytes__{kind}"
    held.check(place, ("U8",), (None,), name)
    state = _state(held, place)
    count = math.prod(state.shape)
    if state.quant_type != kind:
        raise held.refused(place, f"says quant_type {state.quant_type!a}, and is called {kind}")
    absmax, table = f"{name}.absmax", f"{name}.quant_map"
    held.check(name, STORED, held.shape(name) if name in held else (), name)
    if (size := held.bytes(name).size) != (count + 1) // 2:
        raise held.refused(name, f"has {size} bytes, and {state.shape} is {count} numbers of four bits")
    blocks = -(-count // state.blocksize)
    held.check(absmax, ("F32", "U8"), (blocks,), name)
    held.check(table, ("F32",), (16,), name)
    sources = [name, absmax, table, place]
    if held.kind(absmax) == "U8":
        if state.nested_blocksize is None:
            raise held.refused(place, "has no nested_blocksize, and absmax is quantized")
        held.check(f"{name}.nested_absmax", ("F32",), (-(-blocks // state.nested_blocksize),), name)
        held.check(f"{name}.nested_quant_map", ("F32",), (256,), name)
        sources += [f"{name}.nested_absmax", f"{name}.nested_quant_map"]

    def values() -> Array:
        codes = nibbles(held.bytes(name), high_first=True)[:count]
        scales = np.repeat(_absmax(held, name, state), state.blocksize)[:count]
        return (held.floats(table)[codes] * scales).reshape(state.shape)

    return Matrix(name, tuple(state.shape), kind.upper(), tuple(sources), values)


def _absmax(held: Held, name: str, state: State) -> Array:
    """float32 [blocks]."""
    absmax = f"{name}.absmax"
    if held.kind(absmax) == "F32":
        return held.scales(absmax)
    places = held.whole(absmax)
    scales = np.repeat(held.scales(f"{name}.nested_absmax"), state.nested_blocksize or 1)[: len(places)]
    return np.asarray(held.floats(f"{name}.nested_quant_map")[places] * scales + np.float32(state.nested_offset), np.float32)


def _state(held: Held, place: str) -> State:
    path: Path = held.tensors(place).path
    try:
        value = parse_json(bytes(held.whole(place)), path, place, remedy=AGAIN)
    except (ContractError, UnicodeDecodeError) as error:
        text = error.text if isinstance(error, ContractError) else "is not UTF-8"
        raise ModelError(text, where=f"{path}: {place}", remedy=AGAIN) from None
    if not isinstance(value, dict):
        raise held.refused(place, "is not a JSON object")
    return Settings(path, place, value).read(State)


def _eight(held: Held, stem: str) -> Matrix:
    name, scales, order = f"{stem}.weight", f"{stem}.SCB", f"{stem}.weight_format"
    rows, columns = held.check(name, ("I8",), (None, None), name)
    held.check(scales, ("F32",), (rows,), name)
    if order in held and held.kind(order) == "U8" and held.whole(order).any():
        raise held.refused(order, "says that the rows are interleaved for one kernel; only rows in order are read")

    def values() -> Array:
        return np.asarray(held.whole(name) * (held.scales(scales)[:, None] / np.float32(LARGEST)), np.float32)

    sources = (name, scales, *([order] if order in held else []))
    return Matrix(name, (rows, columns), "INT8", sources, values)
