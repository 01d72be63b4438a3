"""Do the engines that people use compute the same model? Every one that is here × five families × prefill and decode.

Each engine is one contract against transformers in float32, run by `logitproof check`; what fails is told in the engine's
own words and the rest goes on; what disagrees is diagnosed. Whatever was measured with the same versions is not measured
again, so a run that was stopped goes on where it was.

    make engines          the environments that engines need (`logitproof engines install NAME`)
    make bench-engines
    python benchmarks/engines.py [LABEL ...]      these are measured anew; of the others, what is known stays as it is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import _page
import yaml
from _engines_subjects import FAMILIES, FINDINGS, ROOT, SUBJECTS, ZOO, Subject

from logitproof import catalog
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Suite, shipped_suites
from logitproof.diagnosis.of_run import diagnose_run
from logitproof.diagnosis.text import sentence
from logitproof.engines._exported import exports
from logitproof.errors import ContractError, EngineError, LogitproofError
from logitproof.files.atomic import write_atomically
from logitproof.files.yaml import read_yaml
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec
from logitproof.jobs.workers import Workers
from logitproof.report.report import Report
from logitproof.runs.workspace import Workspace

RESULT = ROOT / "benchmarks/results/engines.json"
RUNS = ROOT / "runs/bench-engines"
MODES = ("prefill", "decode")
PROMPTS = ("fact-water", "explain-bread", "code-python", "german-bee")
NEW_TOKENS = 24
KL, TOP1 = 1e-6, 0.999
BASIS = "float32 on both sides: only the order of sums may differ, 1e-5 of a logit and 1e-10 nats were measured"
WORDS = 300
"""Characters of an engine's own last words that a cell keeps."""


def main(again: list[str]) -> int:
    RUNS.mkdir(parents=True, exist_ok=True)
    suite = write_suite()
    cells: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    for subject in SUBJECTS:
        try:
            found = measured(subject, suite, again)
        except (EngineError, FileNotFoundError) as error:
            missing[subject.label] = without_machine(str(error).splitlines()[0])
            print(f"{subject.label}: not here: {missing[subject.label]}", flush=True)
            continue
        found = [{**one, "cause": with_finding(one)} for one in found]
        cells += found
        for cell in found:
            print(
                "  ".join(f"{cell[key]}" for key in ("engine", "family", "mode", "kl_divergence_mean", "status", "cause")),
                flush=True,
            )
        write(cells, missing)
    write(cells, missing)
    return 0 if cells else 3


def write_suite() -> Path:
    """Four prompts of the shipped suite, each with 24 tokens that the reference continues it by."""
    shipped = read_yaml(shipped_suites()["smoke-10"], Suite)[0]
    prompts = [{"id": one.id, "text": one.text} for one in shipped.prompts if one.id in PROMPTS]
    path = RUNS / "suite.yaml"
    path.write_text(yaml.safe_dump({"suite": "bench-engines", "max_new_tokens": NEW_TOKENS, "prompts": prompts}), "utf-8")
    return path


def measured(subject: Subject, suite: Path, again: list[str]) -> list[dict[str, Any]]:
    """Cells of one engine; those of an earlier run where it was the same versions. Raises EngineError if it cannot start."""
    if subject.engine not in catalog.entries("engines"):
        raise FileNotFoundError("no engine of the catalogue has this name")
    folder = RUNS / subject.label.replace(", ", "-").replace(" ", "-")
    folder.mkdir(exist_ok=True)
    kept = folder / "cells.json"
    earlier = json.loads(kept.read_text("utf-8")) if kept.is_file() else {"versions": None, "cells": []}
    if again and subject.label not in again:
        if not earlier["cells"]:
            raise FileNotFoundError("not measured yet")
        return list(earlier["cells"])
    with subject.uses(folder) as options:
        versions = hello(subject, options)
        if earlier["versions"] == versions and not again:
            return list(earlier["cells"])
        found = run(subject, options, folder, suite, main_version(subject.engine, versions))
    write_atomically(kept, json.dumps({"versions": versions, "cells": found}, indent=1))
    return found


