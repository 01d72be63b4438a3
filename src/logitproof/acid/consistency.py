"""An engine against itself: relations that hold whatever the model is, so that no reference is needed.

Two runs of one engine may differ by rounding, as much as a run and the expected logits may: each relation is held
to twice the probe's band. What an engine has no option for is NOT-MEASURED, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.acid.probe import Probe
from logitproof.acid.row import Measured, Row
from logitproof.acid.subject import Subject
from logitproof.catalog import Entry
from logitproof.errors import ContractError, EngineError, LogitproofError
from logitproof.rows.distance import distances

TWO_RUNS = 2.0
"""Each of two runs may be a band away from the truth."""
NEW_TOKENS = 6
CASE, BETWEEN = "text", "second"
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "chunked prefill = prefill": ({"chunk": 7}, {"batch_size": 7}),
    "batched = alone": ({"batch": 3, "padding": "right"}, {"sequences": 3}),
    "padded on the left = alone": ({"batch": 3, "padding": "left"},),
    "padded on the right = alone": ({"batch": 3, "padding": "right"},),
    "prefix reuse = fresh": ({"reuse": True},),
}
"""Relations to the same engine with another option: the first set of options that the engine has is used."""
PREFIX = "shared prefix = fresh"
SHARED = (1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 128)
"""Lengths of a shared prefix: inside, at and past the blocks of 2 to 128 positions that caches are kept in."""
THOROUGH = 2
"""Probes on which every length is tried, in both orders; on the others one length of each order."""
IN_ONE = ("decode = prefill", "twice = once", PREFIX, "generated = scored")
"""Relations inside one engine with its options as they are."""


@dataclass
class _Own:
    """What the engine gave for one probe with its options as they are, and how its own runs relate."""

    probe: Probe
    precision: str
    prefill: np.ndarray | None
    new: np.ndarray | None
    relations: dict[str, Measured]

    def measure(self, mode: str, left: np.ndarray, right: np.ndarray) -> Measured:
        apart, band = distances(left, right), self.probe.case(CASE).band.get(self.precision)
        worst = int(np.argmax(apart))
        at_most = None if band is None else TWO_RUNS * band
        return Measured(f"{self.probe.name}/{CASE}", mode, float(apart[worst]), worst, at_most)


def consistency_rows(
    subject: Subject, probes: Sequence[Probe], precision: str | None, entry: Entry, scratch: Path
) -> Iterator[Row]:
    """One row for each relation, over all probes that the engine takes."""
    taken: list[_Own] = []
    faults: dict[str, LogitproofError] = {}
    for probe in probes:
        try:
            taken.append(_own(subject, probe, precision, thorough=len(taken) < THOROUGH))
        except (ContractError, EngineError) as error:
            faults[probe.name] = error
    hello = subject.hello()
    reasons = {
        "decode = prefill": f"the engine offers {' and '.join(hello.modes) or 'no mode'} alone",
        "twice = once": "the engine takes no probe",
        PREFIX: "the engine takes no probe",
        "generated = scored": "the engine does not generate",
    }
    for check in IN_ONE:
        yield _row(check, [own.relations[check] for own in taken if check in own.relations], faults, reasons[check])
    for check, choices in VARIANTS.items():
        options = next((choice for choice in choices if set(choice) <= set(entry.option_names)), None)
        if options is None:
            names = " or ".join(", ".join(choice) for choice in choices)
            yield Row(check, "consistency", "NOT-MEASURED", f"{entry.name} has no option {names}")
            continue
        spec = replace(subject.spec, options=subject.spec.options | options)
        with Subject(spec, scratch, subject.weights) as variant:
            yield _with_option(check, taken, variant, "reuse" in options)


def _own(subject: Subject, probe: Probe, precision: str | None, *, thorough: bool = True) -> _Own:
    loaded, hello = subject.load(probe), subject.hello()
    own = _Own(probe, precision or subject.precision(loaded, probe), None, None, {})
    if not probe.judges(own.precision):
        raise ContractError(f"the probe has no band for {own.precision}", where=probe.name)
    ids, between = probe.case(CASE).token_ids, probe.case(BETWEEN).token_ids
    twice = []
    for mode in hello.modes:
        first = subject.score(ids, mode)
        subject.score(between, mode)
        twice.append(own.measure(mode, first, subject.score(ids, mode)))
        if mode == "prefill":
            own.prefill = first
        elif own.prefill is not None:
            own.relations["decode = prefill"] = own.measure(mode, own.prefill, first)
    own.relations["twice = once"] = max(twice, key=lambda measurement: measurement.distance)
    own.relations[PREFIX] = _after_shared_prefixes(subject, own, probe, thorough)
    if hello.generate:
        new, own.new = subject.generate(ids, NEW_TOKENS)
        scored = subject.score([*ids, *new], hello.modes[0])
        own.relations["generated = scored"] = own.measure("generate", scored[len(ids) - 1 : -1], own.new)
    return own


def _after_shared_prefixes(subject: Subject, own: _Own, probe: Probe, thorough: bool) -> Measured:
    """The largest distance of rows from fresh ones when the sequence before them begins with the same tokens.

    Two sequences that share n tokens are scored in turn, the second of them then cut short and whole again: an engine that
    keeps rows or a cache of a prefix must answer as one that keeps nothing.
    """
    ids, between = probe.case(CASE).token_ids, probe.case(BETWEEN).token_ids
    lengths = [count for count in SHARED if count < len(ids)] if thorough else [min(8, len(ids) - 1)]
    measurements = []
    for mode in subject.hello().modes:
        subject.score(between, mode)
        fresh = subject.score(ids, mode)
        for count in lengths:
            subject.score([*ids[:count], *between], mode)
            measurements.append(own.measure(mode, fresh, subject.score(ids, mode)))
            subject.score([*ids[:count], *between], mode)
            measurements.append(own.measure(mode, fresh[:count], subject.score(ids[:count], mode)))
            measurements.append(own.measure(mode, fresh, subject.score(ids, mode)))
    return max(measurements, key=lambda measured: measured.distance)


def _with_option(check: str, taken: list[_Own], variant: Subject, reuse: bool) -> Row:
    """An engine with another option must give the same prefill, or the same continuation after one that begins alike."""
    measured: list[Measured] = []
    faults: dict[str, LogitproofError] = {}
    for own in taken:
        ids = own.probe.case(CASE).token_ids
        half = ids[: len(ids) // 2]
        try:
            if reuse and own.new is not None:
                variant.load(own.probe)
                variant.generate([*half, *reversed(half)], NEW_TOKENS)
                measured.append(own.measure("generate", own.new, variant.generate(ids, NEW_TOKENS)[1]))
            elif not reuse and own.prefill is not None:
                variant.load(own.probe)
                measured.append(own.measure("prefill", own.prefill, variant.score(ids, "prefill")))
        except (ContractError, EngineError) as error:
            faults[own.probe.name] = error
    return _row(check, measured, faults, "no probe was taken in both ways")


def _row(check: str, measured: list[Measured], faults: dict[str, LogitproofError], otherwise: str) -> Row:
    """Held on every probe; an engine that fails on one is ERROR, and one that takes none is not measured."""
    bounded = [measurement for measurement in measured if measurement.at_most is not None]
    broken = next((f"{name}: {error.text}" for name, error in faults.items() if isinstance(error, EngineError)), "")
    if any(not measurement.held for measurement in bounded):
        return Row(check, "consistency", "FAIL", measured=tuple(measured))
    if broken:
        return Row(check, "consistency", "ERROR", broken, measured=tuple(measured))
    if not bounded:
        refused = next((error.text for error in faults.values()), otherwise)
        return Row(check, "consistency", "NOT-MEASURED", "no probe has a band for this precision" if measured else refused)
    return Row(check, "consistency", "PASS", measured=tuple(measured))
