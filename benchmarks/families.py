"""The families of 2026: which witnesses agree on them, what their bugs are killed by, where released engines part.

* agreement: what stands in each probe's record: engines that agree in float32.
* kill: every bug that came with these families, planted on the probes until one kills it at ten bands.
* parted: models that llama.cpp's own converter loses something of, against transformers (docs/findings.md).
* alarms: engines that are right, on every new probe; a FAIL is false unless the engine's fault is a finding.
* named: one of STEP bugs in the reference, diagnosed from its logits in float32.
* located: the first operation that is said to be wrong by itself is the first that the bug changes, by what each operation
  makes of the reference's own input with the bug and without it.
* bands: the error that is predicted of llama.cpp in float32, over the observed one, and positions within the calculated band.

    python benchmarks/families.py [--part agreement kill parted alarms named located bands] [--converter DIR] [--more]
        [--items NAME ...] [--seconds N] [--out F]

`--converter` is a folder of llama.cpp's source, whose converter is run as it is. A part that is not run keeps what the file
holds. With `--more`, what the file has no row of is measured alone, and so are `--items`, again. Rows are written one by one,
so several processes may measure parts of one file at once, and after `--seconds` none is begun: the next run with `--more`
goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _acid_page
import numpy as np
import torch
import transformers
from _acid_kill import RUNS as PASSES
from _acid_kill import Bench, variants
from _rows_kept import Kept
from localize import Bench as Localizing

ROOT = Path(__file__).parents[1]
# the zoo first: it has a module of this one's name
sys.path[:0] = [str(ROOT / "zoo"), str(ROOT / "probes")]
RESULT = Path(__file__).parent / "results" / "families.json"
CONVERTER = ROOT / ".cache" / "llama.cpp"
OLDER = frozenset((ROOT / "tests" / "unit" / "mutation_ids.txt").read_text("utf-8").split())
"""Bugs that were known before these families."""
TRUE_ALARMS = {"transformers: padded on the left = alone": ["llama4-chunked/text"]}
"""Where an engine is at fault: transformers counts padding in the temperature of Llama 4 (docs/findings.md)."""
STEP = 4
"""One of so many bugs is diagnosed, by a sum over its name: a bug more changes nothing about the others."""
RUNS = 12
"""Repetitions under noise."""

from _families_parted import parted  # noqa: E402  it makes probes
from shapes_dense import DENSE  # noqa: E402  the folder of the probes is no package
from shapes_experts import EXPERTS  # noqa: E402
from shapes_recurrent import RECURRENT  # noqa: E402

from logitproof import catalog  # noqa: E402
from logitproof.acid.acid import Request, acid  # noqa: E402
from logitproof.acid.probe import KILLED_AT, Probe, open_probes, probe_names  # noqa: E402
from logitproof.acid.row import Row  # noqa: E402
from logitproof.acid.subject import gguf_of  # noqa: E402
from logitproof.bands.calculated import METRIC, calculated_band, scale  # noqa: E402
from logitproof.calibration.repeat import calibration_of  # noqa: E402
from logitproof.contract.arithmetic import arithmetic_of  # noqa: E402
from logitproof.diagnosis import text as diagnosis_text  # noqa: E402
from logitproof.diagnosis.diagnose import diagnose_logits  # noqa: E402
from logitproof.engines.llamacpp import LlamaCpp  # noqa: E402
from logitproof.engines.transformers import Transformers  # noqa: E402
from logitproof.errors import ContractError  # noqa: E402
from logitproof.protocol import taps  # noqa: E402
from logitproof.protocol.messages import Mode  # noqa: E402
from logitproof.reference.model import load  # noqa: E402
from logitproof.reference.predict import Predictor  # noqa: E402
from logitproof.reference.taps import Watch  # noqa: E402
from logitproof.rows.distance import distances, rms  # noqa: E402
from logitproof.runs.calibrations import Sides  # noqa: E402

NAMES = [name for name in probe_names() if name in {*DENSE, *EXPERTS, *RECURRENT}]


@dataclass(frozen=True)
class Part:
    """A part that is measured row by row: `key` is where the file has its rows, by item."""

    key: str
    items: Callable[[], Iterable[str]]
    measure: Callable[[str], Any]
    summary: Callable[[dict[str, Any]], dict[str, Any]]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=sorted({*PARTS, *ROWS}), default=[*PARTS, *ROWS])
    parser.add_argument("--converter", type=Path, default=CONVERTER)
    parser.add_argument("--more", action="store_true", help="keep the rows that the file has")
    parser.add_argument("--items", nargs="+", default=[], metavar="NAME", help="with --more: rows that are measured again")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after so many")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    file, until = Kept(options.out), time.monotonic() + options.seconds
    for part in options.part:
        print(f"-- {part}", flush=True)
        if part in ROWS:
            by_rows(file, part, options.more, options.items, until)
            continue
        known = file.read().get("killed_by", {}) if options.more else {}
        measured = kill(options.converter, known) if part == "kill" else PARTS[part](options.converter)
        file.change(lambda result, part=part, measured=measured: result | measured | about(result, part))
    if options.out == RESULT:
        _acid_page.write()
    return 0


def about(result: dict[str, Any], part: str) -> dict[str, Any]:
    """The keys that say what the file is, with today as the day of `part`."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    dates = result.get("dates", {}) | {part: today}
    return {"benchmark": "families", "dates": dates, "how": (__doc__ or "").split("\n\n    python")[0]}


