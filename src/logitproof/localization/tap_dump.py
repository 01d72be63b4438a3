"""Intermediate tensors that an engine wrote to files, under names and in layouts of its own.

`taps.yaml` says what the files are:

    token_ids: [1, 2, 3]            # or the name of a JSON, .npy or APRRAWLG file that holds them
    precision: float32              # of the engine's arithmetic
    taps:
      layers.{layer}.attn.q_rope:   # {layer} stands for every number that a file or an array is found for
        file: dump/q-{layer}.npy    # .npy, .npz, .safetensors, .gguf, APRT, APRRAWLG, or raw float32
        array: q                    # in a file with several; may hold {layer}
        shape: [-1, 12, 64]         # of a raw file, or to reshape another
        transpose: [1, 0, 2]        # to bring the positions first
        heads: [0, 4, 1, 5]         # the canonical order of the heads, as places in the file
        pairs: neighbours           # rotary pairs of the file, halves where it is not said
    files:
      dump/all.safetensors: llama.cpp   # arrays called blk.0.attn_q, or `canonical`: layers.0.attn.q_proj
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from logitproof.errors import ContractError
from logitproof.files.untrusted import read_json
from logitproof.files.yaml import read_yaml
from logitproof.localization.tap_files import LLAMA_CPP, RAW, arrays
from logitproof.protocol import taps as vocabulary
from logitproof.protocol.precision import Precision

NAME = "taps.yaml"
LAYER = "{layer}"


class _Tap(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    array: str | None = None
    shape: list[int] | None = None
    transpose: list[int] | None = None
    heads: list[Annotated[int, Field(ge=0)]] | None = None
    pairs: Literal["halves", "neighbours"] = "halves"


class _Mapping(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    token_ids: list[Annotated[int, Field(ge=0)]] | str
    precision: Precision = "float32"
    taps: dict[str, _Tap] = {}
    files: dict[str, Literal["canonical", "llama.cpp"]] = {}


@dataclass(frozen=True)
class TapDump:
    """Taps by canonical name, float32, positions first, of one sequence."""

    name: str
    token_ids: list[int]
    precision: Precision
    taps: dict[str, np.ndarray]


def open_tap_dump(folder: Path) -> TapDump:
    """Read a folder with a `taps.yaml`; raises ContractError that names the file, the field and the remedy."""
    path = folder / NAME
    if not path.is_file():
        raise ContractError("has no taps.yaml that says what its files are", where=str(folder), remedy="see docs/taps.md")
    mapping, _ = read_yaml(path, _Mapping)
    opened = _Folder(folder, path)
    ids = opened.token_ids(mapping.token_ids)
    tensors: dict[str, np.ndarray] = {}
    for name, tap in mapping.taps.items():
        for layer, file, array in opened.places(name, tap):
            full = name.replace(LAYER, layer)
            if not vocabulary.is_known(full):
                raise ContractError(f"{full!r} is no tap", where=f"{path}: taps", remedy="see docs/taps.md for their names")
            tensors[full] = _canonical(opened.values(file, array, full), file, full, tap, len(ids))
    for text, names in mapping.files.items():
        for array, full in opened.named(folder / text, names):
            tensors[full] = _canonical(
                opened.values(folder / text, array, full), folder / text, full, _Tap(file=text), len(ids)
            )
    if not tensors:
        raise ContractError("names no tap", where=f"{path}: taps", remedy="add `taps` or `files`, see docs/taps.md")
    return TapDump(folder.name, ids, mapping.precision, tensors)


@dataclass
class _Folder:
    """The files of a dump, each read once."""

    folder: Path
    path: Path
    _read: dict[Path, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def arrays(self, file: Path) -> Mapping[str, np.ndarray]:
        """What the file holds; a ContractError that names it where it cannot be read."""
        if file not in self._read:
            try:
                self._read[file] = arrays(file)
            except (OSError, ValueError, KeyError, IndexError) as error:
                raise ContractError(f"cannot be read: {error}", where=str(file), remedy="dump it again") from None
        return self._read[file]

    def token_ids(self, given: list[int] | str) -> list[int]:
        """The ids that taps.yaml holds, or those of the file that it names."""
        ids = list(given) if not isinstance(given, str) else self._ids_of(self.folder / given)
        if not ids or not all(isinstance(token_id, int) and 0 <= token_id < 2**31 for token_id in ids):
            raise ContractError("is no list of token ids", where=f"{self.path}: token_ids")
        return ids

    def _ids_of(self, file: Path) -> list[int]:
        if file.suffix != ".json":
            tensors = self.arrays(file)
            numbers = tensors.get("token_ids", tensors.get(RAW, np.zeros(0)))
            return [] if numbers.dtype.kind not in "iu" else [int(number) for number in numbers.reshape(-1)]
        ids = read_json(file)
        return ids if isinstance(ids, list) else []

    def places(self, name: str, tap: _Tap) -> Iterator[tuple[str, Path, str | None]]:
        """Layer, file and array of every tensor of a tap; the layer is "" if the tap's name has no place for one."""
        if LAYER not in name:
            yield "", self.folder / tap.file, tap.array
        elif LAYER in tap.file:
            every = {
                path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.rglob("*")) if path.is_file()
            }
            for layer, text in self._matches(tap.file, every, f"taps.{name}.file", "file"):
                yield layer, every[text], None if tap.array is None else tap.array.replace(LAYER, layer)
        else:
            file = self.folder / tap.file
            pattern = tap.array or "layers.{layer}"
            if LAYER not in pattern or (
                tap.array is None and not any(_matcher(pattern).fullmatch(array_name) for array_name in self.arrays(file))
            ):
                where = f"{self.path}: taps.{name}.file"
                raise ContractError("names one file for all layers", where=where, remedy="put {layer} into `file` or `array`")
            for layer, text in self._matches(pattern, self.arrays(file), f"taps.{name}.array", f"array in {file}"):
                yield layer, file, text

    def _matches(self, pattern: str, names: Mapping[str, object], field_: str, kind: str) -> list[tuple[str, str]]:
        matcher = _matcher(pattern)
        matches = [(str(int(match[1])), name) for name in names if (match := matcher.fullmatch(name))]
        if not matches:
            text = f"there is no {kind} called {pattern}"
            raise ContractError(text, where=f"{self.path}: {field_}", remedy="correct the pattern")
        return sorted(matches, key=lambda pair: int(pair[0]))

    def named(self, file: Path, names: str) -> Iterator[tuple[str, str]]:
        """Array and tap of each tensor whose name tells which tap it is."""
        pairs = [(array, _tap_of(array, names)) for array in self.arrays(file)]
        known = [(array, tap) for array, tap in pairs if tap is not None]
        if not known:
            text = f"holds {', '.join(sorted(self.arrays(file))[:6])}: none is a {names} name"
            raise ContractError(text, where=str(file), remedy="see docs/taps.md for the names")
        yield from known

    def values(self, file: Path, array: str | None, name: str) -> np.ndarray:
        """The tensor; a file with several needs to be told which."""
        tensors = self.arrays(file)
        wanted = array if array is not None else next(iter(tensors)) if len(tensors) == 1 else name
        if wanted not in tensors:
            text = f"holds {', '.join(sorted(tensors)[:8])}" + (f", not {array}" if array is not None else "")
            raise ContractError(text, where=str(file), remedy="name one as `array`")
        if tensors[wanted].dtype.kind not in "fiu":
            raise ContractError(f"{wanted} is {tensors[wanted].dtype}", where=str(file), remedy="dump numbers")
        return np.asarray(tensors[wanted], np.float32)


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(re.escape(LAYER), r"(\d+)"))


