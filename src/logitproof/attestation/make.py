"""A statement about a run: its verdict once more, from its traces, with the hashes of what it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from logitproof.attestation.build import AGAIN, builds_of
from logitproof.attestation.derive import columns_of, decided, gates_written, judged_written, terms_of
from logitproof.attestation.seals import parts_of, sealed
from logitproof.attestation.statement import (
    FORMAT,
    PREDICATE,
    STATEMENT,
    Build,
    Calculated,
    CellStatement,
    Contracted,
    Fault,
    OwnError,
    Predicate,
    Row,
    Statement,
    Subject,
    Tolerance,
    Unmeasured,
    Weights,
    value_written,
    written,
)
from logitproof.bands.calculated import CalculatedBand, tokens_sha256
from logitproof.documents.answer import version
from logitproof.documents.wording import json_text
from logitproof.errors import ContractError
from logitproof.files.atomic import content_key
from logitproof.files.hashes import file_sha256
from logitproof.files.untrusted import parse_json, read_object
from logitproof.report.report import Report
from logitproof.runs.workspace import JudgedRun, Workspace
from logitproof.verdict.case import Case
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import CellVerdict

JUDGE = "run `logitproof judge` on the folder, look at its verdict, then attest it"
COUNTED = ("contract", "contract_version", "status", "exit_code", "reason", "unmeasured", "waivers", "falsified")
"""What of verdict.json must be what the traces and the contract come to now, beside cells and gates."""


def statement_of(space: Workspace) -> Statement:
    """The statement about the run in a folder.

    Raises ContractError where the folder holds no verdict, or where its verdict, its contract, its weights, its suites or its
    engines are no longer what they were.
    """
    path = space.folder / "verdict.json"
    if (space.folder / "begun.json").exists():
        raise ContractError("the run in it has not ended", where=str(space.folder), remedy="run `logitproof check` again")
    if not path.is_file():
        raise ContractError("holds no verdict.json, so there is nothing to attest", where=str(space.folder), remedy=AGAIN)
    judged = space.judged()
    _refuse_other_verdict(path, judged.report)
    report = judged.report
    predicate = _predicate(judged, date.today())
    subjects = subjects_of(predicate)
    made = {"_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE, "predicate": predicate}
    statement = Statement.model_validate(made)
    seals = sealed(parts_of(plain(statement)))
    assert report.verdict.status == predicate.verdict.status
    return statement.model_copy(update={"predicate": predicate.model_copy(update={"seals": seals})})


def plain(statement: Statement) -> dict[str, Any]:
    """The statement as JSON has it."""
    return statement.model_dump(mode="json", by_alias=True)


def payload_of(statement: Statement) -> bytes:
    """The bytes that are signed."""
    return json.dumps(plain(statement), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def subjects_of(predicate: Predicate) -> list[Subject]:
    """What a statement is about, by the hashes that stand in its predicate."""
    hashes = {f"contract/{predicate.contract.name}": predicate.contract.sha256}
    for model, labels in predicate.models.items():
        for label, weights in labels.items():
            hashes |= {f"weights/{model}/{label}/{name}": sha256 for name, sha256 in weights.files.items()}
    hashes |= {f"suite/{name}": sha256 for name, sha256 in predicate.suites.items()}
    hashes |= {f"engine/{name}": build_sha256(build) for name, build in predicate.engines.items()}
    return [Subject(name=name, digest={"sha256": sha256}) for name, sha256 in hashes.items()]


def build_sha256(build: Build) -> str:
    """The hash of an engine's build, of all that is known of it."""
    return content_key(build.model_dump(mode="json"))


def _refuse_other_verdict(path: Path, report: Report) -> None:
    """Raise ContractError where verdict.json is not what the recorded traces come to by the contract as it is."""
    kept, now = read_object(path), parse_json(json_text(report.as_json()), path)
    for key in COUNTED:
        if kept.get(key) != now[key]:
            now_is = f"{_shown(now[key])} by its contract as it is now"
            text = f"says {_shown(kept.get(key))}, and the traces of the run come to {now_is}"
            raise ContractError(text, where=f"{path}: {key}", remedy=JUDGE)
    for kind, names in (("cells", ("id", "status", "positions", "coverage", "counts", "metrics")), ("gates", GATE)):
        before, after = kept.get(kind), now[kind]
        if not isinstance(before, list) or len(before) != len(after):
            raise ContractError("are not those that the run has", where=f"{path}: {kind}", remedy=JUDGE)
        for entry, expected in zip(before, after, strict=True):
            for name in names:
                if not isinstance(entry, dict) or entry.get(name) != expected[name]:
                    text = "is not what the traces of the run come to by its contract as it is now"
                    raise ContractError(text, where=f"{path}: {kind}.{expected['id']}.{name}", remedy=JUDGE)