def by_rows(file: Kept, name: str, more: bool, again: Iterable[str], until: float) -> None:
    """Measure a part row by row, each kept before the next is begun; figures of the whole stand once no row is missing."""
    part = ROWS[name]
    items = list(part.items())
    kept = {item: row for item, row in file.read().get(part.key, {}).items() if item not in again} if more else {}
    if not more:
        file.change(lambda result: result | {part.key: {}})
    for item in (item for item in items if item not in kept):
        if time.monotonic() > until:
            break
        row = part.measure(item)
        print(f"{item}: {row}", flush=True)
        file.change(lambda result, item=item, row=row: result | {part.key: result.get(part.key, {}) | {item: row}})
    file.change(lambda result: result | _whole(part, items, result) | about(result, name))


def _whole(part: Part, items: list[str], result: dict[str, Any]) -> dict[str, Any]:
    """The rows that belong to the part, and its figures where none is missing; they are null where one is."""
    rows = {item: result[part.key][item] for item in items if item in result[part.key]}
    figures = part.summary(rows)
    return {part.key: rows} | (figures if len(rows) == len(items) else dict.fromkeys(figures))


def agreement(_: Path) -> dict[str, Any]:
    """Engines that agree on each probe in float32, with the distance of the one furthest away over the logits' spread."""
    by_probe = {}
    for probe in (probe for probe in open_probes() if probe.name in NAMES):
        spread = min(float(distances(np.zeros_like(case.expected), case.expected).mean()) for case in probe.cases)
        # ggml looks GELU up in a table of float16: with that table in the reference too, it is a witness in float32
        in_float32 = [
            (run, run["distances"] if run.get("precision") == "float32" else run.get("with_the_same_gelu"))
            for run in probe.witnesses
            if "distances" in run
        ]
        agreed = [(run["engine"], rows) for run, rows in in_float32 if rows]
        worst = max(max(rows.values()) for _, rows in agreed)
        by_probe[probe.name] = {"engines": sorted({engine for engine, _ in agreed}), "apart": float(f"{worst / spread:.2g}")}
    return {
        "families": len(by_probe),
        "two_witnesses": sum(len(one["engines"]) >= 2 for one in by_probe.values()),
        "three_witnesses": sum(len(one["engines"]) >= 3 for one in by_probe.values()),
        "by_family": by_probe,
    }


