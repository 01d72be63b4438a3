"""The families of 2026: which witnesses agree on them, what their bugs are killed by, where released engines part.

* agreement: what stands in each probe's record: engines that agree in float32.
* kill: every bug that came with these families, planted on the probes until one kills it at ten bands.
* parted: models that llama.cpp's own converter loses something of, against transformers (docs/findings.md).
* alarms: engines that are right, on every new probe; any FAIL is false.
* named: bugs in the reference, diagnosed from their logits in float32: every STEP-th of them.
* located: the first operation that is wrong by itself is the one that a bug declares: every STEP-th of them.
* bands: the error that is predicted of llama.cpp in float32, over the observed one, and positions within the calculated band.

    python benchmarks/families.py [--part agreement kill parted alarms named located bands] [--converter DIR] [--more] [--out F]

`--converter` is a folder of llama.cpp's source, whose converter is run as it is. A part that is not run keeps what the file
holds. With `--more`, `kill` plants the bugs alone that the file has no kill of.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _acid_page
import numpy as np
import torch
import transformers
from _acid_kill import Bench, variants
from localize import Bench as Localizing

ROOT = Path(__file__).parents[1]
# the zoo first: it has a module of this one's name
sys.path[:0] = [str(ROOT / "zoo"), str(ROOT / "probes")]
RESULT = Path(__file__).parent / "results" / "families.json"
CONVERTER = ROOT / ".cache" / "llama.cpp"
DRIVER = ROOT / "tests" / "engines" / "llama_cpp_converter.py"
OLDER = frozenset((ROOT / "tests" / "unit" / "mutation_ids.txt").read_text("utf-8").split())
"""Bugs that were known before these families."""
STEP = 12
RUNS = 12
"""Repetitions under noise."""
LENGTH = 110
"""Positions that are compared where engines part."""

from shapes_dense import DENSE  # noqa: E402  the folder of the probes is no package
from shapes_disputed import REFUSED, SILENT  # noqa: E402
from shapes_experts import EXPERTS  # noqa: E402
from shapes_recurrent import RECURRENT  # noqa: E402

from logitproof import catalog  # noqa: E402
from logitproof.acid.acid import Request, acid  # noqa: E402
from logitproof.acid.probe import KILLED_AT, Probe, open_probes, probe_names  # noqa: E402
from logitproof.acid.subject import gguf_of  # noqa: E402
from logitproof.bands.calculated import METRIC, calculated_band, scale  # noqa: E402
from logitproof.bands.kept import Sides  # noqa: E402
from logitproof.calibration.repeat import calibration_of  # noqa: E402
from logitproof.commands.acid import diagnosis_of  # noqa: E402
from logitproof.contract.arithmetic import arithmetic_of  # noqa: E402
from logitproof.engines.llamacpp import LlamaCpp  # noqa: E402
from logitproof.engines.transformers import Transformers  # noqa: E402
from logitproof.errors import ContractError, Refusal  # noqa: E402
from logitproof.protocol import taps  # noqa: E402
from logitproof.reference.model import load  # noqa: E402
from logitproof.reference.predict import Predictor  # noqa: E402
from logitproof.reference.taps import Watch  # noqa: E402
from logitproof.rows.distance import distances, rms  # noqa: E402

NAMES = [name for name in probe_names() if name in {*DENSE, *EXPERTS, *RECURRENT}]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    parser.add_argument("--converter", type=Path, default=CONVERTER)
    parser.add_argument("--more", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for part in options.part:
        print(f"-- {part}", flush=True)
        result: dict[str, Any] = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
        known = result.get("killed_by", {}) if options.more else {}
        found = kill(options.converter, known) if part == "kill" else PARTS[part](options.converter)
        dates = result.get("dates", {}) | {part: datetime.datetime.now(datetime.UTC).date().isoformat()}
        result |= found | {"benchmark": "families", "dates": dates, "how": (__doc__ or "").split("\n\n    python")[0]}
        options.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    if options.out == RESULT:
        _acid_page.write()
    return 0


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
    bugs = [name for name in catalog.entries("mutations") if name not in OLDER]
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


def parted(converter: Path) -> dict[str, Any]:
    """How far llama.cpp is from transformers on the file of its own converter, or what the converter or it says."""
    import make

    silent, refused = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape in {**SILENT, **REFUSED}.items():
            folder = Path(scratch) / name
            make.build(shape, folder)
            told = _apart(folder, converter)
            (silent if name in SILENT else refused)[name] = told
            print(f"{name}: {told}", flush=True)
    return {
        "witness_disagreements": len(silent),
        "silently_other": silent,
        "not_taken": refused,
        "findings": len(silent) + len(refused),
    }


def _apart(folder: Path, converter: Path) -> float | str:
    """The largest distance of a row over the spread of the logits; or the last line of what went wrong."""
    file = folder / "converted.gguf"
    command = [
        sys.executable,
        str(DRIVER),
        str(converter),
        "llama-bpe",
        str(folder),
        "--outfile",
        str(file),
        "--outtype",
        "f32",
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        return ran.stderr.strip().splitlines()[-1]
    ids = [int(one) for one in np.random.default_rng(5).integers(0, 280, LENGTH)]
    options: dict[str, Any] = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float32}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **options).eval()
    with torch.inference_mode():
        right = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    rows = folder / "rows"
    bare = [sys.executable, str(Path(__file__).with_name("_bare_rows.py")), str(file), ",".join(map(str, ids)), str(rows)]
    ran = subprocess.run(bare, capture_output=True, text=True)
    ended = [line for line in ran.stderr.splitlines() if "GGML_ASSERT" in line]
    if ended:
        return f"ends the process: {ended[0].rpartition('/')[2]}"
    if ran.returncode:
        return _why_not_loaded(file)
    logits = np.fromfile(rows, np.float32).reshape(right.shape)
    spread = float(distances(np.zeros_like(right), right).mean())
    return float(f"{distances(right, logits).max() / spread:.3g}")


def _why_not_loaded(file: Path) -> str:
    """What llama.cpp says of a file that it does not take."""
    try:
        LlamaCpp().load(file)
    except Refusal as error:
        return str(error).replace(f"{file.parent}/", "")
    return "loaded, and gives no rows"


def alarms(_: Path) -> dict[str, Any]:
    """Rows of engines that are right and FAIL."""
    told = {}
    for engine in ("transformers", "llamacpp", "plain"):
        report = acid(Request(engine, {}, NAMES))
        told[engine] = {status: sum(row.status == status for row in report.rows) for status in ("PASS", "FAIL", "ERROR")}
        for row in report.rows:
            if row.status in ("FAIL", "ERROR"):
                told[engine].setdefault("rows", []).append(f"{row.check}: {row.reason}"[:200])  # type: ignore[union-attr]
    return {"false_flags": sum(one["FAIL"] for one in told.values()), "right_engines": told}


def named(_: Path) -> dict[str, Any]:
    """Every STEP-th killed bug, diagnosed from the logits that it gives on the probe that kills it."""
    killed = json.loads(RESULT.read_text("utf-8"))["killed_by"]
    right, wrong, silent = [], {}, []
    for name in sorted(killed)[::STEP]:
        probe = open_probes([killed[name]["probe"]])[0]
        bench, kind = Bench(probe), catalog.load("mutations", name)
        mode = "decode" if kind.needs == "decode" else "prefill"
        from _acid_kill import RUNS

        with torch.inference_mode(), kind().applied_to(bench.model):
            logits = [RUNS[mode](bench.model, case) for case in probe.cases]
        text = diagnosis_of(probe.folder, [list(case.token_ids) for case in probe.cases], logits, mode).splitlines()[0]
        ids = [known for known in catalog.entries("mutations") if known in text]
        right += [name] if name in ids else []
        wrong |= {name: text} if ids and name not in ids else {}
        silent += [] if ids else [name]
        print(f"{name}: {text[:150]}", flush=True)
    return {
        "named_of": len(right) + len(wrong) + len(silent),
        "named_right": len(right),
        "named_wrong": len(wrong),
        "named": {"wrong": wrong, "nothing": silent},
    }


def located(_: Path) -> dict[str, Any]:
    """Every STEP-th killed bug that one pass shows, located by the taps of the reference without and with it."""
    killed = json.loads(RESULT.read_text("utf-8"))["killed_by"]
    kinds = {name: catalog.load("mutations", name) for name in sorted(killed)}
    shown = [name for name, kind in kinds.items() if kind.needs != "decode" and kind.first_tap][::STEP]
    right, elsewhere, blamed = 0, {}, []
    for name in shown:
        bench, bug = ProbeBench(open_probes([killed[name]["probe"]])[0]), kinds[name]()
        found, candidate = bench.locate([bug])
        really = bench.changed([bug], "float32")
        declared = taps.split(kinds[name].first_tap)[1]
        offered = any(taps.split(tap)[1] == declared for tap in candidate)
        hit = found.first is not None and (taps.split(found.first)[1] == declared or (not offered and found.first in really))
        right += hit
        elsewhere |= {} if hit else {name: f"{found.first} and not {kinds[name].first_tap}"}
        blamed += [f"{name}: {row.tap}" for row in found.rows if row.status == "differs" and row.tap not in really]
        print(f"{name}: {found.first}", flush=True)
    return {
        "located_of": len(shown),
        "located_right": right,
        "located_elsewhere": elsewhere,
        "located_false_flags": blamed,
    }


class ProbeBench(Localizing):
    """The model of a probe on the beginning of its longest plain sequence."""

    def __init__(self, probe: Probe) -> None:
        self.model = load(probe.folder).model
        self.ids = torch.tensor([list(probe.case("text").token_ids)])
        self.watch = Watch(self.model)
        self.right = self.read()


def bands(_: Path) -> dict[str, Any]:
    """Of every probe that llama.cpp takes, transformers in float32 against it: predicted over observed, and coverage."""
    by_family: dict[str, dict[str, float]] = {}
    for probe in (probe for probe in open_probes() if probe.name in NAMES):
        ids = tuple(probe.case("text").token_ids)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                by_family[probe.name] = _predicted(probe, ids, Path(scratch))
        except ContractError as error:
            by_family[probe.name] = {"not measured": error.text}  # type: ignore[dict-item]
        print(f"{probe.name}: {by_family[probe.name]}", flush=True)
    measured = {name: row for name, row in by_family.items() if "band_ratio" in row}
    worst = max((row["band_ratio"] for row in measured.values()), key=lambda ratio: abs(np.log(ratio)))
    return {
        "band_ratio_worst": worst,
        "band_coverage_least": min(row["coverage"] for row in measured.values()),
        "bands": by_family,
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


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "agreement": agreement,
    "kill": kill,
    "parted": parted,
    "alarms": alarms,
    "named": named,
    "located": located,
    "bands": bands,
}


if __name__ == "__main__":
    sys.exit(main())
