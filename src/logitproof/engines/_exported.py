"""Models in an engine's own format, made once for the same weights by the same versions and kept.

The folder is LOGITPROOF_EXPORTS, or `logitproof/exports` in the user's cache folder; anything in it may be removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from logitproof.errors import Refusal
from logitproof.files.atomic import content_key
from logitproof.weights.model import open_model

WORDS = 2
"""Last lines of a failed converter that are quoted, without the indented ones of a traceback."""


def exported(model: Path, made_by: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
    """The folder that `make` filled from the HF folder `model`.

    `made_by` names whatever can change the result: versions and options. Raises Refusal for what is no HF folder,
    ModelError for damaged weights, and what `make` raises; nothing of a half-made export stays.
    """
    if not (model / "config.json").is_file():
        raise Refusal(f"{model} is no HF model folder", field="model", remedy="name the folder that holds config.json")
    files = open_model(model).files
    home = exports()
    home.mkdir(parents=True, exist_ok=True)
    folder = home / content_key({"files": files, "made_by": made_by})[:32]
    if folder.is_dir():
        return folder
    part = Path(tempfile.mkdtemp(dir=home, prefix=".part-"))
    try:
        make(part)
        with contextlib.suppress(OSError):  # another worker was faster
            os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def exports() -> Path:
    """The folder of all exports."""
    if own := os.environ.get("LOGITPROOF_EXPORTS"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logitproof/exports"


def run_converter(module: str, arguments: Sequence[str]) -> None:
    """Run a converter that is a module of this interpreter, offline; raises RuntimeError with its last words."""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL, capture_output=True, env=offline, check=False
    )
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        words = [line for line in lines if line.strip() and not line.startswith((" ", "Traceback"))][-WORDS:]
        raise RuntimeError(f"{module} ended with exit code {done.returncode}: " + "\n".join(words))
