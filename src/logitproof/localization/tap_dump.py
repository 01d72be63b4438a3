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
      layers.{layer}.cache.k:       # keys as a paged cache stores them
        file: kv-{layer}.npy
        index: 0                    # of the first axis, where keys and values lie in one array
        pages: [7, 2, 5]            # the blocks of this sequence in order, of [blocks, slots, K, D]
        slots: [0, 1, 16]           # or the slot of each position, of [slots, K, D]
      layers.{layer}.mlp.up:
        file: stage{stage}/rank{rank}/up-{layer}.npy   # {rank} and {stage} stand for numbers, too
        join: features              # how the ranks are one: a dimension, `sum`, or `same`
    stages: {0: 0, 1: 16}           # the first layer of every pipeline stage, whose files count from 0
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
from logitproof.files.causes import cause_of
from logitproof.files.untrusted import read_json
from logitproof.files.yaml import read_yaml
from logitproof.localization.tap_files import LLAMA_CPP, RAW, arrays
from logitproof.localization.tap_ranks import Join, Piece, joined, placed
from logitproof.protocol import taps as vocabulary
from logitproof.protocol.precision import Precision

NAME = "taps.yaml"
LAYER = "{layer}"
PLACES = (LAYER, "{rank}", "{stage}")


class _Tap(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    array: str | None = None
    shape: list[int] | None = None
    transpose: list[int] | None = None
    heads: list[Annotated[int, Field(ge=0)]] | None = None
    pairs: Literal["halves", "neighbours"] = "halves"
    index: Annotated[int, Field(ge=0)] | None = None
    pages: list[Annotated[int, Field(ge=0)]] | None = None
    slots: list[Annotated[int, Field(ge=0)]] | None = None
    join: Join | None = None


class _Mapping(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    token_ids: list[Annotated[int, Field(ge=0)]] | str
    precision: Precision = "float32"
    taps: dict[str, _Tap] = {}
    files: dict[str, Literal["canonical", "llama.cpp"]] = {}
    stages: dict[int, Annotated[int, Field(ge=0)]] = {}


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
    mapping, _ = read_yaml(path, _Mapping, "taps", whole_keys=True)
    opened = _Folder(folder, path)
    ids = opened.token_ids(mapping.token_ids)
    tensors: dict[str, np.ndarray] = {}
    for name, tap in mapping.taps.items():
        for full, pieces in placed(name, opened.places(name, tap), mapping.stages, where=f"{path}: taps.{name}").items():
            if not vocabulary.is_known(full):
                raise ContractError(f"{full!r} is no tap", where=f"{path}: taps", remedy="see docs/taps.md for their names")
            shaped = {
                piece.rank: _shaped(opened.values(piece.file, piece.array, full), piece.file, full, tap, len(ids))
                for piece in pieces
            }
            whole = joined(full, shaped, tap.join, where=str(pieces[0].file))
            tensors[full] = _canonical(whole, pieces[0].file, full, tap, len(ids))
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
                raise ContractError(f"cannot be read: {cause_of(error)}", where=str(file), remedy="dump it again") from None
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

    def places(self, name: str, tap: _Tap) -> Iterator[Piece]:
        """File, array, layer, rank and stage of every piece of a tap; the numbers are None if nothing has a place for them."""
        if not _has_place(tap.file):
            files = [(self.folder / tap.file, dict[str, int]())]
        else:
            names = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
            every = {path.relative_to(self.folder).as_posix(): path for path in names}
            matches = self._matches(tap.file, every, f"taps.{name}.file", "file")
            files = [(every[text], numbers) for numbers, text in matches]
        for file, numbers in files:
            for array, further in self._arrays_of(file, name, tap, LAYER in name and "layer" not in numbers):
                yield Piece(file, array, **{**numbers, **further})

    def _arrays_of(self, file: Path, name: str, tap: _Tap, layered: bool) -> Iterator[tuple[str | None, dict[str, int]]]:
        """The arrays of one file that a tap names; one that is `layered` must tell its layers by them."""
        if tap.array is not None and not layered and not _has_place(tap.array):
            yield tap.array, {}
        elif tap.array is None and not layered:
            yield None, {}
        else:
            pattern = tap.array or "layers.{layer}"
            known = tap.array is not None or any(_matcher(pattern).fullmatch(array_name) for array_name in self.arrays(file))
            if layered and (LAYER not in pattern or not known):
                where = f"{self.path}: taps.{name}.file"
                raise ContractError("names one file for all layers", where=where, remedy="put {layer} into `file` or `array`")
            for numbers, text in self._matches(pattern, self.arrays(file), f"taps.{name}.array", f"array in {file}"):
                yield text, numbers

    def _matches(self, pattern: str, names: Mapping[str, object], field_: str, kind: str) -> list[tuple[dict[str, int], str]]:
        matcher = _matcher(pattern)
        matches = [
            ({key: int(number) for key, number in match.groupdict().items()}, name)
            for name in names
            if (match := matcher.fullmatch(name))
        ]
        if not matches:
            text = f"there is no {kind} called {pattern}"
            raise ContractError(text, where=f"{self.path}: {field_}", remedy="correct the pattern")
        return sorted(matches, key=lambda pair: sorted(pair[0].items()))

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


def _has_place(pattern: str) -> bool:
    return any(place in pattern for place in PLACES)


def _matcher(pattern: str) -> re.Pattern[str]:
    """{layer}, {rank} and {stage} stand for numbers; one that comes again stands for the same one."""
    text = re.escape(pattern)
    for place in PLACES:
        group = place.strip("{}")
        text = text.replace(re.escape(place), rf"(?P<{group}>\d+)", 1).replace(re.escape(place), rf"(?P={group})")
    return re.compile(text)


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


def _shaped(values: np.ndarray, file: Path, name: str, tap: _Tap, positions: int) -> np.ndarray:
    """What one file holds with its axes in order: reshaped, one of an array of several, and its pages or slots one by one."""
    try:
        values = values if tap.shape is None else values.reshape(tap.shape)
        values = values if tap.index is None else values[tap.index]
        values = values if tap.transpose is None else values.transpose(tap.transpose)
        if tap.pages is not None:
            values = values[tap.pages]
            values = values.reshape(-1, *values.shape[2:])[:positions]
        return values if tap.slots is None else values[tap.slots]
    except (ValueError, IndexError) as error:
        raise ContractError(f"{name}: shape {list(values.shape)}: {cause_of(error)}", where=str(file)) from None


def _canonical(values: np.ndarray, file: Path, name: str, tap: _Tap, positions: int) -> np.ndarray:
    try:
        if tap.heads is not None:
            values = values[:, tap.heads]
    except IndexError as error:
        raise ContractError(f"{name}: shape {list(values.shape)}: {cause_of(error)}", where=str(file)) from None
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
