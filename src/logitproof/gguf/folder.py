"""The Hugging Face folder of a GGUF file: config, tokenizer and chat template, made once for each content of a file.

The folder is LOGITPROOF_DERIVED, or `logitproof/gguf` in the user's cache folder; anything in it may be removed. It holds no
weights: they are read from the file itself, dequantized tensor by tensor. `gguf.json` says what was assumed.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from logitproof.errors import ModelError
from logitproof.files.atomic import content_key, environment_errors
from logitproof.files.gguf import GgufFile
from logitproof.files.gguf_parts import files_of_model
from logitproof.files.hashes import State, file_sha256, file_state
from logitproof.gguf.metadata import Assumed, Metadata
from logitproof.gguf.settings import same, settings_of
from logitproof.gguf.vocabularies import special_id, tokenizer_files

FORMAT = 1
"""Counts up when another folder would be made of the same file."""
RECORD = "gguf.json"
IGNORED = ("rope.scaling.finetuned", "full_attention_interval", "nextn_predict_layers")
"""Keys of an architecture that change no logit, or that others say as well."""
NO_FACTOR = ("rope.scaling.attn_factor", 1.0)


@dataclass(frozen=True)
class Derived:
    """What is made of the metadata of a file: the contents of every file of the folder, by name."""

    config: dict[str, Any]
    texts: dict[str, str]
    assumed: tuple[Assumed, ...]
    unread: tuple[str, ...]
    """keys of the architecture that nothing was made of"""
    no_tokenizer: str = ""
    """why there is no tokenizer; empty where there is one"""


def derive(path: Path) -> Derived:
    """The folder's contents. Raises UnknownArchitecture, or ModelError of a file that no config describes."""
    file = GgufFile(path)
    meta = Metadata(file)
    config, layout = settings_of(meta)
    ids = {f"{name}_token_id": special_id(file, name) for name in ("bos", "eos", "pad")}
    config |= ids
    texts = {"config.json": _json(config), "generation_config.json": _json(_generation(file, ids))}
    reason = ""
    try:
        tokenizer, settings = tokenizer_files(file)
        texts |= {"tokenizer.json": json.dumps(tokenizer, ensure_ascii=False), "tokenizer_config.json": _json(settings)}
    except ModelError as error:
        reason = f"{error.where}: {error.text}"
    if template := file.value("tokenizer.chat_template"):
        texts["chat_template.jinja"] = str(template)
    known = {"vocab_size": config["vocab_size"], "rope.dimension_count": config.get("head_dim")}
    known |= {"attention.key_length": config.get("head_dim"), "attention.value_length": config.get("head_dim")}
    unread = sorted(
        key
        for key, value in meta.keys.items()
        if key not in layout.keys and key not in IGNORED and not (key in known and same(known[key], value))
    )
    unread = [key for key in unread if not _is_neutral(meta.keys[key]) and (key, meta.keys[key]) != NO_FACTOR]
    return Derived(config, texts, tuple(meta.assumed), tuple(unread), reason)


def folder_of(path: Path) -> Path:
    """The folder of a GGUF file, made if it is not there. Raises what `derive` raises."""
    files = files_of_model(path)
    return _folder(tuple(file.absolute() for file in files), home(), tuple(file_state(file) for file in files))


def home() -> Path:
    """Where all such folders lie."""
    if own := os.environ.get("LOGITPROOF_DERIVED"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logitproof/gguf"


def write(derived: Derived, folder: Path) -> None:
    """Write the files, and the record of what was assumed."""
    for name, text in derived.texts.items():
        (folder / name).write_text(text, "utf-8")
    record = {"format": FORMAT, "assumed": [asdict(entry) for entry in derived.assumed], "unread": list(derived.unread)}
    (folder / RECORD).write_text(_json(record | {"no_tokenizer": derived.no_tokenizer}), "utf-8")


@functools.lru_cache(maxsize=64)
def _folder(files: tuple[Path, ...], parent: Path, states: tuple[State, ...]) -> Path:
    hashes = [file_sha256(file) for file in files]
    folder = parent / content_key({"sha256": hashes[0] if len(hashes) == 1 else hashes, "format": FORMAT})[:32]
    if folder.is_dir():
        return folder
    derived = derive(files[0])
    with environment_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=parent, prefix=".part-"))
        try:
            write(derived, part)
            part.chmod(0o755)
            with contextlib.suppress(OSError):  # another process was faster
                os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def _generation(file: GgufFile, ids: dict[str, int | None]) -> dict[str, Any]:
    """generation_config.json: a text ends at EOS, and at the end of a turn where the file names such a token."""
    turn = file.value("tokenizer.ggml.eot_token_id")
    ends = sorted({number for number in (ids["eos_token_id"], turn) if isinstance(number, int)})
    return ids | {"eos_token_id": ends[0] if len(ends) == 1 else ends or None}


def _is_neutral(value: Any) -> bool:
    """Nothing, zero or no: what a converter writes for a setting that the model has not."""
    return value in (0, 0.0, "", "none", None) or value is False or (isinstance(value, list) and not any(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
