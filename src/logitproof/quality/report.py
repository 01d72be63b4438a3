"""quality/report.md: summary statistics first, exactly the numbers that a release note quotes, then the worst prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.pages import write_pages
from logitproof.documents.section import Column, Line, Row, Section, Table, Text, Tone, Verdict
from logitproof.documents.wording import number
from logitproof.quality import section as part
from logitproof.quality.greedy import Continuation
from logitproof.quality.sections import Quality
from logitproof.report.report import Report, position_record

KIND = "quality"
COMMON = 160
"""Characters of a text that are quoted."""
TONES: dict[part.Met, Tone] = {"met": "good", "missed": "bad", "not measured": "unsure"}
SUMMARY = (
    Column("meets its bar"),
    Column("candidate"),
    Column("model"),
    Column("bar"),
    Column("greedy match@10", "number"),
    Column("greedy match@50", "number"),
    Column("mean KL (nats)", "number"),
    Column("total variation drawn", "number"),
)


def write(report: Report, qualities: Sequence[Quality], folder: Path) -> Path:
    """Write report.md, report.html and quality.json into `folder`; returns the page."""
    answer(report, qualities).write(folder / "quality.json")
    return write_pages(document(report, qualities), folder)


def answer(report: Report, qualities: Sequence[Quality]) -> Answer:
    """quality.json."""
    cells = [quality.as_json() for quality in qualities]
    data = {"contract": report.opened.contract.contract, "cells": cells, **report.facts}
    return Answer(KIND, report.opened.contract.contract, exit_code(report, qualities), data)


def exit_code(report: Report, qualities: Sequence[Quality]) -> int:
    """0 every candidate meets its bar · 1 one does not · 3 nothing was measured, or an engine failed."""
    if report.verdict.status == "ERROR" or not qualities:
        return 3
    return 0 if all(quality.meets_bar for quality in qualities) else 1


def document(report: Report, qualities: Sequence[Quality]) -> Document:
    """The numbers of a release note, what each section found, and in pages where texts part."""
    contract = report.opened.contract
    sections: list[Section] = [Text((Line(contract.about or f"Contract {contract.contract}."),), detail=True)]
    sections += [Table(SUMMARY, tuple(_summary(quality) for quality in qualities)), _legend(qualities)]
    for quality in qualities:
        sections += [_sections(quality), *_histogram(quality), *_horizon(quality), *_worst(report, quality)]
    return Document(f"Generation quality of {contract.contract}", verdict(report, qualities), tuple(sections))


def verdict(report: Report, qualities: Sequence[Quality]) -> Verdict:
    """How many meet their bar, and by which sections the first that does not falls short."""
    met = sum(quality.meets_bar for quality in qualities)
    low = next((quality for quality in qualities if not quality.meets_bar), None)
    reasons = [f"{section.name} {section.met}: {section.said}" for section in low.short] if low else []
    missed = f"; {_name(low)}: {'; '.join(reasons)}" if low else ""
    status = ("MET", "MISSED", "", "ERROR")[exit_code(report, qualities)]
    tone: Tone = {"MET": "good", "MISSED": "bad"}.get(status, "unsure")  # type: ignore[assignment]
    return Verdict(status, f"{met} of {len(qualities)} meet their bar{missed}", tone)


def _name(quality: Quality) -> str:
    return f"{quality.candidate} {quality.model} {quality.quantization}"


def _legend(qualities: Sequence[Quality]) -> Text:
    lines = [
        f"{bar.name} bar: greedy match@10 at least {bar.greedy10:.0%}, mean KL at most {bar.kl:g} nats, "
        f"total variation of what is drawn at most {bar.tv:g}, sampler not rejected at {bar.alpha:g}."
        for bar in {quality.bar.name: quality.bar for quality in qualities}.values()
    ]
    lines += [
        "Greedy match@n is the share of the first n free-running tokens that agree; once a prompt parts, nothing agrees. "
        "Where the reference's margin lies inside the tie margin, a prompt is compared up to there; strict counts it.",
        "KL is KL(reference‖candidate) where both were fed the same tokens.",
        "Intervals of 95 %: Wilson for shares, bootstrap over prompts for means.",
    ]
    return Text(tuple(Line(line, level=1) for line in lines), detail=True)


def _summary(quality: Quality) -> Row:
    greedy, forced, drawn = (quality.section(name).figures for name in ("greedy", "teacher forcing", "distribution"))
    cells = (
        "yes" if quality.meets_bar else f"no: {', '.join(_missing(quality))}",
        quality.candidate,
        f"{quality.model} {quality.quantization}",
        quality.bar.name,
        _share(greedy.get("match10")),
        _share(greedy.get("match50")),
        _mean(forced.get("kl_divergence")),
        _mean(drawn.get("tv")),
    )
    return Row(cells, "good" if quality.meets_bar else "bad")


def _missing(quality: Quality) -> list[str]:
    return [section.name + " not measured" * (section.met == "not measured") for section in quality.short]


def _share(rate: dict[str, Any] | None) -> str:
    return f"{rate['value']:.2%} ({rate['interval'][0]:.1%} – {rate['interval'][1]:.1%})" if rate else "–"


def _mean(figures: dict[str, Any] | None) -> str:
    if not figures:
        return "–"
    interval = figures.get("interval")
    return number(figures["mean"]) + (f" ({number(interval[0])} – {number(interval[1])})" if interval else "")


def _sections(quality: Quality) -> Table:
    columns = (Column(""), Column("section"), Column("what was found"))
    rows = tuple(Row((section.met, section.name, section.said), TONES[section.met]) for section in quality.sections)
    return Table(columns, rows, f"{quality.candidate} on {quality.model} {quality.quantization}")


def _histogram(quality: Quality) -> Iterator[Text]:
    figures = quality.section("greedy").figures.get("first_divergence")
    if figures:
        most = max(figures.values())
        bars = {label: "█" * math.ceil(24 * count / most) if most else "" for label, count in figures.items()}
        lines = tuple(Line(f"{label:>8} {bars[label]} {count}") for label, count in figures.items())
        yield Text(lines, "First token that differs, in prompts", verbatim=True, detail=True)


def _horizon(quality: Quality) -> Iterator[Table]:
    """Drift by position, with the cache boundaries in their place."""
    figures = quality.section("long horizon").figures
    if not figures.get("bins"):
        return
    steps = dict(figures["steps"])
    rows = []
    for low, high, mean, _ in figures["bins"]:
        marks = ", ".join(f"at {at}: ×{ratio:.3g}" for at, ratio in steps.items() if low <= at <= high)
        rows.append(Row((f"{low} – {high}", number(mean), marks or "–")))
    columns = (Column("positions"), Column("mean KL (nats)", "number"), Column("KL after over before a cache boundary"))
    yield Table(columns, tuple(rows), "Drift with the position", detail=True)


def _worst(report: Report, quality: Quality) -> Iterator[Text]:
    if quality.worst:
        lines = tuple(line for continuation in quality.worst for line in _parting(report, quality, continuation))
        yield Text(lines, "Worst prompts", detail=True)


def _parting(report: Report, quality: Quality, parted: Continuation) -> Iterator[Line]:
    """Both texts of a prompt and the best five tokens of both where they part."""
    model, at = quality.model, parted.shared
    shared = report.text(model, parted.reference[:at])
    yield Line(f"{parted.prompt} ({parted.bucket}): {at} tokens in common: {_quoted(shared[-COMMON:])}")
    for name, ids in (("reference", parted.reference), ("candidate", parted.candidate)):
        yield Line(f"{name}: {_quoted(report.text(model, ids[at:])[:COMMON]) if ids[at:] else 'ends here'}", level=1)
    for cell, rows in report.compared.items():
        axes = (cell.candidate, cell.model, cell.quantization, cell.mode)
        if axes == (quality.candidate, model, quality.quantization, "greedy"):
            row = next(row for row in rows if row.pair.prompt.id == parted.prompt)
            if row.comparison is not None and at < row.comparison.positions:
                record = position_record(row.comparison, at)
                for side in ("reference", "candidate"):
                    best = (f"{_quoted(report.text(model, [token]))} {logit:.3f}" for token, logit in record[f"top5_{side}"])
                    yield Line(f"{side}'s top 5: {', '.join(best)}", level=1)
    if parted.regret is not None:
        yield Line(f"margin {number(parted.margin)} logits, regret {number(parted.regret)} nats", level=1)


def _quoted(text: str) -> str:
    """A text whose spaces at both ends are seen; `words` of a layout would run them together."""
    return f"“{text.replace(' ', '␣') if text != text.strip() or '  ' in text else text}”"
