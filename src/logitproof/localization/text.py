"""A localization as a document and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from logitproof.documents import html
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Section, Table, Text, Tone, Verdict
from logitproof.files.atomic import write_atomically
from logitproof.localization import localize
from logitproof.localization.compounding import Compounding
from logitproof.localization.located import Located, Locations
from logitproof.localization.picture import compounded, inside, picture
from logitproof.protocol import taps

SHOWN = 12
"""Wrong operations that a terminal shows."""
KIND = "localize"
TONES: dict[localize.Verdict, Tone] = {
    "located": "bad", "only accumulated": "bad", "same": "good", "nothing compared": "unsure"
}  # fmt: skip
WRONG = (
    Column("operation", "code"),
    Column("own error", "number"),
    Column("expected", "number"),
    Column("accumulated", "number"),
    Column("what it looks like"),
)


def document(locations: Locations, name: str = "") -> Document:
    """Which operation is the first that is wrong, every one that is, and what in it was wrong; `name` is the cell's."""
    start = locations.generated_from
    sections = [section for candidate in locations.located for section in _sections(candidate, start)]
    stages = [_stages(locations)] if locations.stages else []
    cell = f" in {name}" if name else ""
    title = f"Where it starts{cell}: against {locations.reference}, {len(locations.token_ids)} tokens, {locations.mode}"
    return Document(title, verdict(locations), (*sections, *_last(locations), *stages), next_command(locations))


def page(noun: Locations | Located | localize.Localization) -> Document:
    """What a notebook shows of all candidates, of one, or of taps that were compared by hand."""
    if isinstance(noun, Locations):
        return document(noun)
    candidate = noun if isinstance(noun, Located) else Located("the candidate", noun.precision, noun)
    return Document(
        f"Where {candidate.name} goes wrong", _verdict_of(candidate), tuple(_sections(candidate)), _record_of(candidate)
    )


def of_cells(cells: Mapping[str, Locations]) -> Document:
    """Every cell that was looked into, in one document; the worst decides."""
    pages = {name: document(locations, name) for name, locations in cells.items()}
    order: list[Tone] = ["bad", "unsure", "good"]
    worst = min(pages.values(), key=lambda page: order.index(page.verdict.tone) if page.verdict.tone in order else len(order))
    sections: list[Section] = []
    for page in pages.values():
        sections += [Text((Line(page.title), Line(page.verdict.reason, page.verdict.tone))), *page.sections]
    return Document(f"Where {len(pages)} cells go wrong", worst.verdict, tuple(sections), worst.next_command)


def answer(locations: Locations, name: str = "") -> Answer:
    """localization.json."""
    about = name or " ".join([locations.reference, *(candidate.name for candidate in locations.located)])
    return Answer(KIND, about, locations.exit_code, locations.as_json())


