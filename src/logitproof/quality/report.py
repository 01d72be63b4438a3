"""quality/report.md: summary statistics first, exactly the numbers that a release note quotes, then the worst prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from logitproof.documents.wording import code, encodable, number, paragraph, words
from logitproof.files.atomic import write_atomically
from logitproof.quality.greedy import Continuation
from logitproof.quality.section import Section
from logitproof.quality.sections import Quality
from logitproof.report.report import Report, position_record

COMMON = 160


def write(report: Report, found: Sequence[Quality], folder: Path) -> Path:
    """Write report.md and quality.json into `folder`; returns the former."""
    data = {"contract": report.opened.contract.contract, "cells": [one.as_json() for one in found], **report.facts}
    write_atomically(folder / "quality.json", json.dumps(_finite(data), indent=1) + "\n")
    path = folder / "report.md"
    write_atomically(path, encodable("\n".join(_lines(report, found))) + "\n")
    return path


def _lines(report: Report, found: Sequence[Quality]) -> Iterator[str]:
    met = sum(one.meets_bar for one in found)
    yield f"# Generation quality: {met} of {len(found)} meet their bar"
    yield ""
    yield paragraph(report.opened.contract.about or f"Contract {report.opened.contract.contract}.")
    yield ""
    yield "| candidate | model | bar | greedy match@10 | greedy match@50 | mean KL (nats) | total variation drawn | meets it |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in found:
        yield "| " + " | ".join(_summary(one)) + " |"
    yield ""
    yield from _legend(found)
    for one in found:
        yield f"## {words(one.candidate)} on {words(one.model)} {words(one.quantization)}"
        yield ""
        yield "| section | | what was found |"
        yield "|---|---|---|"
        for section in one.sections:
            yield f"| {section.name} | {_mark(section)} | {words(section.said)} |"
        yield ""
        yield from _histogram(one)
        yield from _horizon(one)
        yield from _worst(report, one)


def _legend(found: Sequence[Quality]) -> Iterator[str]:
    for bar in {one.bar.name: one.bar for one in found}.values():
        yield (
            f"- {bar.name} bar: greedy match@10 at least {bar.greedy10:.0%}, mean KL at most {bar.kl:g} nats, "
            f"total variation of what is drawn at most {bar.tv:g}, sampler not rejected at {bar.alpha:g}."
        )
    yield "- Greedy match@n is the share of the first n free-running tokens that agree; once a prompt parts, nothing agrees."
    yield "  Where the reference's margin lies inside the tie margin, a prompt is compared up to there; *strict* counts it."
    yield "- KL is KL(reference‖candidate) where both were fed the same tokens."
    yield "- Intervals of 95 %: Wilson for shares, bootstrap over prompts for means."
    yield ""


def _summary(one: Quality) -> list[str]:
    greedy, forced, drawn = (one.section(name).figures for name in ("greedy", "teacher forcing", "distribution"))
    return [
        words(one.candidate),
        f"{words(one.model)} {words(one.quantization)}",
        one.bar.name,
        _share(greedy.get("match10")),
        _share(greedy.get("match50")),
        _mean(forced.get("kl_divergence")),
        _mean(drawn.get("tv")),
        "**yes**" if one.meets_bar else "**no**: " + ", ".join(_missing(one)),
    ]


def _missing(one: Quality) -> list[str]:
    missed = [section.name for section in one.sections if section.met == "missed"]
    return missed or [section.name + " not measured" for section in one.sections if section.met == "not measured"]


def _share(rate: dict[str, Any] | None) -> str:
    return f"{rate['value']:.2%} ({rate['interval'][0]:.1%} – {rate['interval'][1]:.1%})" if rate else "–"


def _mean(figures: dict[str, Any] | None) -> str:
    if not figures:
        return "–"
    interval = figures.get("interval")
    return number(figures["mean"]) + (f" ({number(interval[0])} – {number(interval[1])})" if interval else "")


def _mark(section: Section) -> str:
    return {"met": "✔", "missed": "✘", "not measured": "?"}[section.met]


def _histogram(one: Quality) -> Iterator[str]:
    found = one.section("greedy").figures.get("first_divergence")
    if found:
        yield "First token that differs, in prompts:"
        yield ""
        most = max(found.values())
        yield from (
            f"    {label:>8} {'█' * math.ceil(24 * count / most) if most else ''} {count}" for label, count in found.items()
        )
        yield ""


def _horizon(one: Quality) -> Iterator[str]:
    """Drift by position, with the cache boundaries in their place."""
    figures = one.section("long horizon").figures
    if not figures.get("bins"):
        return
    steps = dict(figures["steps"])
    yield "| positions | mean KL (nats) | KL after over before a cache boundary |"
    yield "|---|---|---|"
    for low, high, mean, _ in figures["bins"]:
        marks = ", ".join(f"at {at}: ×{ratio:.3g}" for at, ratio in steps.items() if low <= at <= high)
        yield f"| {low} – {high} | {number(mean)} | {marks or '–'} |"
    yield ""


def _worst(report: Report, one: Quality) -> Iterator[str]:
    if not one.worst:
        return
    yield "### Worst prompts"
    yield ""
    for continuation in one.worst:
        yield from _parting(report, one, continuation)


def _parting(report: Report, one: Quality, parted: Continuation) -> Iterator[str]:
    """Both texts of a prompt and the best five tokens of both where they part."""
    model, at = one.model, parted.shared
    shared = report.text(model, parted.reference[:at])
    yield f"**{words(parted.prompt)}** ({words(parted.bucket)}): {at} tokens in common {code(shared[-COMMON:])}"
    yield ""
    for name, ids in (("reference", parted.reference), ("candidate", parted.candidate)):
        yield f"- {name}: {code(report.text(model, ids[at:])[:COMMON]) if ids[at:] else 'ends here'}"
    for cell, rows in report.compared.items():
        if (cell.candidate, cell.model, cell.quantization, cell.mode) == (one.candidate, model, one.quantization, "greedy"):
            row = next(row for row in rows if row.pair.prompt.id == parted.prompt)
            if row.comparison is not None and at < row.comparison.positions:
                record = position_record(row.comparison, at)
                for side in ("reference", "candidate"):
                    top = ", ".join(
                        f"{code(report.text(model, [token]))} {logit:.3f}" for token, logit in record[f"top5_{side}"]
                    )
                    yield f"- {side}'s top 5: {top}"
    if parted.regret is not None:
        yield f"- margin {number(parted.margin)} logits, regret {number(parted.regret)} nats"
    yield ""


def _finite(value: Any) -> Any:
    """Plain JSON: tuples are lists, what is not finite is null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