def hello(subject: Subject, options: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    spec = Spec(subject.engine, options[FAMILIES[0]], timeout=subject.timeout)
    with Workers() as workers:
        versions = dict(workers.of(spec, subject.label).hello().versions)
    # a server is another one each time
    return {name: value for name, value in versions.items() if name not in ("fingerprint", "weights")}


def main_version(engine: str, versions: Mapping[str, str]) -> str:
    names = [engine, engine.replace("_", "-"), *versions]
    return next((versions[name] for name in names if name in versions), "")


def run(
    subject: Subject, options: Mapping[str, dict[str, Any]], folder: Path, suite: Path, version: str
) -> list[dict[str, Any]]:
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
        return [cell(subject, version, family, mode, "ERROR", said(error.text)) for family in FAMILIES for mode in MODES]
    causes = diagnosed(folder, report)
    return list(judged(subject, version, report, causes))


def contract(subject: Subject, options: Mapping[str, dict[str, Any]], suite: Path) -> dict[str, Any]:
    uses = {
        family: {
            "engine": subject.engine,
            "options": options[family],
            "timeout": subject.timeout,
            "only": {"model": [family], "quantization": [subject.weights]},
        }
        for family in FAMILIES
    }
    return {
        "contract": "bench-engines",
        "version": "1.0.0",
        "reference": {"engine": "transformers", "options": {"dtype": "float32", "threads": 1}},
        "candidates": uses,
        "models": {one: {"original": str(ZOO / one), "F32": str(ZOO / f"gguf/{one}-F32.gguf")} for one in FAMILIES},
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
    if not any(one.status == "WRONG" for one in report.verdict.cells):
        return {}
    try:
        found = diagnose_run(folder)
    except LogitproofError as error:
        return {one.cell.id: f"diagnose: {error.text}" for one in report.verdict.cells if one.status == "WRONG"}
    return {name: f"diagnose: {sentence(one)}" for name, one in found.items()}


def judged(subject: Subject, version: str, report: Report, causes: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    gates = {one.cell: one.status for one in report.verdict.gates if one.status == "FAIL"}
    for one in report.verdict.cells:
        at = one.cell
        failed = next((prompt.failure for prompt in one.prompts if prompt.failure), None)
        kl, top1 = (one.metrics.get(name, {}).get("mean") for name in ("kl_divergence", "top1"))
        status = "FAIL" if one.status == "WRONG" or at.id in gates else "PASS"
        if one.status in ("ENGINE ERROR", "SET-UP ERROR"):
            status = "ERROR"
        elif one.status == "NOT-MEASURED" or kl is None:
            status = "NOT-MEASURED"
        cause = said(failed.text) if failed else causes.get(at.id, "" if status == "PASS" else one.reason)
        yield {**cell(subject, version, at.model, at.mode, status, cause, kl, top1), "positions": one.positions}
    for gone in report.verdict.unmeasured:
        _, family, *rest = gone.cell.split("/")
        yield cell(subject, version, family, next(mode for mode in MODES if mode in rest), "NOT-MEASURED", gone.reason)


def with_finding(found: Mapping[str, Any]) -> str:
    """The cause of a cell that is no PASS, and where docs/findings.md tells more."""
    label, family = found["engine"], found["family"]
    title = FINDINGS.get((label, family)) or FINDINGS.get((label, "*"), "")
    further = f"docs/findings.md: {title}" if title and found["status"] != "PASS" else ""
    return "; ".join(text for text in (found["cause"], further) if text)


def cell(
    subject: Subject, version: str, family: str, mode: str, status: str, cause: str, kl: Any = None, top1: Any = None
) -> dict[str, Any]:
    named = {"engine": subject.label, "version": version, "family": family, "mode": mode}
    return {**named, "kl_divergence_mean": kl, "top1": top1, "status": status, "cause": cause}


def said(text: str) -> str:
    """The end of what an engine said, in one line: its last words stand there."""
    words = " ".join(without_machine(text).split())
    return words if len(words) <= WORDS else f"… {words[-WORDS:]}"


def without_machine(text: str) -> str:
    """The same words on every machine."""
    for place, name in (
        (f"{ROOT}/", ""),
        (str(environments.root()), "ENGINES"),
        (str(exports()), "EXPORTS"),
        (str(Path.home()), "~"),
    ):
        text = text.replace(place, name)
    return text


def write(cells: list[dict[str, Any]], missing: Mapping[str, str]) -> None:
    """engines.json, and the table of docs/engines.md."""
    counts = {status: sum(one["status"] == status for one in cells) for status in sorted({one["status"] for one in cells})}
    result = {"families": FAMILIES, "prompts": len(PROMPTS), "counts": counts, "not_here": missing, "cells": cells}
    write_atomically(RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    _page.write("engines.md", "bench", markdown(cells))


def markdown(cells: list[dict[str, Any]]) -> str:
    """One row for each engine and family."""
    rows = []
    for label, version, family in dict.fromkeys((one["engine"], one["version"], one["family"]) for one in cells):
        pair = {one["mode"]: one for one in cells if (one["engine"], one["family"]) == (label, family)}
        ones = [pair[mode] for mode in MODES if mode in pair]
        top1 = [one["top1"] for one in ones if one["top1"] is not None]
        statuses, causes = ({one[key]: None for one in ones if one[key]} for key in ("status", "cause"))
        figures = [figure(pair.get(mode, {}).get("kl_divergence_mean")) for mode in MODES]
        shown = "; ".join(causes).replace("|", "\\|").replace("<", "&lt;")
        rows.append([label, version, family, *figures, f"{min(top1):.3f}" if top1 else "–", " / ".join(statuses), shown])
    return _page.table(["engine", "version", "family", "prefill KL", "decode KL", "top-1", "verdict", "cause"], rows)


def figure(kl: float | None) -> str:
    return "–" if kl is None else f"{kl:.1e}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