def _tap_of(array: str, names: str) -> str | None:
    if names == "canonical":
        return array if vocabulary.is_known(array) else None
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)(?:\.weight)?", array)
    if match is None:
        return None
    layer, leaf = match[1], match[2]
    if layer is None:
        return LLAMA_CPP.get(leaf)
    tap = LLAMA_CPP.get(f"blk.{LAYER}.{leaf}")
    return None if tap is None else f"layers.{int(layer)}.{tap}"


def _canonical(values: np.ndarray, file: Path, name: str, tap: _Tap, positions: int) -> np.ndarray:
    try:
        values = values if tap.shape is None else values.reshape(tap.shape)
        values = values if tap.transpose is None else values.transpose(tap.transpose)
        if tap.heads is not None:
            values = values[:, tap.heads]
    except (ValueError, IndexError) as error:
        raise ContractError(f"{name}: shape {list(values.shape)}: {error}", where=str(file)) from None
    leaf = vocabulary.split(name)[1]
    place = 1 if leaf in vocabulary.MATRICES else 0
    if values.ndim <= place or values.shape[place] != positions:
        text = f"{name} has shape {list(values.shape)}, {positions} positions belong at axis {place}"
        raise ContractError(text, where=str(file), remedy="add `shape` or `transpose`")
    if np.isnan(values).any():
        raise ContractError(f"{name} holds nan", where=str(file), remedy="look at the operation before it")
    if tap.pairs == "neighbours":
        if values.ndim != 3 or values.shape[-1] % 2:
            raise ContractError(f"{name} has shape {list(values.shape)}, pairs need [T, H, D]", where=str(file))
        pairs = values.reshape(*values.shape[:-1], -1, 2)
        values = np.concatenate([pairs[..., 0], pairs[..., 1]], axis=-1)
    return np.ascontiguousarray(values, np.float32)
