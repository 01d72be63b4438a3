"""Do the engines that people use compute the same model? Every one that is here, over three axes, in prefill and decode.

* zoo: five trained families as they are, by one contract of each engine against transformers in float32 (`logitproof check`).
* probes: the tiny models of new families (docs/families.md), against the logits that their witnesses agree on.
* quantizations: every GGUF format that the engine reads, against the reference on the same file, dequantized.

What fails is told in the engine's own words and the rest goes on; what disagrees is diagnosed. Whatever was measured with the
same versions, options and weights is not measured again, so a run that was stopped goes on where it was; an engine that is
not here keeps what was measured of it.

    make engines          the environments that engines need (`logitproof engines install NAME`)
    make bench-engines
    python benchmarks/engines.py [LABEL ...] [--axis zoo probes quantizations] [--probes NAME ...] [--quantizations TYPE ...]
        [--again] [--seconds N]

A LABEL is a row of the table; without one, all are meant. `--again` measures what is known, too; after `--seconds` no part is
begun.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import _engines_page
import yaml
from _engines_kept import Asked, Cell, Known, axis_of, identity, main_version, said, versions_of, without_machine
from _engines_own import BITS, over_own
from _engines_probes import over_probes
from _engines_quantized import QUANTIZATIONS, over_quantizations
from _engines_subjects import ALL, FAMILIES, FINDINGS, OLDER_PROBES, ROOT, SUBJECTS, ZOO, Subject

from logitproof import catalog
from logitproof.acid.probe import probe_names
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Suite, shipped_suites
from logitproof.diagnosis.of_run import diagnose_run
from logitproof.diagnosis.text import sentence
from logitproof.errors import ContractError, EngineError, LogitproofError
from logitproof.files.yaml import read_yaml
from logitproof.report.report import Report
from logitproof.runs.workspace import Workspace

RESULT = ROOT / "benchmarks/results/engines.json"
RUNS = ROOT / "runs/bench-engines"
MODES = ("prefill", "decode")
PROMPTS = ("fact-water", "explain-bread", "code-python", "german-bee")
SHORT = ("fact-water", "german-bee")
"""Prompts of the quantized files, whose bands are calculated position by position."""
NEW_TOKENS = 24
KL, TOP1 = 1e-6, 0.999
BASIS = "float32 on both sides: only the order of sums may differ, 1e-5 of a logit and 1e-10 nats were measured"
PROBES = tuple(name for name in probe_names() if name not in OLDER_PROBES)
"""Probes that are measured where none is named: those of the new families."""
FORMATS = (*QUANTIZATIONS, *BITS)
LABELS = tuple(subject.label for subject in SUBJECTS)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="*", metavar="LABEL", help="these engines alone")
    parser.add_argument("--axis", nargs="+", choices=ALL, default=list(ALL), help="these axes alone")
    parser.add_argument("--probes", nargs="+", choices=probe_names(), default=list(PROBES), metavar="NAME")
    parser.add_argument("--quantizations", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="TYPE")
    parser.add_argument("--again", action="store_true", help="measure what is known, too")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no part after so many")
    options = parser.parse_args()
    if unknown := set(options.labels) - set(LABELS):
        parser.error(f"no engine is called {', '.join(sorted(unknown))}; there are: {'; '.join(LABELS)}")
    RUNS.mkdir(parents=True, exist_ok=True)
    known, asked = Known(RESULT), Asked(options.again, time.monotonic() + options.seconds)
    chosen = [subject for subject in SUBJECTS if not options.labels or subject.label in options.labels]
    for axis in options.axis:
        subjects = [subject for subject in chosen if axis in subject.axes]
        alone = [subject for subject in subjects if axis != "quantizations" or subject.engine == "mlx"]
        for subject in alone:
            measured(subject, axis, options, known, asked)
        together = [subject for subject in subjects if subject not in alone]
        if together:
            kinds = [kind for kind in options.quantizations if kind in QUANTIZATIONS]
            tell(over_quantizations(together, kinds, known, asked, write_suite(RUNS / "quantized", SHORT).parent))
    cells = finished(known)
    return 0 if cells else 3


def measured(subject: Subject, axis: str, options: argparse.Namespace, known: Known, asked: Asked) -> None:
    """One engine on one axis, each cell told when it is there."""
    try:
        if subject.engine not in catalog.entries("engines"):
            raise FileNotFoundError("no engine of the catalogue has this name")
        subject.needs()
        tell(cells_of(subject, axis, options, known, asked))
    except (EngineError, FileNotFoundError) as error:
        why = without_machine(str(error).splitlines()[0])
        known.change(not_here={subject.label: why})
        print(f"{subject.label}: not here: {why}", flush=True)


def tell(cells: Iterator[Cell]) -> None:
    """A line for each cell when it is there."""
    shown = ("engine", "family", "probe", "quantization", "mode", "kl_divergence_mean", "status", "cause")
    for cell in cells:
        print("  ".join(f"{cell.get(key)}" for key in shown), flush=True)


def cells_of(subject: Subject, axis: str, options: argparse.Namespace, known: Known, asked: Asked) -> Iterator[Cell]:
    """The cells of an axis that are measured now, of an engine by itself."""
    if axis == "probes":
        yield from over_probes(subject, options.probes, known, asked)
    elif axis == "quantizations":
        kinds = [kind for kind in options.quantizations if kind in BITS]
        yield from over_own(subject, kinds, known, asked, write_suite(RUNS / "quantized", SHORT).parent)
    elif not asked.is_over:
        yield from over_zoo(subject, known, asked)


def finished(known: Known) -> list[Cell]:
    """The file with its cells in order and its counts, and the pages that are made of it."""
    result = known.read()
    here, probes, kinds = ({cell[key] for cell in known.cells()} for key in ("engine", "probe", "quantization"))
    about = {
        "families": FAMILIES,
        "probes": [*PROBES, *(name for name in sorted(OLDER_PROBES) if name in probes)],
        "quantizations": FORMATS,
        "not_measured": [kind for kind in FORMATS if kind not in kinds and not result.get("not_made", {}).get(kind)],
        "prompts": len(PROMPTS),
    }
    known.drop_not_here(here)
    axes = {subject.label: subject.axes for subject in SUBJECTS}
    known.change(cells=[cell for cell in known.cells() if axis_of(cell) in axes[cell["engine"]]])
    cells = [{**cell, "cause": with_finding(cell)} for cell in known.finish(LABELS, **about)]
    known.change(cells=cells)
    _engines_page.write(known.read())
    return cells


def with_finding(cell: Mapping[str, Any]) -> str:
    """The cause of a cell that is no PASS, and where docs/findings.md tells more."""
    label, place = cell["engine"], cell["probe"] or cell["family"]
    exact = FINDINGS.get((label, place)) or FINDINGS.get((label, cell["quantization"]))
    title = exact or FINDINGS.get((label, "*"), "")
    cause = cell["cause"].partition("docs/findings.md: ")[0].removesuffix("; ")
    further = (
        f"docs/findings.md: {title}"
        if title and (cell["status"] != "PASS" and (exact or cell["status"] != "NOT-TAKEN"))
        else ""
    )
    return "; ".join(text for text in (cause, further) if text)


def write_suite(place: Path, prompts: Sequence[str]) -> Path:
    """Prompts of the shipped suite, each with 24 tokens that the reference continues it by."""
    shipped = read_yaml(shipped_suites()["smoke-10"], Suite)[0]
    chosen = [{"id": prompt.id, "text": prompt.text} for prompt in shipped.prompts if prompt.id in prompts]
    place.mkdir(parents=True, exist_ok=True)
    path = place / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "bench-engines", "max_new_tokens": NEW_TOKENS, "prompts": chosen}), "utf-8")
    return path


def over_zoo(subject: Subject, known: Known, asked: Asked) -> Iterator[Cell]:
    """The five families as they are: one contract. Raises EngineError if the engine cannot start."""
    suite, folder = write_suite(RUNS, PROMPTS), RUNS / subject.slug
    folder.mkdir(exist_ok=True)
    name = {"engine": subject.label, "probe": None, "quantization": subject.weights}
    with contextlib.ExitStack() as stack:
        files = {family: weights(subject, family) for family in FAMILIES}
        options = {family: stack.enter_context(subject.serving(files[family], folder)) for family in FAMILIES}
        versions = versions_of(subject, options[FAMILIES[0]])
        of, version = identity(versions, subject.options, PROMPTS, NEW_TOKENS), main_version(subject.engine, versions)
        if not asked.again and known.has(name, of, version):
            return
        cells = [{**cell, "identity": of} for cell in run(subject, options, folder, suite, version)]
    known.put(name, cells)
    yield from cells


def weights(subject: Subject, family: str) -> Path:
    """The weights of a family that the engine reads."""
    return ZOO / family if subject.weights == "original" else ZOO / f"gguf/{family}-{subject.weights}.gguf"


def run(subject: Subject, options: Mapping[str, dict[str, Any]], folder: Path, suite: Path, version: str) -> list[Cell]:
    """One contract for the engine; one cell for each family and mode."""
    store = folder / "store"
    (RUNS / "store").mkdir(exist_ok=True)
    if not store.is_symlink():
        store.symlink_to(RUNS / "store")  # the reference's traces are every engine's
    path = folder / "engine.parity.yaml"
    path.write_text(yaml.safe_dump(contract(subject, options, suite), sort_keys=False), "utf-8")
    try:
        report = Workspace(folder).check(open_contract(path))
    except ContractError as error:
        return [of_zoo(subject, version, family, mode, "ERROR", said(error.text)) for family in FAMILIES for mode in MODES]
    causes = diagnosed(folder, report)
    return list(judged(subject, version, report, causes))


def contract(subject: Subject, options: Mapping[str, dict[str, Any]], suite: Path) -> dict[str, Any]:
    """The engine on every family, by the bounds of float32."""
    exact = {"may_be_exact": subject.may_be_exact} if subject.may_be_exact else {}
    uses = {
        family: {
            "engine": subject.engine,
            "options": options[family],
            "timeout": subject.timeout,
            "only": {"model": [family], "quantization": [subject.weights]},
            **exact,
        }
        for family in FAMILIES
    }
    return {
        "contract": "bench-engines",
        "version": "1.0.0",
        "reference": {"engine": "transformers", "options": {"dtype": "float32", "threads": 1}},
        "candidates": uses,
        "models": {family: {"original": str(ZOO / family), "F32": str(ZOO / f"gguf/{family}-F32.gguf")} for family in FAMILIES},
        "suites": [str(suite)],
        "matrix": {"quantization": [subject.weights], "mode": [*MODES]},
        "error_bar": {"vary": []},
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": BASIS}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "at_most": KL, "basis": BASIS},
            {"id": "top1", "metric": "top1", "at_least": TOP1, "basis": BASIS},
        ],
    }


def diagnosed(folder: Path, report: Report) -> dict[str, str]:
    """What `logitproof diagnose` says of every cell that is WRONG."""
    wrong = [verdict.cell.id for verdict in report.verdict.cells if verdict.status == "WRONG"]
    if not wrong:
        return {}
    try:
        return {name: f"diagnose: {sentence(diagnosis)}" for name, diagnosis in diagnose_run(folder).items()}
    except LogitproofError as error:
        return dict.fromkeys(wrong, f"diagnose: {error.text}")


def judged(subject: Subject, version: str, report: Report, causes: Mapping[str, str]) -> Iterator[Cell]:
    """The cells of a finished run."""
    gates = {gate.cell for gate in report.verdict.gates if gate.status == "FAIL"}
    for verdict in report.verdict.cells:
        at = verdict.cell
        failed = next((prompt.failure for prompt in verdict.prompts if prompt.failure), None)
        kl, top1 = (verdict.metrics.get(name, {}).get("mean") for name in ("kl_divergence", "top1"))
        status = "FAIL" if verdict.status == "WRONG" or at.id in gates else "PASS"
        if verdict.status in ("ENGINE ERROR", "SET-UP ERROR"):
            status = "ERROR"
        elif verdict.status == "NOT-MEASURED" or kl is None:
            status = "NOT-MEASURED"
        cause = said(failed.text) if failed else causes.get(at.id, "" if status == "PASS" else verdict.reason)
        cell = of_zoo(subject, version, at.model, at.mode, status, cause)
        yield {**cell, "kl_divergence_mean": kl, "top1": top1, "positions": verdict.positions}
    for gone in report.verdict.unmeasured:
        _, family, *rest = gone.cell.split("/")
        yield of_zoo(subject, version, family, next(mode for mode in MODES if mode in rest), "NOT-MEASURED", gone.reason)


def of_zoo(subject: Subject, version: str, family: str, mode: str, status: str, cause: str) -> Cell:
    """A cell of a family as it is, without figures."""
    named = {"engine": subject.label, "version": version, "family": family, "probe": None, "quantization": subject.weights}
    return {**named, "mode": mode, "kl_divergence_mean": None, "top1": None, "status": status, "cause": cause}


if __name__ == "__main__":
    sys.exit(main())
