"""The acid test: every probe through one engine, against the logits it must give, and the engine against itself.

No reference runs and nothing is downloaded: the probes and their expected logits come with the package.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from logitproof import catalog
from logitproof.acid.probe import PRECISIONS, Case, Probe, open_probes
from logitproof.acid.row import AcidReport, Measured, Row, Status
from logitproof.acid.subject import Subject, Weights
from logitproof.errors import ContractError, EngineError, did_you_mean
from logitproof.jobs.worker import Spec
from logitproof.protocol.messages import Mode

Diagnose = Callable[[Path, list[list[int]], list[np.ndarray], str], str]
"""From model folder, sequences, their logits and the mode to the sentence that names the bug."""


@dataclass(frozen=True)
class Request:
    """What to run: the engine, which probes, which files, and the precision where the engine does not say its own."""

    engine: str
    options: dict[str, Any]
    probes: Sequence[str] | None = None
    weights: Weights = "auto"
    precision: str | None = None
    timeout: float = 120.0


def acid(request: Request, *, diagnose: Diagnose | None = None, on_row: Callable[[Row], None] = lambda row: None) -> AcidReport:
    """Run it. Raises ContractError for an unknown engine, option or probe; an engine's own faults become rows."""
    from logitproof.acid.consistency import consistency_rows
    from logitproof.acid.sampling import sampling_row
    from logitproof.acid.tokens import tokenizer_rows

    begun = time.monotonic()
    entry = catalog.find("engines", request.engine, where="ENGINE")
    for option in request.options:
        if option not in entry.option_names:
            near = did_you_mean(option, entry.option_names)
            raise ContractError(f"{request.engine} has no option {option!r}{near}", where="--option")
    probes = open_probes(request.probes)
    rows: list[Row] = []
    # in models this small, threads only wait for each other
    alone = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    spec = Spec(request.engine, request.options, alone, timeout=request.timeout, directory=str(Path.cwd()))
    with (
        tempfile.TemporaryDirectory(prefix="logitproof-acid-") as folder,
        Subject(spec, Path(folder), request.weights) as subject,
    ):
        hello = subject.hello()
        for made in _rows(subject, probes, request.precision, diagnose):
            rows.append(made)
            on_row(made)
        own = consistency_rows(subject, probes, request.precision, entry, Path(folder))
        for made in chain(own, tokenizer_rows(subject, probes), [sampling_row(subject, probes)]):
            rows.append(made)
            on_row(made)
        weights = subject.weights
    return AcidReport(request.engine, request.options, hello.versions, weights, tuple(rows), time.monotonic() - begun)


def _rows(subject: Subject, probes: Sequence[Probe], precision: str | None, diagnose: Diagnose | None) -> Iterator[Row]:
    for probe in probes:
        try:
            yield probe_row(subject, probe, precision, diagnose)
        except ContractError as error:
            yield Row(probe.name, "probe", "NOT-MEASURED", f"the engine does not take it: {error.text}")
        except EngineError as error:
            yield Row(probe.name, "probe", "ERROR", error.text)


def probe_row(subject: Subject, probe: Probe, precision: str | None = None, diagnose: Diagnose | None = None) -> Row:
    """Every case of one probe in every mode of the engine. Raises what the engine raises."""
    loaded = subject.load(probe)
    used = precision or subject.precision(loaded, probe)
    if loaded.vocab_size != probe.vocab_size:
        text = f"the engine says that the vocabulary has {loaded.vocab_size} entries, it has {probe.vocab_size}"
        return Row(probe.name, "probe", "FAIL", text, precision=used)
    if not probe.judges(used):
        # not asked: where the range of a type does not hold the model, an engine that is right gives no numbers
        return judged(probe.name, (), used)
    measured: list[Measured] = []
    logits: dict[Mode, list[np.ndarray]] = {mode: [] for mode in subject.hello().modes}
    for mode in logits:
        for case in probe.cases:
            logits[mode].append(subject.score(case.token_ids, mode))
            measured.append(measure(case, logits[mode][-1], mode, case.band.get(used)))
    row = judged(probe.name, measured, used)
    if row.status == "FAIL" and (coarser := inside_coarser(probe, measured, used)):
        text = f"no more than the noise of {coarser}: where the engine computes in it, say --precision {coarser}"
        row = replace(row, reason=text)
    if row.status != "FAIL" or diagnose is None:
        return row
    # a fault of decode alone is not to be looked for in prefill
    failed = {measurement.mode for measurement in measured if measurement.at_most and not measurement.held}
    bad = next(mode for mode in logits if mode in failed)
    text = diagnose(probe.folder, [list(case.token_ids) for case in probe.cases], logits[bad], bad)
    return replace(row, diagnosis=text)


def inside_coarser(probe: Probe, measured: Sequence[Measured], precision: str) -> str:
    """The finest arithmetic coarser than `precision` whose bands hold every measurement; "" where there is none."""
    for coarser in PRECISIONS[PRECISIONS.index(precision) + 1 :]:
        bands = [probe.case(measurement.case).band.get(coarser, 0.0) for measurement in measured]
        if all(measurement.distance <= band for measurement, band in zip(measured, bands, strict=True)):
            return coarser
    return ""


def measure(case: Case, logits: np.ndarray, mode: str, at_most: float | None) -> Measured:
    """How far `logits` [T, V] are from what the case expects."""
    distances = case.distances(logits)
    worst = int(np.argmax(distances))
    return Measured(case.name, mode, float(distances[worst]), case.positions[worst], at_most)


def judged(check: str, measured: Sequence[Measured], precision: str) -> Row:
    """The row of a probe: held where every judged measurement is, and not measured where none is judged."""
    bounded = [measurement for measurement in measured if measurement.at_most is not None]
    if not bounded:
        known = ", ".join(PRECISIONS)
        text = f"the probe has no band for {precision} (known: {known})"
        return Row(check, "probe", "NOT-MEASURED", text, precision=precision, measured=tuple(measured))
    status: Status = "PASS" if all(measurement.held for measurement in bounded) else "FAIL"
    return Row(check, "probe", status, precision=precision, measured=tuple(measured))
