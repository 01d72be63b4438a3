"""MLX's own quantization: folders that `mlx_lm.convert` writes, against the reference on the same numbers, dequantized here.

A group of 64 numbers has a scale and a bias, and codes of 4 or 8 bits that lie in 32-bit words from the lowest bits on
(`mlx.core.quantize`, mode `affine`): a number is scale · code + bias. MLX multiplies such matrices in float32 with the
activations as they are, so its kernels have the bound of float32.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _engines_kept import Asked, Cell, Known, identity, main_version, said, versions_of
from _engines_subjects import FAMILIES, ROOT, ZOO, Subject
from safetensors.numpy import load_file, save_file

from logitproof.comparison.compare import compare
from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.text import sentence
from logitproof.errors import ContractError, EngineError
from logitproof.files.hashes import file_sha256
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import Mode

BITS = {"mlx-4bit": 4, "mlx-8bit": 8}
"""Bits of a code by the name of the format."""
GROUP = 64
DENSE = tuple(family for family in FAMILIES if family not in ("qwen3-moe", "qwen3.5"))
"""Families whose tensors mlx-lm keeps under the names of the checkpoint."""
MODES: tuple[Mode, ...] = ("prefill", "decode")
MATCH, KL, TOP1 = 1e-4, 1e-6, 0.999
LENGTH = 60
"""Tokens of each sequence: the beginnings of two documents."""
DOCUMENTS = ("en-1", "de-2")
ALONE = {"OMP_NUM_THREADS": "1"}


def over_own(subject: Subject, kinds: Sequence[str], known: Known, asked: Asked, place: Path) -> Iterator[Cell]:
    """Measure what is not known yet and keep it; raises FileNotFoundError where mlx-lm is not here."""
    environment = environments.installed("mlx")
    if environment is None:
        raise FileNotFoundError(f"mlx is not installed: {environments.remedy('mlx')}")
    versions = versions_of(subject, subject.options)
    for kind in (kind for kind in kinds if kind in BITS):
        for family in DENSE:
            if asked.is_over:
                return
            folder = converted(family, kind, place, str(environment.python))
            of = identity(versions, subject.options, file_sha256(folder / "model.safetensors"), LENGTH)
            name = {"engine": subject.label, "family": family, "probe": None, "quantization": kind}
            if not asked.again and known.has(name, of, main_version(subject.engine, versions)):
                continue
            about = {"engine": subject.label, "version": main_version(subject.engine, versions), **_where(family, kind)}
            cells = [{**about, **cell, "identity": of} for cell in _measured(subject, folder, place / f"{folder.name}-plain")]
            known.put(name, cells)
            yield from cells


def _where(family: str, kind: str) -> dict[str, Any]:
    return {"family": family, "probe": None, "quantization": kind}


def converted(family: str, kind: str, place: Path, python: str) -> Path:
    """The folder that `mlx_lm.convert` writes, and beside it one with the numbers that it means."""
    folder = place / f"{family}-{kind}"
    if not (folder / "model.safetensors").is_file():
        command = [python, "-m", "mlx_lm", "convert", "--hf-path", str(ZOO / family), "--mlx-path", str(folder)]
        options = ["--quantize", "--q-bits", str(BITS[kind]), "--q-group-size", str(GROUP), "--dtype", "float32"]
        ran = subprocess.run([*command, *options], capture_output=True, text=True)
        if ran.returncode:
            raise EngineError(f"mlx_lm.convert ended with {ran.returncode}: {said(ran.stderr)}")
    plain = folder.with_name(f"{folder.name}-plain")
    if not (plain / "model.safetensors").is_file():
        plain.mkdir(exist_ok=True)
        for file in (ZOO / family).glob("*.json"):
            (plain / file.name).write_bytes(file.read_bytes())
        config = json.loads((plain / "config.json").read_text("utf-8"))
        (plain / "config.json").write_text(json.dumps(config | {"dtype": "float32"}), "utf-8")
        save_file(dequantized(load_file(folder / "model.safetensors"), BITS[kind]), plain / "model.safetensors")
    return folder


def dequantized(tensors: dict[str, np.ndarray], bits: int) -> dict[str, np.ndarray]:
    """Every tensor in float32; codes [R, C·bits/32], scales and biases [R, C/64] become numbers [R, C]."""
    plain = {}
    for name, values in tensors.items():
        stem = name.removesuffix(".weight")
        if name.endswith((".scales", ".biases")):
            continue
        if f"{stem}.scales" not in tensors:
            plain[name] = values.astype(np.float32)
            continue
        shifts = np.arange(0, 32, bits, dtype=np.uint32)
        codes = (values[..., None] >> shifts & np.uint32(2**bits - 1)).reshape(len(values), -1, GROUP).astype(np.float32)
        scales, biases = (tensors[f"{stem}.{part}"].astype(np.float32)[..., None] for part in ("scales", "biases"))
        plain[name] = (scales * codes + biases).reshape(len(values), -1)
    return plain


def _measured(subject: Subject, folder: Path, plain: Path) -> Iterator[Cell]:
    """Both engines on the same sequences, in both modes of the candidate."""
    with tempfile.TemporaryDirectory(prefix="logitproof-engines-") as scratch, Workers() as workers:
        reference = workers.of(Spec("transformers", {"dtype": "float32", "threads": 1}, ALONE), "reference")
        reference.load(plain, None)
        texts = [(ROOT / f"zoo/corpus/{name}.txt").read_text("utf-8") for name in DOCUMENTS]
        sequences = [list(reference.tokenize(text)[:LENGTH]) for text in texts]
        raw = Path(scratch, "rows")
        right = [np.array(reference.score(ids, "prefill", raw).logits.open()) for ids in sequences]
        for mode in MODES:
            try:
                worker = workers.of(Spec(subject.engine, dict(subject.options), ALONE, timeout=subject.timeout), subject.label)
                worker.load(folder, None)
                rows = [np.array(worker.score(ids, mode, raw).logits.open()) for ids in sequences]
            except (ContractError, EngineError) as error:
                yield _cell(mode, "ERROR", said(error.text))
                continue
            yield _judged(mode, plain, sequences, right, rows)


def _judged(
    mode: Mode, plain: Path, sequences: Sequence[list[int]], right: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> Cell:
    labels = [[*ids[1:], -1] for ids in sequences]
    pairs = [compare(*pair, labels=following).metrics for *pair, following in zip(right, rows, labels, strict=True)]
    kl, top1, far = (np.concatenate([pair[name] for pair in pairs]) for name in ("kl_divergence", "top1", "rms_delta_logit"))
    held = bool(far.max() <= MATCH and kl.mean() <= KL and top1.mean() >= TOP1)
    cause = "" if held else f"diagnose: {sentence(diagnose_logits(plain, list(sequences), list(rows), mode=mode))}"
    figures = {"kl_divergence_mean": float(kl.mean()), "top1": float(top1.mean()), "rms_delta_logit": float(far.mean())}
    return {**_cell(mode, "PASS" if held else "FAIL", cause), **figures, "positions": len(kl)}


def _cell(mode: str, status: str, cause: str) -> Cell:
    return {"mode": mode, "kl_divergence_mean": None, "top1": None, "status": status, "cause": cause}
