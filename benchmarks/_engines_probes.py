"""Engines over the probes of new families: each case in each mode, against the logits that its witnesses agree on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _engines_kept import Asked, Cell, Known, identity, main_version, said, versions_of
from _engines_subjects import FINDINGS, Subject

from logitproof.acid.acid import judged, measure
from logitproof.acid.probe import Case, Probe, open_probes
from logitproof.acid.row import Measured
from logitproof.acid.subject import Subject as Engine
from logitproof.acid.subject import gguf_of
from logitproof.comparison.compare import compare
from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.text import sentence
from logitproof.errors import ContractError, EngineError, LogitproofError
from logitproof.files.hashes import file_sha256
from logitproof.jobs.worker import Spec
from logitproof.protocol.messages import Mode
from logitproof.rows.top import is_top

MODES: tuple[Mode, ...] = ("prefill", "decode")
ALONE = {"OMP_NUM_THREADS": "1"}


def over_probes(subject: Subject, names: Sequence[str], known: Known, asked: Asked) -> Iterator[Cell]:
    """Measure what is not known yet and keep it, probe by probe; raises EngineError of an engine that cannot be started."""
    with tempfile.TemporaryDirectory(prefix="logitproof-engines-") as folder:
        scratch = Path(folder)
        runner = _Runner(subject, scratch)
        with contextlib.closing(runner):
            for probe in open_probes(names):
                if asked.is_over:
                    return
                try:
                    engine = runner.engine_for(probe)
                except ContractError as error:
                    yield from _put(subject, probe, known, _refused(subject, probe, runner.versions, error))
                    continue
                of = identity(runner.versions, subject.options, file_sha256(probe.folder / "probe.json"), "1")
                name = {"engine": subject.label, "probe": probe.name}
                if not asked.again and known.has(name, of, main_version(subject.engine, runner.versions)):
                    continue
                cells = [{**cell, "identity": of} for cell in _cells(subject, probe, engine, runner.versions)]
                yield from _put(subject, probe, known, cells)


def _put(subject: Subject, probe: Probe, known: Known, cells: Sequence[Cell]) -> Sequence[Cell]:
    known.put({"engine": subject.label, "probe": probe.name}, cells)
    return cells


class _Runner:
    """One process of the engine for all probes, or one for each where it serves a single model."""

    def __init__(self, subject: Subject, scratch: Path) -> None:
        self._subject, self._scratch, self._stack = subject, scratch, contextlib.ExitStack()
        self._engine: Engine | None = None
        self.versions: dict[str, str] = {}

    def engine_for(self, probe: Probe) -> Engine:
        """An engine that may be given the probe; ContractError where the probe has no file that it reads."""
        file = probe.folder if self._subject.weights == "original" else gguf_of(probe, self._scratch)
        if self._engine is not None and self._subject.is_one_for_all:
            return self._engine
        self.close()
        options = self._stack.enter_context(self._subject.serving(file, self._scratch))
        if not self.versions:
            self.versions = versions_of(self._subject, options)
        weights = "folder" if self._subject.weights == "original" else "F32"
        spec = Spec(self._subject.engine, dict(options), ALONE, timeout=self._subject.timeout)
        self._engine = self._stack.enter_context(Engine(spec, self._scratch, weights))  # type: ignore[arg-type]
        return self._engine

    def close(self) -> None:
        """End it, and the server that it asks."""
        self._stack.close()
        self._engine = None


def _cells(subject: Subject, probe: Probe, engine: Engine, versions: Mapping[str, str]) -> list[Cell]:
    """The cells of one probe; what the engine refuses or dies of is their cause."""
    try:
        loaded = engine.load(probe)
        used = engine.precision(loaded, probe)
        modes = [mode for mode in MODES if mode in engine.hello().modes]
    except (ContractError, EngineError) as error:
        return _refused(subject, probe, versions, error)
    cells: list[Cell] = []
    for mode in modes:
        # a fault of prefill is decode's too: it is not looked for again
        known = next((cell["cause"] for cell in cells if cell["status"] == "FAIL"), "")
        cells.append(_measured(subject, probe, engine, (versions, known), mode, used))
    rest = [mode for mode in MODES if mode not in modes]
    without = f"the engine {subject.engine} does not offer decode"
    return cells + [_cell(subject, probe, versions, mode, "NOT-MEASURED", without) for mode in rest]


def _measured(
    subject: Subject, probe: Probe, engine: Engine, about: tuple[Mapping[str, str], str], mode: Mode, used: str
) -> Cell:
    versions, known = about
    try:
        given = [_whole(case, engine.score(case.token_ids, mode)) for case in probe.cases]
        pairs = [pair for pair in given if pair is not None]
        if not pairs:
            text = "no position of it: the engine takes text, which it cuts into other tokens"
            return _cell(subject, probe, versions, mode, "NOT-MEASURED", text)
        rows = [measure(case, logits, mode, case.band.get(used)) for case, logits in pairs]
        row = judged(probe.name, rows, used)
        figures = _figures(pairs, rows)
    except (ContractError, EngineError) as error:
        status = "NOT-MEASURED" if isinstance(error, ContractError) else "ERROR"
        return _cell(subject, probe, versions, mode, status, said(error.text))
    cause = "" if row.status == "PASS" else row.reason
    if row.status == "FAIL":
        explained = (subject.label, probe.name) in FINDINGS
        cause = row.reason if explained else known or _explained(probe, pairs, mode)
    return {**_cell(subject, probe, versions, mode, row.status, cause), **figures, "precision": used}


Pair = tuple[Case, np.ndarray]


def _whole(case: Case, logits: np.ndarray) -> Pair | None:
    """The case with its logits [T, V]; of an engine that gives no row of some positions, without these, None without any."""
    if not is_top(logits):
        return case, logits
    size = case.expected.shape[1]
    rows = np.full((len(logits), size), np.nan, np.float32)
    for position, entries in enumerate(logits):
        kept = entries[entries["id"] >= 0]
        if len(kept) == size:
            rows[position, kept["id"]] = kept["log_probability"]
    places = [number for number, position in enumerate(case.positions) if np.isfinite(rows[position]).all()]
    chosen = tuple(case.positions[number] for number in places)
    return (replace(case, positions=chosen, expected=case.expected[places]), rows) if places else None


def _figures(given: Sequence[Pair], rows: Sequence[Measured]) -> Cell:
    """Mean KL divergence in nats and share of equal first tokens at all positions, and the worst distance over its band."""
    pairs = [_compared(case, logits) for case, logits in given]
    kl, top1 = (np.concatenate([pair[name] for pair in pairs]) for name in ("kl_divergence", "top1"))
    worst = max(row.ratio for row in rows)
    finite = bool(np.isfinite(kl).all())
    return {
        "kl_divergence_mean": float(kl.mean()) if finite else None,
        "top1": float(top1.mean()) if finite else None,
        "bands": float(f"{worst:.3g}") if np.isfinite(worst) else None,
        "positions": len(kl),
    }


def _compared(case: Case, logits: np.ndarray) -> dict[str, np.ndarray]:
    labels = np.full(len(case.positions), -1)
    return compare(case.expected, np.asarray(logits[list(case.positions)]), labels=labels).metrics


def _explained(probe: Probe, pairs: Sequence[Pair], mode: Mode) -> str:
    whole = [(list(case.token_ids), logits) for case, logits in pairs if np.isfinite(logits).all()]
    if not whole:
        return "not diagnosed: it gives no row of some positions, or numbers that are not finite"
    try:
        sequences, rows = (list(part) for part in zip(*whole, strict=True))
        return f"diagnose: {sentence(diagnose_logits(probe.folder, sequences, rows, mode=mode))}"
    except LogitproofError as error:
        return f"diagnose: {said(error.text)}"


def _refused(subject: Subject, probe: Probe, versions: Mapping[str, str], error: LogitproofError) -> list[Cell]:
    """The cells of a probe that the engine does not take, or that it dies of."""
    status = "NOT-TAKEN" if isinstance(error, ContractError) else "ERROR"
    return [_cell(subject, probe, versions, mode, status, said(error.text)) for mode in MODES]


def _cell(subject: Subject, probe: Probe, versions: Mapping[str, str], mode: str, status: str, cause: str) -> dict[str, Any]:
    return {
        "engine": subject.label,
        "version": main_version(subject.engine, versions),
        "family": probe.family,
        "probe": probe.name,
        "quantization": subject.weights,
        "mode": mode,
        "kl_divergence_mean": None,
        "top1": None,
        "status": status,
        "cause": cause,
        "identity": "",
    }