def kill(_: Path, known: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Each new bug with the first probe that kills it, and by how many bands; those that are `known` stay as they are."""
    # no probe has an adapter: what can be wrong with one is planted by tests/power/test_adapters.py
    new = [name for name in catalog.entries("mutations") if name not in OLDER]
    bugs = [name for name in new if catalog.load("mutations", name).needs != "adapter"]
    equivalent = [name for name in bugs if catalog.load("mutations", name).equivalent]
    killed = {name: row for name, row in (known or {}).items() if name in bugs}
    for probe in (probe for probe in open_probes() if probe.name in NAMES):
        bench, before = Bench(probe), len(killed)
        for name in (name for name in bugs if name not in killed and name not in equivalent):
            planted = [mutation for _, mutation in variants(name) if mutation.applies(bench.model.config)]
            ratios = [bench.kill(mutation).ratio for mutation in planted]
            if ratios and min(ratios) >= KILLED_AT:
                killed[name] = {"probe": probe.name, "bands": float(f"{min(ratios):.3g}") if np.isfinite(min(ratios)) else None}
        print(f"{probe.name}: {len(killed) - before} bugs killed", flush=True)
    alive = sorted(set(bugs) - set(killed) - set(equivalent))
    return {"bugs": len(bugs), "equivalent": equivalent, "killed": len(killed), "survivors": alive, "killed_by": killed}


def alarms(engine: str) -> dict[str, Any]:
    """Statuses of an engine's rows on all new probes; those that FAIL or are an ERROR, by whether the engine is at fault."""
    rows = acid(Request(engine, {}, NAMES)).rows
    counts: dict[str, Any] = {status: sum(row.status == status for row in rows) for status in ("PASS", "FAIL", "ERROR")}
    bad = [
        {"check": row.check, "on": beyond(row), "reason": row.reason[:200]} for row in rows if row.status in ("FAIL", "ERROR")
    ]
    faults = [row for row in bad if row["on"] == TRUE_ALARMS.get(f"{engine}: {row['check']}")]
    return counts | {"false": [row for row in bad if row not in faults], "faults": faults}


def beyond(row: Row) -> list[str]:
    """The cases in which it was not held."""
    return sorted({measurement.case for measurement in row.measured if measurement.at_most and not measurement.held})


def all_alarms(rows: dict[str, Any]) -> dict[str, Any]:
    """False alarms, and alarms of faults that docs/findings.md has."""
    return {
        "false_flags": sum(len(row["false"]) for row in rows.values()),
        "true_flags": sum(len(row["faults"]) for row in rows.values()),
        "right_rows": sum(row["PASS"] for row in rows.values()),
    }


def killed_by() -> dict[str, dict[str, Any]]:
    """The probe that kills each bug."""
    killed: dict[str, dict[str, Any]] = json.loads(RESULT.read_text("utf-8"))["killed_by"]
    return killed


def named(name: str) -> dict[str, Any]:
    """A bug, diagnosed from the logits that it gives on the probe that kills it."""
    probe = open_probes([killed_by()[name]["probe"]])[0]
    bench, kind = Bench(probe), catalog.load("mutations", name)
    mode: Mode = "decode" if kind.needs == "decode" else "prefill"
    bug = next(mutation for _, mutation in variants(name) if mutation.applies(bench.model.config))
    with torch.inference_mode(), bug.applied_to(bench.model):
        logits = [PASSES[mode](bench.model, case) for case in probe.cases]
    diagnosis = diagnose_logits(probe.folder, [list(case.token_ids) for case in probe.cases], logits, mode=mode)
    told = "right" if name in diagnosis.names else "wrong" if diagnosis.names else "nothing"
    return {"answer": told, "names": diagnosis.names, "says": diagnosis_text.sentence(diagnosis)}


def all_named(rows: dict[str, Any]) -> dict[str, Any]:
    """Counts of the three answers, and of those that name more bugs than one: the same logits on this model."""
    answers = [row["answer"] for row in rows.values()]
    return {
        "named_of": len(rows),
        "named_right": answers.count("right"),
        "named_wrong": answers.count("wrong"),
        "named_nothing": answers.count("nothing"),
        "named_beside_others": sum(row["answer"] == "right" and len(row["names"]) > 1 for row in rows.values()),
    }


def located(name: str) -> dict[str, Any]:
    """A bug that one pass shows, located by the taps of the reference without and with it."""
    kind = catalog.load("mutations", name)
    bench = ProbeBench(open_probes([killed_by()[name]["probe"]])[0])
    bug = next(mutation for _, mutation in variants(name) if mutation.applies(bench.model.config))
    localization, _ = bench.locate([bug])
    changed = bench.changed([bug], "float32")
    first = next((row.tap for row in localization.rows if row.tap in changed), None)
    return {
        "first": localization.first,
        "right": localization.first is not None and localization.first == first,
        "declared": kind.first_tap,
        "false": [row.tap for row in localization.rows if row.status == "differs" and row.tap not in changed],
    }


def all_located(rows: dict[str, Any]) -> dict[str, Any]:
    """How many were right, how often the tap is the one that the bug declares, and operations that do what they should."""
    kinds = [(taps.split(row["first"])[1], taps.split(row["declared"])[1]) for row in rows.values() if row["first"]]
    return {
        "located_of": len(rows),
        "located_right": sum(row["right"] for row in rows.values()),
        "located_as_declared": sum(first == declared for first, declared in kinds),
        "located_false_flags": sum(len(row["false"]) for row in rows.values()),
    }


class ProbeBench(Localizing):
    """The model of a probe on the beginning of its longest plain sequence."""

    def __init__(self, probe: Probe) -> None:
        self.model = load(probe.folder).model
        self.ids = torch.tensor([list(probe.case("text").token_ids)])
        self.watch = Watch(self.model)
        self.right = self.read()


def bands(name: str) -> dict[str, Any]:
    """Of a probe that llama.cpp takes, transformers in float32 against it: predicted over observed, and coverage."""
    probe = open_probes([name])[0]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _predicted(probe, tuple(probe.case("text").token_ids), Path(scratch))
    except ContractError as error:
        return {"not measured": error.text}


def all_bands(rows: dict[str, Any]) -> dict[str, Any]:
    """The ratio furthest from one, and the least coverage."""
    measured = [row for row in rows.values() if "band_ratio" in row]
    return {
        "band_ratio_worst": max((row["band_ratio"] for row in measured), key=lambda ratio: abs(np.log(ratio)), default=None),
        "band_coverage_least": min((row["coverage"] for row in measured), default=None),
    }


def _predicted(probe: Probe, ids: tuple[int, ...], scratch: Path) -> dict[str, float]:
    """ContractError of a probe that is not written as GGUF."""
    file = gguf_of(probe, scratch)
    predictor, candidate, reference = Predictor(probe.folder), LlamaCpp(), Transformers()
    candidate.load(file)
    reference.load(probe.folder)
    arithmetics = [arithmetic_of(engine, {}) for engine in ("transformers", "llamacpp")]
    assert arithmetics[0] is not None and arithmetics[1] is not None
    sides = Sides(probe.name, "original", "original", arithmetics[0], arithmetics[1])
    calibration = calibration_of((predictor, predictor), sides, [ids], None, (RUNS, 0), probe.name)
    observed = distances(*(engine.score(ids, "prefill").logits for engine in (reference, candidate)))
    (repeated,), (match,) = calibration.sequences.values(), calculated_band(calibration).match.values()
    predicted = rms(scale(repeated.fixed[METRIC]))
    return {
        "predicted": float(f"{predicted:.3g}"),
        "observed": float(f"{rms(observed):.3g}"),
        "band_ratio": float(f"{predicted / rms(observed):.3g}"),
        "coverage": float(np.mean(observed <= match)),
    }


def judged(name: str) -> bool:
    """Whether a bug shows in logits of one pass or of decode, so that a diagnosis from logits may name it."""
    return catalog.load("mutations", name).needs not in ("tokenizer", "sampling")


def drawn(name: str) -> bool:
    """Whether a bug is among those that are diagnosed."""
    return zlib.crc32(name.encode()) % STEP == 0


def shown(name: str) -> bool:
    """Whether one pass shows a bug at an operation that it declares."""
    kind = catalog.load("mutations", name)
    return judged(name) and kind.needs != "decode" and bool(kind.first_tap)


RIGHT_ENGINES = ("transformers", "llamacpp", "plain")
PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {"agreement": agreement, "kill": kill, "parted": parted}
ROWS = {
    "alarms": Part("right_engines", lambda: RIGHT_ENGINES, alarms, all_alarms),
    "named": Part("named", lambda: [name for name in sorted(killed_by()) if judged(name) and drawn(name)], named, all_named),
    "located": Part("located", lambda: [name for name in sorted(killed_by()) if shown(name)], located, all_located),
    "bands": Part("bands", lambda: NAMES, bands, all_bands),
}


if __name__ == "__main__":
    sys.exit(main())
