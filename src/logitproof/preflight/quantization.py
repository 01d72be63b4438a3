"""The label of the weights: what the contract calls them is what the file holds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import ClassVar

import gguf

from logitproof.contract.contract import ORIGINAL
from logitproof.preflight import Check, Finding, Setting, Setup

FILE_TYPE = "general.file_type"
GUESSED = 1024
"""Added to a file type that llama.cpp guessed from the tensors."""
MIXES = ("_S", "_M", "_L", "_XL")
"""Endings of labels whose files mix the type that they name with finer ones."""


class Quantization(Check):
    """The quantization that the contract names, the file's own label, and the types of the matrices of its layers."""

    codes: ClassVar[Mapping[str, str]] = {"PF108": "the file is not quantized as its label says"}

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        if setup.file.format != "gguf":
            return
        kinds, layers = Counter[str](), Counter[str]()
        for tensor in setup.file.reader.tensors:
            if len(tensor.shape) > 1:
                kinds[str(tensor.tensor_type.name)] += int(tensor.n_elements)
                layers[str(tensor.tensor_type.name)] += int(tensor.n_elements) if tensor.name.startswith("blk.") else 0
        held = ", ".join(f"{kind} {share / kinds.total():.0%}" for kind, share in kinds.most_common(3))
        label, number = setup.quantization.upper(), setup.file.general.get(FILE_TYPE)
        own = None if number is None else file_type_name(int(number) & ~GUESSED)
        yield Setting("weight types", " · ".join(filter(None, (label, own))), held, "listed")
        # Embedding and output lie in a finer type, and are most of a small model with a large vocabulary.
        main = (+layers or kinds).most_common(1)[0][0] if kinds else ""
        yield from _judged(setup, label, own, main, held)


def _judged(setup: Setup, label: str, own: str | None, main: str, held: str) -> Iterator[Finding]:
    """The file's own label against its matrices; then the contract's label against the file's, or its matrices. One finding."""
    name, remedy = setup.file.path.name, "name the file that was meant, or correct the label"
    if own is not None and _is_known(own):
        if main and not _fits(own, main):
            yield Finding("PF108", "quantization", own, held, name, FILE_TYPE, remedy)
        elif _is_known(label) and label != own:
            field = f"quantization {setup.quantization}"
            yield Finding("PF108", "quantization", label, f"{own} by its {FILE_TYPE}, {held}", "contract", field, remedy)
    elif _is_known(label) and main and not _fits(label, main):
        yield Finding("PF108", "quantization", label, held, "contract", f"quantization {setup.quantization}", remedy)


def file_type_name(number: int) -> str:
    """`Q4_K_M` of 15: what llama.cpp calls a file of this `general.file_type`."""
    try:
        return gguf.LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return f"type {number}"


def _is_known(label: str) -> bool:
    names = {name.removeprefix("MOSTLY_").removeprefix("ALL_") for name in gguf.LlamaFileType.__members__}
    return label != ORIGINAL.upper() and label in names


def _fits(label: str, kind: str) -> bool:
    """Whether a file of this label may hold mostly `kind`: a mix may be finer, for rows that no block divides."""
    if not label.endswith(MIXES):
        return kind == label
    return _bits(label) <= _bits(kind) <= _bits(label) + 2


def _bits(label: str) -> int:
    bits = re.search(r"\d+", label)
    return int(bits[0]) if bits else 32
