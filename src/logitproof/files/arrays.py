"""Arrays with a few facts beside them in one file, written in one step: calibrations, and what known bugs do."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.atomic import write_atomically

FACTS = "about"


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
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(json.loads(file[FACTS].tobytes())), {name: file[name] for name in file.files if name != FACTS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ContractError(f"is damaged: {error}", where=str(path), remedy=remedy) from None
