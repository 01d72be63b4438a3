"""The tensors of a quantized checkpoint as they lie, what is stated about them, and the matrices that they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel

from logitproof.errors import ContractError, ModelError
from logitproof.files.safetensors import Tensors
from logitproof.files.untrusted import validated
from logitproof.weights.model import weight_files
from logitproof.weights.quantized.numbers import FLOAT_KINDS, Array, floats

AGAIN = "fetch the checkpoint again from its publisher"
WHOLE = {"I8": "i1", "U8": "u1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Settings:
    """What a file states about the quantization: `field` is the place in it."""

    file: Path
    field: str
    values: Mapping[str, Any]

    def read(self, model: type[M]) -> M:
        """The settings as a format types them; ModelError names file and field."""
        try:
            return validated(self.file, model, dict(self.values), self.field, f"correct it, or {AGAIN}")
        except ContractError as error:
            raise ModelError(error.text, where=error.where, remedy=error.remedy) from None

    def refused(self, text: str, key: str, remedy: str = AGAIN) -> ModelError:
        """A complaint about one of the settings."""
        return ModelError(text, where=f"{self.file}: {self.field}.{key}", remedy=remedy)


@dataclass(frozen=True)
class Matrix:
    """A tensor that the reference computes with, in float32, and the tensors that it is computed of when it is asked for."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """how it is stored, such as INT4"""
    sources: tuple[str, ...]
    values: Callable[[], Array] = field(repr=False)
    part: Callable[[int], Array] | None = field(default=None, repr=False)
    """what stands at a number of the first dimension, where that is computed without the rest"""


class Held:
    """Every tensor of a folder by name, mapped. What is missing, or of another kind or shape than asked, is a ModelError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Tensors] = {}
        for file in weight_files(folder):
            tensors = Tensors(file)
            self._files |= dict.fromkeys(tensors.names, tensors)

    @property
    def names(self) -> list[str]:
        return list(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def stems(self, ending: str, *kinds: str) -> Iterator[str]:
        """What stands before `ending` in the names of tensors of these kinds, of all where none is named."""
        for name in self._files:
            if name.endswith(ending) and len(name) > len(ending) and (not kinds or self.kind(name) in kinds):
                yield name.removesuffix(ending)

    def kind(self, name: str) -> str:
        return self._files[name].kind(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._files[name].shape(name)

    def tensors(self, name: str) -> Tensors:
        """The file that it lies in."""
        return self._files[name]

    def check(self, name: str, kinds: tuple[str, ...], shape: tuple[int | None, ...], of: str) -> tuple[int, ...]:
        """The shape of a tensor that `of` needs; None in what is asked is any length."""
        if name not in self._files:
            raise ModelError(f"is not there, and {of} cannot be read without it", where=f"{self.folder}: {name}", remedy=AGAIN)
        kind, own = self.kind(name), self.shape(name)
        if kind not in kinds:
            raise self.refused(name, f"has type {kind}, and {of} needs {' or '.join(kinds)}")
        fits = len(own) == len(shape) and all(wanted in (None, length) for wanted, length in zip(shape, own, strict=True))
        if not fits:
            wanted = " × ".join("any" if length is None else str(length) for length in shape) or "one number"
            raise self.refused(name, f"has the shape {list(own)}, and {of} needs {wanted}")
        return own

    def whole(self, name: str) -> Array:
        """The whole numbers of a tensor, in its shape."""
        return self._raw(name).view(WHOLE[self.kind(name)]).reshape(self.shape(name))

    def bytes(self, name: str) -> Array:
        """uint8 [bytes] of a tensor as it lies, whatever its type."""
        return self._raw(name).reshape(-1)

    def floats(self, name: str) -> Array:
        """float32 of a tensor of floating point, in its shape."""
        return floats(np.asarray(self._raw(name)), self.kind(name)).reshape(self.shape(name))

    def scales(self, name: str, kinds: tuple[str, ...] = FLOAT_KINDS) -> Array:
        """float32 of scales: ModelError where one of them is not finite."""
        if name in self._files and self.kind(name) not in kinds:
            raise self.refused(name, f"has type {self.kind(name)}, and scales are {' or '.join(kinds)}")
        values = self.floats(name)
        if not np.isfinite(values).all():
            raise self.refused(name, "holds a scale that is not finite")
        return values

    def refused(self, name: str, text: str) -> ModelError:
        """A complaint about one tensor."""
        return ModelError(text, where=f"{self._files[name].path}: {name}", remedy=AGAIN)

    def _raw(self, name: str) -> Array:
        try:
            return self._files[name].raw(name)
        except ContractError as error:
            raise ModelError(error.text, where=error.where, remedy=error.remedy) from None


def grouped(scales: Array, rows: int, columns: int, block: tuple[int, int]) -> Array:
    """[rows, columns] of scales [.., rows / block, columns / block], the last block of either axis possibly cut short."""
    down = scales if block[0] == 1 else np.repeat(scales, block[0], axis=-2)[..., :rows, :]
    return down if block[1] == 1 else np.repeat(down, block[1], axis=-1)[..., :columns]
