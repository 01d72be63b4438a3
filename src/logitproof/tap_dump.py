"""Intermediate tensors that an engine wrote to files, under names and in layouts of its own.

`taps.yaml` says what the files are:

    token_ids: [1, 2, 3]            # or the name of a JSON file that holds them
    precision: float32              # of the engine's arithmetic
    taps:
      layers.{layer}.attn.q_rope:   # {layer} stands for every number that a file is found for
        file: dump/q-{layer}.npy    # .npy, .safetensors, .gguf-free raw float32 (.f32, .bin), .aprt
        shape: [-1, 12, 64]         # of a raw file, or to reshape another
        array: q                    # in a .safetensors file with several
        transpose: [1, 0, 2]        # to bring the positions first
        heads: [0, 4, 1, 5]         # the canonical order of the heads, as places in the file
        pairs: neighbours           # rotary pairs of the file, halves where it is not said
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from logitproof import taps as vocabulary
from logitproof.acid_probe import read_tensors
from logitproof.errors import ContractError
from logitproof.localize import Precision
from logitproof.yaml_file import read_yaml

NAME = "taps.yaml"
APRT = b"APRT"


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
    taps: dict[str, _Tap] = Field(min_length=1)


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
    ids = _token_ids(folder, path, mapping.token_ids)
    found: dict[str, np.ndarray] = {}
    for name, tap in mapping.taps.items():
        for layer, file in _files(folder, path, name, tap.file):
            full = name.replace("{layer}", layer)
            if not vocabulary.is_known(full):
                raise ContractError(f"{full!r} is no tap", where=f"{path}: taps", remedy="see docs/taps.md for their names")
            found[full] = _read(file, full, tap, len(ids))
    return TapDump(folder.name, ids, mapping.precision, found)


def _token_ids(folder: Path, path: Path, given: list[int] | str) -> list[int]:
    if not isinstance(given, str):
        ids = given
    else:
        try:
            ids = json.loads((folder / given).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ContractError(f"cannot be read: {error}", where=f"{path}: token_ids") from None
    if not ids or not all(isinstance(one, int) and one >= 0 for one in ids):
        raise ContractError("is no list of token ids", where=f"{path}: token_ids")
    return list(ids)


def _files(folder: Path, path: Path, name: str, pattern: str) -> list[tuple[str, Path]]:
    """Every layer number that there is a file for; one file where the name has no layer to fill in."""
    if "{layer}" not in name:
        return [("", folder / pattern)]
    if "{layer}" not in pattern:
        raise ContractError("names one file for all layers", where=f"{path}: taps.{name}.file", remedy="put {layer} into it")
    matcher = re.compile(re.escape(pattern).replace(re.escape("{layer}"), r"(\d+)"))
    every = [(file.relative_to(folder).as_posix(), file) for file in sorted(folder.rglob("*")) if file.is_file()]
    found = [(str(int(match[1])), file) for text, file in every if (match := matcher.fullmatch(text))]
    if not found:
        raise ContractError(f"there is no file {pattern}", where=f"{path}: taps.{name}.file", remedy="correct the pattern")
    return found


def _read(file: Path, name: str, tap: _Tap, positions: int) -> np.ndarray:
    try:
        values = _array(file, tap)
    except ContractError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ContractError(f"cannot be read as {name}: {error}", where=str(file)) from None
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


def _array(file: Path, tap: _Tap) -> np.ndarray:
    if file.suffix == ".npy":
        return np.asarray(np.load(file, allow_pickle=False), np.float32)
    if file.suffix == ".safetensors":
        tensors = read_tensors(file)
        if tap.array is None and len(tensors) != 1:
            raise ContractError(f"holds {sorted(tensors)}", where=str(file), remedy="name one as `array`")
        return tensors[tap.array or next(iter(tensors))]
    data = file.read_bytes()
    if data.startswith(APRT):
        width = int.from_bytes(data[8:12], "little")
        return np.frombuffer(data[12:], "<f4").reshape(-1, width)
    if tap.shape is None:
        raise ContractError("raw numbers have no shape of their own", where=str(file), remedy="add `shape` to the tap")
    return np.frombuffer(data, "<f4")
