"""A model on disk: weights and tokenizer, with the sha256 of every file that can change a logit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from logitproof.errors import ContractError, ModelError
from logitproof.files.gguf_parts import PartError, files_of_model
from logitproof.files.hashes import State, file_sha256, file_state
from logitproof.files.nearest import meant
from logitproof.files.safetensors import Tensors
from logitproof.files.system import in_words
from logitproof.files.untrusted import read_text
from logitproof.weights.config import architecture_of, read_config, read_model_json

IGNORED = {"README.md", "LICENSE", "TRAINING.json"}
"""Files of a model folder that no engine reads; nor are hidden ones, such as what git and the hub's client keep there."""
GGUF_MAGIC = b"GGUF"
NAME_LIMIT = 255
"""Bytes of a file's name: of a longer one the system does not say that it is not there, it fails."""
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Where a Hugging Face model lies whole, and what names its shards."""
ADAPTER = "adapter_config.json"
JSON_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
"""What is read of a folder beside config.json and the index of its shards, where it is there."""
TEMPLATE = "chat_template.jinja"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
FETCH = "fetch it; of a model of the hub, --download does"


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
        return _sha256_of(self.files)


def files_of(path: Path) -> list[Path]:
    """The files that weights consist of: the file itself and its other parts, or those of a folder that an engine may read."""
    if not path.is_dir():
        return files_of_model(path)
    return [file for file in sorted(_seen(path)) if file.name not in IGNORED]


def _seen(folder: Path) -> Iterator[Path]:
    """Every file of a folder and of those in it, but for hidden ones."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            yield entry
        elif entry.is_dir() and not entry.is_symlink():
            yield from _seen(entry)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a Hugging Face model consists of: the shards of its index, else `model.safetensors`.

    Other files with that ending are no part of it: a publisher's own layout, an adapter, what a model is expected to give.
    Raises ModelError where there is neither, a shard is not there, or the two name different weights.
    """
    single, index = folder / SINGLE, folder / INDEX
    if index.is_file():
        named = [folder / name for name in shards(index)]
        if missing := [path.name for path in named if len(path.name.encode()) > NAME_LIMIT or not path.is_file()]:
            text = f"lacks the shard {missing[0][:NAME_LIMIT]} that its index names"
            raise ModelError(text, where=str(folder), remedy=FETCH)
        if single.is_file() and single not in named:
            text = f"holds {SINGLE} and shards that {INDEX} names: engines disagree about which of them the model is"
            raise ModelError(text, where=str(folder), remedy="remove what is not the model")
        return named
    if single.is_file():
        return [single]
    raise _no_weights(folder)


def stray_weights(folder: Path) -> list[str]:
    """Safetensors files beside the model's own, sorted, relative to the folder; no loader of the model reads them."""
    own = set(weight_files(folder))
    return sorted(
        str(path.relative_to(folder)) for path in files_of(folder) if path.suffix == ".safetensors" and path not in own
    )


def _no_weights(folder: Path) -> ModelError:
    files = files_of(folder)
    others = [str(path.relative_to(folder)) for path in files if path.suffix == ".safetensors"]
    if others:
        text = f"has no {SINGLE} and no {INDEX}; {', '.join(others[:3])} is named by neither"
        return ModelError(text, where=str(folder), remedy="save the model with transformers, which writes one of the two")
    endings = ", ".join(sorted({path.suffix for path in files if path.suffix})) or "nothing"
    remedy = "convert the weights to safetensors; pickled checkpoints are never read"
    if not any(path.suffix in PICKLED for path in files):
        remedy = FETCH
    return ModelError(f"has no .safetensors file, such as {SINGLE} (it holds {endings})", where=str(folder), remedy=remedy)


def weights_state(*paths: Path | None) -> dict[str, State]:
    """The state of every file of these weights: as long as it stays, nobody has written to them or put others there."""
    try:
        return {str(file): file_state(file) for path in paths if path is not None for file in files_of(path)}
    except OSError as error:
        raise ModelError(f"cannot be read: {in_words(error)}", where=str(error.filename)) from None


def weights_sha256(path: Path) -> str:
    """What `Model.sha256` is of these weights as they are now; only what has changed in this process's time is read again."""
    return _sha256_of(_hashes(path))


def open_model(path: Path, *, where: str = "") -> Model:
    """Check and hash the weights at `path`.

    Raises ModelError, naming the file and the remedy, if they are missing, truncated or foreign.
    """
    if not path.exists():
        raise ModelError(
            f"no such file or folder: {path}{meant(path)}",
            where=where,
            remedy="correct the path, or make the file (`make zoo` makes the zoo's)",
        )
    if path.is_dir():
        return _open_folder(path, where)
    magic = _first_bytes(path)
    if magic == GGUF_MAGIC:
        architecture = _check_gguf(path, where)
        return Model(path, "gguf", _hashes(path), architecture)
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
    return Model(path, "other", _hashes(path))


def is_gguf(path: Path) -> bool:
    """Whether the file says of itself that it is GGUF, whatever it is called."""
    return path.is_file() and _first_bytes(path) == GGUF_MAGIC


def _hashes(path: Path) -> dict[str, str]:
    folder = path if path.is_dir() else path.parent
    return {str(file.relative_to(folder)): file_sha256(file) for file in files_of(path)}


def _sha256_of(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(GGUF_MAGIC))


def _open_folder(folder: Path, where: str) -> Model:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{folder} has no config.json", where=where, remedy="name an HF model folder or a GGUF file")
    if (folder / ADAPTER).is_file():
        text = f"holds {ADAPTER}: transformers would apply that adapter, and other engines would not"
        raise ModelError(f"{folder}: {text}", where=where, remedy="move it out, and name its new folder as adapter")
    try:
        weights = weight_files(folder)
    except ModelError as error:
        raise ModelError(f"{error.where}: {error.text}", where=where, remedy=error.remedy) from None
    for path in weights:
        _check_safetensors(path, where)
    try:
        architecture = architecture_of(read_config(folder), config)
        for name in JSON_FILES:
            if (folder / name).is_file():
                read_model_json(folder / name)
        if (folder / TEMPLATE).is_file():
            read_text(folder / TEMPLATE, kind=ModelError)
    except ModelError as error:
        raise ModelError(f"{error.where}: {error.text}", where=where, remedy=error.remedy) from None
    return Model(folder, "safetensors", _hashes(folder), architecture)


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


def _check_gguf(path: Path, where: str) -> str:
    # Imported here because reading a contract's schema or help must not wait for it.
    from logitproof.files.gguf import GgufFile

    try:
        file = GgufFile(path)
        architecture = file.value("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise ModelError("names no architecture", where=f"{path}: general.architecture")
    except PartError as error:
        raise ModelError(f"{error.where} {error.text}", where=where, remedy=error.remedy) from None
    except ModelError as error:
        text = f"{path} is a truncated or damaged GGUF file ({error.where}: {error.text})"
        raise ModelError(text, where=where, remedy=error.remedy or "fetch or convert it again") from None
    return architecture


def shards(index: Path) -> list[str]:
    """The files that an index of shards names, sorted; each a file of the folder itself."""
    table = read_model_json(index).get("weight_map")
    names: list[Any] = list(table.values()) if isinstance(table, dict) else []
    if not names or not all(isinstance(name, str) and name and Path(name).name == name for name in names):
        text = "is damaged: weight_map does not give every tensor the name of a file beside it"
        raise ModelError(text, where=str(index), remedy="fetch it again")
    return sorted(set(names))
