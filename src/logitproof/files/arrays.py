"""Arrays with a few facts beside them in one file, written in one step: calibrations, and what known bugs do."""

from __future__ import annotations

import io
import json
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import write_atomically
from logitproof.files.untrusted import AGAIN, parse_json, refusal, regular_size

FACTS = "about"
ZIP = b"PK\x03\x04"
UNREADABLE = (
    OSError, ValueError, EOFError, SyntaxError, MemoryError, OverflowError, TypeError, tokenize.TokenError, RecursionError,
    KeyError, AttributeError, IndexError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise for headers, members and streams that are damaged in one way or another."""
MEMBERS, INFLATED = 1 << 14, 1 << 30
"""Arrays of one archive, and bytes that they may take when they are unpacked; those of a larger file four times its own."""


def write_arrays(path: Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Path:
    """Write a compressed npz whose array `about` is JSON."""
    buffer = io.BytesIO()
    facts = np.frombuffer(json.dumps(dict(about)).encode(), np.uint8)
    np.savez_compressed(buffer, allow_pickle=False, **{FACTS: facts, **arrays})  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
    return path


def read_arrays(path: Path, remedy: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The facts and the arrays, or None where there is no file; raises ContractError where it is damaged."""
    if not path.is_file():
        return None
    arrays = read_archive(path, remedy)
    if FACTS not in arrays:
        raise refusal(path, FACTS, "is damaged: it is not in the file", remedy)
    about = parse_json(arrays.pop(FACTS).tobytes(), path, FACTS, remedy=remedy)
    if not isinstance(about, dict):
        raise refusal(path, FACTS, "is damaged: no JSON object", remedy)
    return about, arrays


def read_archive(path: Path, remedy: str = AGAIN) -> dict[str, np.ndarray]:
    """Every array of an npz by its name, without pickles. What it unpacks to is looked at before it is unpacked."""
    limit = max(INFLATED, 4 * regular_size(path))
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if len(members) > MEMBERS or unpacked > limit:
                text = f"holds {len(members)} arrays of {unpacked} bytes; {MEMBERS} of {limit} are read at most"
                raise refusal(path, "members", text, remedy)
            return {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}
    except UNREADABLE as error:
        raise refusal(path, "", f"is damaged: {_reason(error)}", remedy) from None


def archive_members(path: Path, head: bytes) -> list[str]:
    """Names of the members of a zip file that begins with `head`, nothing of another file or of one that is damaged."""
    if not head.startswith(ZIP):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()[:MEMBERS]
    except UNREADABLE:
        return []


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, if it is of tensors and plain values alone: with weights_only nothing of the file is run."""
    try:
        import torch
    except ImportError as error:
        text = f"a .pt file is read with torch: {error}"
        raise EnvironmentFailed(text, remedy="save it as .npz or .safetensors") from None
    limit, names = max(INFLATED, 4 * regular_size(path)), archive_members(path, ZIP)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if len(names) >= MEMBERS or unpacked > limit:
            raise refusal(path, "members", f"unpacks to {unpacked} bytes; {limit} are read at most", AGAIN)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ContractError:
        raise
    except Exception as error:  # torch raises what its unpickler and its zip reader happen to meet
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        remedy = "save tensors alone: torch.save({'logits': logits, 'token_ids': ids}, path)"
        raise refusal(path, "", f"is no file of plain tensors: {first}", remedy) from None


def read_array(path: Path, remedy: str = AGAIN) -> np.ndarray:
    """The mapped array of a `.npy` file, never with pickled objects; a header of absurd sizes allocates nothing."""
    size = regular_size(path)
    try:
        with path.open("rb") as stream:
            shape, kind = _announced(stream)
            _refuse_more(path.name, shape, kind, size - stream.tell())
        array = np.lib.format.open_memmap(path, mode="r")
    except UNREADABLE as error:
        text = f"is no .npy file of plain numbers, or is cut off: {_reason(error)}"
        raise refusal(path, "header", text, remedy) from None
    return array


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array in one member; its header may not promise more than the member holds."""
    with archive.open(member) as stream:
        shape, kind = _announced(stream)
    _refuse_more(member.filename, shape, kind, member.file_size)
    with archive.open(member) as stream:
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _announced(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and the type in the header of a `.npy`."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    return shape, kind


def _refuse_more(name: str, shape: tuple[int, ...], kind: np.dtype[Any], size: int) -> None:
    """Refuse objects, and more numbers than there are bytes for; in Python's integers, which do not wrap."""
    count = kind.itemsize * math.prod(shape)
    if kind.hasobject or not 0 <= count <= size or any(length < 0 for length in shape):
        raise ValueError(f"{name} is {list(shape)} of {kind} in {size} bytes")


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
