"""The plain folder of a quantized checkpoint: `write_plain(folder, out)`."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logitproof.errors import ModelError
from logitproof.files.atomic import environment_errors, write_atomically
from logitproof.files.safetensors import write_pieces
from logitproof.weights.config import read_config
from logitproof.weights.model import SINGLE
from logitproof.weights.quantized.folder import PLACES, PlainTensors, plain_tensors

STATING = tuple(dict.fromkeys(name for name, _ in PLACES if name != "config.json"))
"""Files that state nothing but a quantization."""
LEFT_OUT = (".*", "*.safetensors*", "config.json", *STATING)
"""What is not copied of a folder whose weights are written anew."""


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of the same model without a word of its quantization."""
    plain = copy.deepcopy(dict(config))
    for name, place in PLACES:
        *inner, key = place.split(".")
        part: Any = plain
        for step in inner:
            part = part.get(step)
        if name == "config.json" and isinstance(part, dict):
            part.pop(key, None)
    return plain


def write_plain(folder: Path, out: Path) -> PlainTensors:
    """Write what `folder` means to the new folder `out`: computed matrices in float32, the other tensors as they lie.

    Raises ModelError where `folder` is not quantized or cannot be read, and where `out` is there already.
    """
    if out.exists():
        raise ModelError("is there already", where=str(out), remedy="name a folder that is not there")
    plain = plain_tensors(folder)
    if plain is None:
        text = "states no quantization: its weights are plain already"
        raise ModelError(text, where=str(folder), remedy="use the folder itself")
    config = plain_config(read_config(folder))
    part = out.with_name(f".{out.name}.part")
    with environment_errors(out.parent):
        shutil.rmtree(part, ignore_errors=True)
        try:
            shutil.copytree(folder, part, ignore=shutil.ignore_patterns(*LEFT_OUT))
            names = [name for name in plain.names if plain.is_float(name)]
            entries = {name: (plain.kind(name), plain.shape(name)) for name in names}
            write_pieces(part / SINGLE, entries, (plain.raw(name) for name in names))
            write_atomically(part / "config.json", json.dumps(config, indent=2) + "\n")
            part.rename(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return plain