GATE = ("id", "cell", "metric", "scope", "statistic", "operator", "status", "observed", "bound", "positions")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _predicate(judged: JudgedRun, today: date) -> Predicate:
    report, facts = judged.report, judged.report.facts
    opened = report.opened
    columns = columns_of(opened.contract)
    verdicts = {verdict.cell: verdict for verdict in report.verdict.cells}
    contracted = Contracted(
        name=opened.contract.contract,
        version=opened.contract.version,
        sha256=file_sha256(opened.path),
        terms=terms_of(opened.contract),
    )
    return Predicate(
        format=FORMAT,
        version=version(),
        run_id=facts["run_id"],
        made_at=facts["made_at"],
        attested_at=datetime.now(UTC).isoformat(timespec="seconds"),
        judged_on=today,
        contract=contracted,
        models=_models(facts["pins"]["models"], opened.folder),
        suites=facts["pins"]["suites"],
        engines=builds_of(facts["engines"], judged.cases, report.results, judged.store),
        versions=facts["versions"],
        host=facts["host"],
        cells=[_cell(case, verdicts[case.cell], columns) for case in judged.cases],
        unmeasured=[Unmeasured(cell=entry.cell, reason=entry.reason) for entry in judged.unmeasured],
        gates=gates_written(report.verdict),
        verdict=decided(report.verdict),
        seals={},
    )


def _models(pinned: Mapping[str, Any], folder: Path) -> dict[str, dict[str, Weights]]:
    """Hashes of the weights as they were measured; that what lies there still is them was looked at when they were judged."""
    return {
        model: {label: Weights(files=entry["files"], seen=(folder / entry["path"]).exists()) for label, entry in labels.items()}
        for model, labels in pinned.items()
    }


def _cell(case: Case, verdict: CellVerdict, columns: list[str]) -> CellStatement:
    cell = case.cell
    band = case.band.summary if case.band else None
    calculated = isinstance(case.band, CalculatedBand)
    return CellStatement(
        id=cell.id,
        **cell.axes,
        reference=cell.reference_name,
        engine=cell.candidate_name,
        band=Tolerance(calculated=calculated, **vars(band)) if band else None,
        bounds={name: Calculated(value=value_written(bound.value), basis=bound.basis) for name, bound in case.bounds.items()},
        own_errors={name: OwnError(value=value_written(own.value), run=own.run) for name, own in case.own_errors.items()},
        same_arithmetic=case.same_arithmetic,
        rows=[_row(row, case.band, columns) for row in case.rows],
        **judged_written(verdict, columns),
    )


def _row(row: Compared, band: object, columns: list[str]) -> Row:
    match, expected = [], []
    metrics = row.comparison.metrics if row.comparison else {}
    if row.comparison and isinstance(band, CalculatedBand):
        match = [entry.match for entry in band.along(row.token_ids, row.start, row.comparison.positions)]
        known = band.expected.get(tokens_sha256(row.token_ids), ())
        expected = list(known[row.start : row.start + row.comparison.positions])
    failure = row.failure
    return Row(
        suite=row.pair.suite,
        prompt_idx=row.pair.prompt_idx,
        prompt_id=row.pair.prompt.id,
        prompt_sha256=row.pair.prompt.sha256,
        bucket=row.pair.prompt.bucket,
        prompt_length=row.prompt_length,
        planned=row.planned,
        compared=row.comparison is not None,
        values={name: written(metrics[name]) for name in columns if name in metrics},
        whole={name: value_written(value) for name, value in row.whole.items()},
        match=written(match),
        expected=written(expected),
        failure=Fault(**vars(failure)) if failure else None,
    )
