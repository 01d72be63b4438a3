"""What an engine's build is: its own words, and the hashes of the files that its processes executed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from logitproof.attestation.statement import Build
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.hashes import file_sha256, file_state
from logitproof.jobs.executed import KIND
from logitproof.jobs.specs import reference_name
from logitproof.traces.store import TraceStore
from logitproof.traces.trace import Trace
from logitproof.verdict.case import Case
from logitproof.verdict.compared import Results

AGAIN = "run `logitproof check` again, then attest what it measured"


def builds_of(
    engines: Mapping[str, Mapping[str, Any]], cases: Sequence[Case], results: Results, store: TraceStore
) -> dict[str, Build]:
    """The build of every engine of a run that gave traces, by its name in the contract.

    Raises ContractError where a file that it executed is there and is another now.
    """
    traces = _traces_of(cases, results)
    return {name: _build(name, engines[name], traces[name], store) for name in engines if traces.get(name)}


def _traces_of(cases: Sequence[Case], results: Results) -> dict[str, list[Trace]]:
    """Whose traces were compared; the first reference continued all prompts."""
    by_engine: dict[str, dict[str, Trace]] = {}
    for case in cases:
        cell = case.cell
        own = cell.mode == "self" or cell.is_between
        for row in case.rows:
            sides = {
                reference_name(""): row.pair.source,
                cell.candidate if own else reference_name(cell.against): row.pair.reference,
            }
            for name, key in [*sides.items(), (cell.candidate, row.pair.candidate)]:
                if isinstance(trace := results.get(key), Trace):
                    by_engine.setdefault(name, {})[key] = trace
    return {name: list(traces.values()) for name, traces in by_engine.items()}


def _build(name: str, record: Mapping[str, Any], traces: Iterable[Trace], store: TraceStore) -> Build:
    files: set[str] = set()
    unknown: dict[str, None] = {}
    for executed in {trace.executed: trace for trace in traces}.values():
        if not executed.executed:
            unknown[executed.unseen or "it was measured by a version that did not look at what an engine executes"] = None
            continue
        for path, entry in store.note(KIND, executed.executed).items():
            sha256, why = _hashed(name, Path(path), *entry)
            if why:
                unknown[why] = None
            else:
                files.add(f"{sha256}  {Path(path).name}")
    return Build(
        engine=record["engine"],
        options=record["options"],
        versions=record.get("versions", {}),
        isa=record.get("isa", {}),
        files=sorted(files),
        unknown="; ".join(unknown),
    )


def _hashed(name: str, path: Path, state: str, sha256: str) -> tuple[str, str]:
    """The hash of a file that an engine executed, or why there is none."""
    try:
        now = ":".join(map(str, file_state(path)))
        if now == state:
            return sha256 or file_sha256(path), ""
        if sha256 and sha256 == file_sha256(path):
            return sha256, ""
    except (OSError, EnvironmentFailed):
        return (sha256, "") if sha256 else ("", f"{path.name}, which was not hashed when it ran, is not here")
    raise ContractError(f"has changed since the engine {name} executed it", where=str(path), remedy=AGAIN)
