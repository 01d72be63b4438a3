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
MIXES = ("_S", "_M", "_L", "_XL")
"""Endings of labels whose files mix the type that they name with finer ones."""


class Quantization(Check):
    """The quantization that the contract names, the file's own label and the types of its matrices."""

    codes: ClassVar[Mapping[str, str]] = {"PF108": "the file is not quantized as its label says"}

    def examine(self, setup: Setup) -> Iterator[Setting | Finding]:
        if setup.file.format != "gguf":
            return
        kinds = Counter[str]()
        for tensor in setup.file.reader.tensors:
            if len(tensor.shape) > 1:
                kinds[str(tensor.tensor_type.name)] += int(tensor.n_elements)
        held = ", ".join(f"{kind} {share / kinds.total():.0%}" for kind, share in kinds.most_common(3))
        labels = {f"quantization {setup.quantization}": setup.quantization.upper()}
        if (number := setup.file.general.get(FILE_TYPE)) is not None:
            labels[FILE_TYPE] = _name_of(number)
        yield Setting("weight types", " · ".join(labels.values()), held, "listed")
        for field, label in labels.items():
            if not _is_known(label) or _fits(label, kinds.most_common(1)[0][0]):
                continue
            where = "contract" if field != FILE_TYPE else setup.file.path.name
            yield Finding(
                "PF108", "quantization", label, held, where, field, "name the file that was meant, or correct the label"
            )


def _name_of(number: int) -> str:
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
