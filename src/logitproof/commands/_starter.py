"""A contract to start from, filled with the models and the engine that somebody has."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from logitproof import catalog
from logitproof.contract.contract import ORIGINAL
from logitproof.errors import ContractError
from logitproof.files.atomic import write_atomically
from logitproof.files.gguf import GgufFile
from logitproof.files.gguf_parts import part_name
from logitproof.files.nearest import meant
from logitproof.preflight.quantization import FILE_TYPE, file_type_name
from logitproof.weights.hub import located
from logitproof.weights.hub_id import hub_id
from logitproof.weights.model import is_gguf
from logitproof.weights.stored import is_quantized

HEAD = "# Paths are relative to this file. `logitproof list engines` shows every engine and its options.\n"
PLACEHOLDERS = {"my-model": {ORIGINAL: "path/to/hf-folder", "F32": "path/to/model-f32.gguf"}}
DEFAULT = "llamacpp"
TOP = "the best token, but where two are as good"


@dataclass(frozen=True)
class _Kernels:
    """What an engine's arithmetic may make on weights of a kind: RMS in logits, share of positions, nats."""

    match: float
    wrong: float
    allow: float
    kl: float
    basis: str


CALCULATED = "a start; `logitproof calibrate` calculates what yours may take"
FLOAT32 = _Kernels(1.0e-4, 1.0e-2, 0.0, 1.0e-6, "two float32 engines that differ in the order of their sums")
HALF = _Kernels(3.0e-2, 0.3, 0.05, 1.0e-3, f"kernels that round activations to 16 bits: {CALCULATED}")
BLOCKS = _Kernels(0.4, 0.7, 0.3, 0.02, f"kernels that round activations to 8 bits: {CALCULATED}")
_KERNELS = {"F32": FLOAT32, ORIGINAL: FLOAT32, "F16": HALF, "BF16": HALF}


@dataclass(frozen=True)
class Own:
    """What somebody has: paths or hub ids of models, and an engine by its name, its command line or its address."""

    models: tuple[str, ...] = ()
    engine: str | None = None
    program: str | None = None
    url: str | None = None


def write_starter(path: Path, own: Own) -> bool:
    """Write a commented contract, never over an existing file; whether it can be run as it is.

    Raises ContractError or ModelError where an engine is not known, two of them are named, or a model is not there.
    """
    if path.exists():
        raise ContractError("exists already", where=str(path), remedy="give another name")
    models = _models(own.models, path.parent) or PLACEHOLDERS
    labels = list(dict.fromkeys(label for files in models.values() for label in files))
    candidate = _candidate(own)
    if labels == [ORIGINAL] and candidate["engine"] == DEFAULT:
        remedy = "name yours with --engine, --program or --url, or make a file of the folder with `logitproof gguf make`"
        raise ContractError(f"{own.models[0]} is a folder, and {DEFAULT} reads GGUF files", where="--model", remedy=remedy)
    compared = [label for label in labels if label != ORIGINAL] or [ORIGINAL]
    kernels = max((_KERNELS.get(label, BLOCKS) for label in compared), key=lambda tier: tier.wrong)
    reference: dict[str, Any] = {"engine": "transformers", "options": {"dtype": "float32"}}
    if kernels is not FLOAT32:
        reference["weights"] = "candidate"
    basis = kernels.basis
    contract: dict[str, Any] = {
        "contract": next(iter(models)) if own.models else "my-engine",
        "version": "0.1.0",
        "reference": reference,
        "candidates": {"mine": candidate},
        "models": models,
        "suites": ["smoke-10"],
        "matrix": {"quantization": compared, "mode": ["prefill", "decode", "greedy"]},
        "bands": [{key: value for key, value in asdict(kernels).items() if value and key != "kl"}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "at_most": kernels.kl, "basis": basis},
            {"id": "top1", "metric": "top1_outside_ties", "statistic": "mean", "at_least": 0.95, "basis": TOP},
        ],
    }
    write_atomically(path, HEAD + "".join(f"{key}:{_laid_out(value)}\n" for key, value in contract.items()))
    return bool(own.models)


def _laid_out(value: Any) -> str:
    """A value on its key's line where it is plain or a mapping of plain values, else a line an entry."""
    if isinstance(value, list) and isinstance(value[0], dict):
        return "".join(f"\n  - {_flow(entry)}" for entry in value)
    if isinstance(value, dict) and all(isinstance(entry, dict) for entry in value.values()):
        return "".join(f"\n  {_flow(name)}: {_flow(entry)}" for name, entry in value.items())
    return f" {_flow(value)}"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 20)
    return text.removesuffix("...\n").rstrip("\n")


def _models(given: tuple[str, ...], folder: Path) -> dict[str, dict[str, str]]:
    """Every model under the name of the first: a folder is the original, a GGUF file what its metadata call it."""
    files: dict[str, str] = {}
    for text in given:
        path = located(text, where="--model")
        if not path.exists():
            located(text, folder)
        label = _label(path, text)
        if label in files:
            remedy = "give one of them, or name the other one by hand"
            raise ContractError(f"{text} and {files[label]} are both {label}", where="--model", remedy=remedy)
        files[label] = text if hub_id(text) and not Path(text).exists() else _relative(path, folder)
    return {_name(given[0]): files} if files else {}


def _label(path: Path, text: str) -> str:
    if path.is_dir():
        return ORIGINAL
    if not path.is_file():
        raise ContractError(f"no such file or folder: {text}{meant(path)}", where="--model", remedy="correct the path")
    if not is_gguf(path):
        remedy = "give a folder with config.json and safetensors, or a GGUF file"
        raise ContractError(f"{text} is neither a model's folder nor a GGUF file", where="--model", remedy=remedy)
    number = GgufFile(path).value(FILE_TYPE)
    return file_type_name(number).replace(" ", "-") if isinstance(number, int) else "quantized" if is_quantized(path) else "F32"


def _name(text: str) -> str:
    wanted = hub_id(text)
    path = Path(text).absolute()
    part = part_name(path.name)
    name = wanted.repo.partition("/")[2] if wanted and not Path(text).exists() else part.stem if part else path.stem
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-._") or "model"


def _relative(path: Path, folder: Path) -> str:
    # a link stays one: what it leads to may move
    return os.path.relpath(path.absolute(), folder.absolute())


def _candidate(own: Own) -> dict[str, Any]:
    named = {"--engine": own.engine, "--program": own.program, "--url": own.url}
    given = [option for option, value in named.items() if value is not None]
    if len(given) > 1:
        raise ContractError(f"{' and '.join(given)} each name an engine", where=given[1], remedy="give one of them")
    if own.program is not None:
        try:
            argv = shlex.split(own.program)
        except ValueError as error:
            raise ContractError(f"no command line: {error}", where="--program", remedy="close the quotes") from None
        if not argv:
            raise ContractError("is empty", where="--program", remedy="give the command line of your engine")
        return {"engine": "command", "options": {"argv": argv}}
    if own.url is not None:
        return {"engine": "openai", "options": {"url": own.url}}
    engine = own.engine or DEFAULT
    return {"engine": catalog.find("engines", engine, where="--engine").name}
