"""A model on disk: weights and tokenizer, with the sha256 of every file that can change a logit."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from logitproof.errors import ContractError, ModelError
from logitproof.files.safetensors import Tensors

IGNORED = {"README.md", "LICENSE", "TRAINING.json", ".gitattributes"}
"""Files of a model folder that no engine reads."""
GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Model:
    """Weights that were looked at: complete as far as their own headers say.

    `files` maps names to sha256; `format` is safetensors (an HF folder), gguf, or other (an engine's own).
    """

    path: Path
    format: Literal["safetensors", "gguf", "other"]
    files: dict[str, str]
    architecture: str = ""

    @property
    def sha256(self) -> str:
        """One hash of all names and contents."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()


def open_model(path: Path, *, where: str = "") -> Model:
    """Check and hash the weights at `path`.

    Raises ModelError, naming the file and the remedy, if they are missing, truncated or foreign.
    """
    if not path.exists():
        raise ModelError(
            f"no such file or folder: {path}",
            where=where,
            remedy="correct the path, or make the file (`make zoo` makes the zoo's)",
        )
    if path.is_dir():
        return _open_folder(path, where)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == GGUF_MAGIC:
        architecture = _check_gguf(path, where)
        return Model(path, "gguf", {path.name: file_sha256(path)}, architecture)
    if path.suffix == ".gguf":
        raise ModelError(
            f"{path} is not a GGUF file: it begins with {magic!r}, not {GGUF_MAGIC!r}",
            where=where,
            remedy="fetch or convert it again",
        )
    if path.suffix == ".safetensors":
        raise ModelError(
            f"{path} is a single weights file without its config", where=where, remedy="name the folder that holds it"
        )
    return Model(path, "other", {path.name: file_sha256(path)})


def _open_folder(folder: Path, where: str) -> Model:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in IGNORED]
    weights = [path for path in files if path.suffix == ".safetensors"]
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} has no config.json", where=where, remedy="name an HF model folder or a GGUF file")
    if not weights:
        endings = ", ".join(sorted({path.suffix for path in files if path.suffix})) or "nothing"
        raise ModelError(
            f"{folder} has no .safetensors file (it holds {endings})",
            where=where,
            remedy="convert the weights to safetensors; pickled checkpoints are never read",
        )
    for path in weights:
        _check_safetensors(path, where)
    _check_shards(folder, {path.name for path in weights}, where)
    try:
        architectures = json.loads(config.read_text("utf-8")).get("architectures") or [""]
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{config} is not a JSON object: {error}", where=where, remedy="fetch it again") from None
    hashes = {str(path.relative_to(folder)): file_sha256(path) for path in files}
    return Model(folder, "safetensors", hashes, str(architectures[0]))


def _check_safetensors(path: Path, where: str) -> None:
    try:
        promised = Tensors(path).promised
    except ContractError as error:
        raise ModelError(
            f"{error.where}: {error.text}: it is no safetensors file, or is cut off inside its header",
            where=where,
            remedy="fetch it again",
        ) from None
    if (size := path.stat().st_size) != promised:
        raise ModelError(
            f"{path} is truncated or damaged: its header promises {promised} bytes, the file has {size}",
            where=where,
            remedy="fetch it again",
        )


def _check_shards(folder: Path, present: set[str], where: str) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{index} is damaged: {error}", where=where, remedy="fetch it again") from None
    if missing := sorted(named - present):
        raise ModelError(f"{folder} lacks the shard {missing[0]} that its index names", where=where, remedy="fetch it")


def _check_gguf(path: Path, where: str) -> str:
    # Imported here because reading a contract's schema or help must not wait for it.
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        field = reader.get_field("general.architecture")
        if field is None:
            raise ValueError("it names no general.architecture")
        return str(field.contents())
    except Exception as error:
        # The reader has no error type of its own; whatever it raises, the file is what is wrong.
        raise ModelError(
            f"{path} is a truncated or damaged GGUF file ({type(error).__name__}: {error})",
            where=where,
            remedy="fetch or convert it again",
        ) from None


def file_sha256(path: Path) -> str:
    """sha256 of a file's content, read once for every state of the file in a process."""
    state = path.stat()
    return _sha256(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=1024)
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
