"""Writes the probes as plain files, so that an engine's own tests need no Python."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.acid.probe import FACTOR, KILLED_AT, Probe, open_probes
from logitproof.acid.subject import gguf_of
from logitproof.errors import ContractError
from logitproof.files.atomic import environment_errors, write_atomically

MODEL_FILES = ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
README = f"""# Probes

Each folder is one tiny model and what it must compute. The safetensors (16 bits) and the GGUF (float32) file hold the
very same numbers. All files are little-endian, in C order.

| file | content |
|---|---|
| `config.json`, `model.safetensors`, `tokenizer*.json` | the model as a Hugging Face folder |
| `NAME-F32.gguf` | the model for engines of the llama.cpp family; `probe.json` says where there is none and why |
| `probe.json` | sizes, sequences, bands, texts, and who agreed on the logits |
| `CASE.tokens.i32` | int32 [T], the token ids to feed, nothing added |
| `CASE.positions.i32` | int32 [P], the positions whose logits are given, from 0 |
| `CASE.expected.f32` | float32 [P, V], the logits after the token at each position |

To test an engine: feed all T tokens in one pass; then, in a fresh cache, one by one. For each position p take your row
of V logits less the expected row, subtract the mean of that difference, and take the root mean square. The largest over
all positions must be at most the `band` of the case for your arithmetic (`probe.json`: `cases[].band.float32`, `float16`,
`bfloat16`). A NaN or an infinity fails. Run the cases of a probe in their order, in one process: `second` shows what
`text` left behind.

A band is {FACTOR:g} times the largest distance that any witness of that arithmetic was measured at. A known bug moves the
logits by {KILLED_AT:g} bands or more. In float16 a case can have no band where the numbers do not fit.

`texts` in `probe.json` are texts and the ids that the tokenizer must give for them, special tokens included.
`MANIFEST.sha256` lists every file (`sha256sum -c MANIFEST.sha256`).
"""


def export(folder: Path, names: Sequence[str] | None = None) -> str:
    """Write the probes into `folder` and say what was written. Raises ContractError where it holds other things."""
    if folder.exists() and any(folder.iterdir()):
        raise ContractError("is not empty", where=str(folder), remedy="name a new or empty folder")
    probes = open_probes(names)
    with environment_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
            part = Path(scratch) / "probes"
            for probe in probes:
                _write(probe, part / probe.name)
            (part / "README.md").write_text(README, "utf-8")
            _write_manifest(part)
            if folder.exists():
                folder.rmdir()
            part.rename(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{len(probes)} probes, {size / 1e6:.1f} MB in {folder}; {folder / 'README.md'} says how to read them"


def _write(probe: Probe, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in MODEL_FILES:
        if (probe.folder / name).is_file():
            shutil.copyfile(probe.folder / name, folder / name)
    try:
        gguf_of(probe, folder, "F32")
        why_no_gguf = ""
    except ContractError as error:
        why_no_gguf = error.text
    for case in probe.cases:
        np.asarray(case.token_ids, "<i4").tofile(folder / f"{case.name}.tokens.i32")
        np.asarray(case.positions, "<i4").tofile(folder / f"{case.name}.positions.i32")
        np.ascontiguousarray(case.expected, "<f4").tofile(folder / f"{case.name}.expected.f32")
    write_atomically(folder / "probe.json", json.dumps(_sidecar(probe, why_no_gguf), indent=1, ensure_ascii=False) + "\n")


def _sidecar(probe: Probe, why_no_gguf: str) -> dict[str, Any]:
    return {
        "name": probe.name,
        "family": probe.family,
        "exposes": probe.exposes,
        "vocab_size": probe.vocab_size,
        "gguf": {"absent": why_no_gguf} if why_no_gguf else {"file": f"{probe.name}-F32.gguf"},
        "cases": [
            {
                "name": case.name,
                "tokens": {"file": f"{case.name}.tokens.i32", "dtype": "int32", "shape": [len(case.token_ids)]},
                "positions": {"file": f"{case.name}.positions.i32", "dtype": "int32", "shape": [len(case.positions)]},
                "expected": {"file": f"{case.name}.expected.f32", "dtype": "float32", "shape": list(case.expected.shape)},
                "band": case.band,
            }
            for case in probe.cases
        ],
        "texts": [{"text": text.text, "token_ids": list(text.token_ids)} for text in probe.texts],
        "witnesses": list(probe.witnesses),
    }


def _write_manifest(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "MANIFEST.sha256").write_text("".join(lines), "utf-8")