def write(locations: Locations, folder: Path, name: str = "") -> None:
    """localization.json, and localization.html with the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    answer(locations, name).write(folder / "localization.json")
    write_atomically(folder / "localization.html", html.whole(document(locations, name)))


def verdict(locations: Locations) -> Verdict:
    """The first wrong candidate decides; if none is wrong, a candidate of which nothing is known does."""
    worst = min(locations.located, key=lambda candidate: list(TONES).index(candidate.localization.verdict), default=None)
    if worst is None:
        return Verdict("NOT MEASURED", "no candidate was looked into", "unsure")
    return _verdict_of(worst)


def _verdict_of(candidate: Located) -> Verdict:
    tone = TONES[candidate.localization.verdict]
    return Verdict({"bad": "WRONG", "unsure": "NOT MEASURED"}.get(tone, "SAME"), sentence(candidate), tone)


def sentence(candidate: Located) -> str:
    """The answer for one candidate."""
    where = candidate.localization
    if where.verdict == "located":
        return f"{candidate.name}: first wrong at {where.first}"
    if where.verdict == "only accumulated":
        return f"{candidate.name}: differs from {where.first} on, of what could only be compared accumulated"
    if where.verdict == "same":
        return f"{candidate.name}: every operation is the reference's, as {candidate.precision} computes it"
    return f"{candidate.name}: nothing could be compared"


def next_command(locations: Locations) -> str:
    """The record of the bug that explains it, which names the remedy."""
    return next((command for candidate in locations.located if (command := _record_of(candidate))), "")


def _record_of(candidate: Located) -> str:
    return f"logitproof mutations show {candidate.explained[0].mutation}" if candidate.explained else ""


def _sections(candidate: Located, start: int | None = None) -> Iterator[Section]:
    where = candidate.localization
    rows = {row.tap: row for row in where.rows}
    broken = [_wrong(rows[tap], candidate) for tap in where.broken]
    yield Text((Line(sentence(candidate), TONES[where.verdict]),), candidate.name)
    if broken:
        yield Table(WRONG, tuple(broken[:SHOWN]), "Wrong operations")
        cleared = sorted({taps.split(row.tap)[1] for row in where.rows if row.status in ("same", "carried")})
        guilty = {taps.split(tap)[1] for tap in where.broken}
        more = [Line(f"… and {len(broken) - SHOWN} more, all of them in localization.json")] if broken[SHOWN:] else []
        clear = Line(f"cleared on its own input: {', '.join(leaf for leaf in cleared if leaf not in guilty)}", "quiet")
        remedies = dict.fromkeys(bug.remedy for bug in candidate.explained)
        yield Text((*more, clear, *(Line(f"remedy: {remedy}") for remedy in remedies)))
    if broken[SHOWN:]:
        yield Table(WRONG, tuple(broken[SHOWN:]), "Further wrong operations", detail=True)
    if where.rows:
        yield picture(candidate)
    if any(row.axes for row in where.rows):
        yield inside(candidate)
    if candidate.patched:
        yield _patched(candidate)
    if where.growth:
        yield _growth(where.growth)
    if where.verdict in ("located", "only accumulated") and where.compounding:
        yield Text(tuple(_by_token(where.compounding[-1], start)))
        yield compounded(candidate, start)


def _patched(candidate: Located) -> Table:
    """What became of the logits of one side with activations of the other."""
    columns = (
        Column("put in", "code"), Column("into"), Column("logits apart", "number"), Column("then", "number"), Column("so"),
    )  # fmt: skip
    tones: dict[str, Tone] = {"all": "bad", "part": "unsure"}
    rows = tuple(
        Row(
            (patch.what, patch.into, f"{patch.before:.2g}", f"{patch.after:.2g}", patch.text),
            tones.get(patch.came, "plain"),
        )
        for patch in candidate.patched
    )
    return Table(columns, rows, "Activations of one side put into the other")


def _by_token(last: Compounding, start: int | None) -> Iterator[Line]:
    """How the error of the last boundary goes on from token to token, over the prompt and over what was generated."""
    errors = last.errors
    yield Line(f"error per token at {last.tap}: {_course(errors, 0)}")
    if start is not None and 0 < start < len(errors):
        growth = last.growth(start)
        factor = f", × {growth:.3g} a token" if growth is not None else ""
        yield Line(f"over the {len(errors) - start} generated tokens: {_course(errors[start:], start)}{factor}", level=1)


def _course(errors: Sequence[float], start: int) -> str:
    worst = max(range(len(errors)), key=lambda number: errors[number])
    places = dict.fromkeys((0, worst, len(errors) - 1))
    return ", ".join(f"{errors[number]:.2g} at position {start + number}" for number in places)


def _wrong(row: localize.Row, candidate: Located) -> Row:
    """One wrong operation, and below it the bugs that make its tensor or, where none does, those that come nearest."""
    is_reshaped = row.isolated is None and not math.isfinite(row.accumulated)
    own = "not known" if row.isolated is None else f"{row.isolated:.2g}"
    looks = "another shape" if is_reshaped else f"{row.ratio:.3g} × what {candidate.precision} explains"
    known = [bug for bug in candidate.explained if bug.tap == row.tap]
    notes = [Line(f"known bug: {bug} (residual {bug.residual:.1e})") for bug in known]
    tried = [bug for bug in candidate.hypotheses if bug.tap == row.tap]
    if tried and not any(bug.explains for bug in tried):
        near = "; ".join(f"{bug} {bug.residual:.2g}" for bug in tried[:3])
        notes.append(Line(f"none of {len(tried)} known bugs of it explains it; nearest: {near}"))
    if places := [axis.text for axis in row.axes if axis.text]:
        notes.insert(0, Line(f"where: {'; '.join(places)}"))
    shown = "; ".join(part for part in (looks, row.suspicion) if part)
    return Row((row.tap, own, f"{row.expected:.1g}", f"{row.accumulated:.2g}", shown), "bad", tuple(notes))


def _growth(growth: Sequence[localize.Growth]) -> Table:
    titles = ("std, reference", "std, candidate", "rms, reference", "rms, candidate")
    columns = (Column("after", "code"), *(Column(title, "number") for title in titles))
    rows = tuple(
        Row((row.tap, *(f"{value:.4g}" for pair in zip(row.reference, row.candidate, strict=True) for value in pair)))
        for row in growth
    )
    return Table(columns, rows, "The residual stream, layer by layer", detail=True)


def _last(locations: Locations) -> Iterator[Text]:
    lines = [Line(f"note: {note}") for note in locations.notes]
    if (stage := locations.first_stage) is not None:
        who = f"{stage.odd} stands apart" if stage.odd else "no two agree"
        apart = f"{who} by {stage.apart:.2g}, the others by {stage.together:.1e}"
        lines.append(Line(f"first disagreement of all: {stage.tap}: {apart}"))
    if lines:
        yield Text(tuple(lines))


def _stages(locations: Locations) -> Table:
    columns = (Column("operation", "code"), Column("who stands apart"), Column("by", "number"), Column("the others", "number"))
    rows = []
    for stage in locations.stages:
        nobody = "nobody: no two agree" if stage.disagree else "nobody: all agree"
        tone: Tone = "bad" if stage.disagree else "plain"
        rows.append(Row((stage.tap, stage.odd or nobody, f"{stage.apart:.2g}", f"{stage.together:.2g}"), tone))
    return Table(columns, tuple(rows), "All sources, stage by stage", detail=True)
