"""The history as documents and as answers: the trend of every gate, what changed, and a bisection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Chart, Column, Line, Row, Section, Series, Table, Text, Tone, Verdict
from logitproof.documents.wording import number
from logitproof.runs.bisect import Bisected
from logitproof.runs.recorded import Change, Recorded, changes

TONES: dict[str, Tone] = {"PASS": "good", "FAIL": "bad", "ERROR": "unsure"}
STEPS: dict[str, Tone] = {"good": "good", "bad": "bad", "skip": "unsure"}


def trend(runs: Sequence[Recorded], contract: str) -> Document:
    """Runs, newest first, and each gate over them, oldest first."""
    if not runs:
        nothing = Verdict("NOTHING", f"no run{f' of {contract}' if contract else ''} is recorded", "unsure")
        return Document(f"History{f' of {contract}' if contract else ''}", nothing, (), "logitproof check CONTRACT")
    columns = (
        Column("status"),
        Column("run", "code"),
        Column("contract"),
        Column("made at"),
        Column("commit", "code"),
        Column("why"),
    )
    rows = tuple(
        Row(
            (run.status, run.run_id, f"{run.contract} {run.contract_version}", run.made_at, run.commit[:13], _line(run)),
            TONES[run.status],
        )
        for run in runs
    )
    sections: list[Section] = [Table(columns, rows, "Runs")]
    sections += [_gates(runs)] if contract else []
    sections += list(charts(runs)) if contract else []
    last = runs[0]
    green = next((run for run in runs[1:] if run.status == "PASS"), None)
    following = f"logitproof history compare {green.run_id} {last.run_id}" if green and last.status != "PASS" else ""
    reason = f"{last.contract}, {last.made_at}{f': {_line(last)}' if _line(last) else ''}; {len(runs)} runs"
    return Document(
        f"History{f' of {contract}' if contract else ''}",
        Verdict(last.status, reason, TONES[last.status]),
        tuple(sections),
        following,
    )


def _gates(runs: Sequence[Recorded]) -> Table:
    """What each gate observed, the latest beside the one before and the range of all."""
    names = dict.fromkeys(name for run in runs for name in run.gates)
    numbers = ("latest", "before", "least", "most", "bound")
    columns = (Column("status"), Column("gate"), *(Column(name, "number") for name in numbers), Column("runs", "number"))
    rows = []
    for name in names:
        seen = [run.gates[name] for run in runs if name in run.gates]
        values = [gate["observed"] for gate in seen if gate["observed"] is not None]
        before = seen[1]["observed"] if len(seen) > 1 else None
        figures = (seen[0]["observed"], before, min(values, default=None), max(values, default=None), seen[0]["bound"])
        tone: Tone = "quiet" if seen[0]["control"] else TONES.get(seen[0]["status"], "unsure")
        rows.append(Row((seen[0]["status"], name, *map(number, figures), str(len(seen))), tone))
    return Table(columns, tuple(rows), "Gates")


def charts(runs: Sequence[Recorded]) -> list[Chart]:
    """Each gate over time, oldest first, with its bound."""
    made = []
    for name in dict.fromkeys(name for run in runs for name in run.gates):
        seen = [(at, run.gates[name]) for at, run in enumerate(reversed(runs)) if name in run.gates]
        observed = tuple((float(at), gate["observed"]) for at, gate in seen if gate["observed"] is not None)
        bound = tuple((float(at), gate["bound"]) for at, gate in seen if gate["bound"] is not None)
        if not observed:
            continue
        limit = number(bound[-1][1] if bound else None)
        alt = f"{name}: {observed[-1][1]:.4g} in the latest of {len(seen)} runs; the bound is {limit}."
        metric = seen[-1][1]["metric"]
        positive = all(value > 0 for _, value in (*observed, *bound))
        series = (Series("observed", observed), Series("bound", bound))
        made.append(Chart("lines", series, "run, oldest first", metric, alt, name, logarithmic=positive, detail=True))
    return made


def compared(before: Recorded, after: Recorded) -> Document:
    """What changed from one run to another."""
    differences = changes(before, after)
    tone: Tone = "good" if not differences else TONES[after.status]
    reason = (
        f"{before.status} then {after.status}; {len(differences)} things changed"
        if differences
        else "nothing that was recorded changed"
    )
    status = "SAME" if not differences else "CHANGED"
    days = _days(before.made_at, after.made_at)
    top = Text((Line(f"before: {before.run_id}, {before.made_at}"), Line(f"after: {after.run_id}, {after.made_at}{days}")))
    columns = (Column("what"), Column("name"), Column("before"), Column("after"))
    table = Table(
        columns,
        tuple(Row((change.what, change.name, change.before or "–", change.after or "–")) for change in differences),
        "What changed",
    )
    title = f"{before.contract}: two runs" if before.contract == after.contract else f"{before.contract} and {after.contract}"
    return Document(title, Verdict(status, reason, tone), (top, table) if differences else (top,))


def bisected(bisection: Bisected, contract: str) -> Document:
    """The first bad commit, and every commit that was tried."""
    columns = (Column("", "text"), Column("commit", "code"), Column("subject"), Column("why"))
    rows = tuple(
        Row((tried.step, tried.commit[:12], tried.subject, tried.reason), STEPS[tried.step]) for tried in bisection.tried
    )
    if bisection.first:
        verdict = Verdict("FOUND", f"{bisection.first[:12]} is the first bad commit: {bisection.subject}", "bad")
    else:
        verdict = Verdict(
            "NOT FOUND", "commits that could not be tried stand between the last good and the first bad one", "unsure"
        )
    following = f"git show {bisection.first[:12]}" if bisection.first else ""
    return Document(f"Which commit breaks {contract}", verdict, (Table(columns, rows, "Commits"),), following)


def settings_bisected(bisection: Bisected, contract: str, candidate: str) -> Document:
    """The first setting at which a contract fails, and every one that was tried."""
    columns = (Column("", "text"), Column("with"), Column("what is new"), Column("why"))
    rows = tuple(Row((tried.step, tried.commit, tried.subject, tried.reason), STEPS[tried.step]) for tried in bisection.tried)
    if bisection.first:
        verdict = Verdict("FOUND", f"{bisection.subject} breaks it: {bisection.first} is the first that is bad", "bad")
    else:
        text = "settings that could not be tried stand between the last good and the first bad one"
        verdict = Verdict("NOT FOUND", text, "unsure")
    return Document(f"Which setting of {candidate} breaks {contract}", verdict, (Table(columns, rows, "Settings"),))


def answer_settings(bisection: Bisected, contract: str) -> Answer:
    """The bisection of settings for machines."""
    return Answer("bisect", contract, 0 if bisection.first else 3, vars(bisection))


def answer_runs(runs: Sequence[Recorded], contract: str) -> Answer:
    """The runs for machines."""
    return Answer("history", contract or "every contract", 0, {"runs": list(runs)})


def answer_changes(before: Recorded, after: Recorded, differences: Sequence[Change]) -> Answer:
    """What changed, for machines."""
    data = {"before": before.run_id, "after": after.run_id, "changes": list(differences)}
    return Answer("history-compare", f"{before.run_id} {after.run_id}", 1 if differences else 0, data)


def answer_bisected(bisection: Bisected, contract: str) -> Answer:
    """The bisection for machines."""
    return Answer("history-bisect", contract, 0 if bisection.first else 3, vars(bisection))


def _line(run: Recorded) -> str:
    return next(iter(run.reason.splitlines()), "")


def _days(before: str, after: str) -> str:
    try:
        apart = datetime.fromisoformat(after) - datetime.fromisoformat(before)
    except ValueError:
        return ""
    return f", {apart.days} days later" if apart.days > 0 else ""
