"""A divergence as a document, with the tool's own names and digits, and as a file."""

from __future__ import annotations

from typing import Any

from logitproof.divergence.measure import Divergence, Measured
from logitproof.divergence.picture import picture
from logitproof.divergence.statistics import Figure
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Section, Table, Text, Verdict, lines

KIND = "kl"
PERCENT = frozenset(("delta_p", "same_top", "correlation"))
"""Shares, and printed in percent, as the tool prints them."""
NAMES = {
    "ppl": "Mean PPL(Q)",
    "ppl_base": "Mean PPL(base)",
    "correlation": "Cor(ln(PPL(Q)), ln(PPL(base)))",
    "log_ppl_ratio": "Mean ln(PPL(Q)/PPL(base))",
    "ppl_ratio": "Mean PPL(Q)/PPL(base)",
    "ppl_difference": "Mean PPL(Q)-PPL(base)",
    "kl_mean": "Mean KLD",
    "kl_max": "Maximum KLD",
    "kl_median": "Median KLD",
    "kl_min": "Minimum KLD",
    "delta_p_mean": "Mean Δp",
    "delta_p_max": "Maximum Δp",
    "delta_p_median": "Median Δp",
    "delta_p_min": "Minimum Δp",
    "delta_p_rms": "RMS Δp",
    "same_top": "Same top p",
}
STATISTIC = (Column("statistic"), Column("value", "number"), Column("±", "number"), Column("95 % over windows", "number"))
SUMMARY = (
    Column("candidate"),
    Column("MB", "number"),
    Column("mean KLD", "number"),
    Column("95 % over windows", "number"),
    Column("99% KLD", "number"),
    Column("max KLD", "number"),
    Column("RMS Δp", "number"),
    Column("same top", "number"),
    Column("PPL(Q)/PPL(base)", "number"),
)


def document(divergence: Divergence) -> Document:
    """All candidates in one table, best first; of a single one every figure, of several these as details."""
    measured = sorted(
        (candidate for candidate in divergence.candidates if candidate.figures),
        key=lambda candidate: candidate.figures["kl_mean"].value,
    )
    sections: list[Section] = [Text(_about(divergence))]
    if measured:
        sections.append(Table(SUMMARY, tuple(_summary(candidate) for candidate in measured)))
    if len(measured) > 1:
        sections.append(picture(measured))
    sections += [_figures(candidate, detail=len(divergence.candidates) > 1) for candidate in measured]
    failed = [candidate for candidate in divergence.candidates if candidate.failure]
    if failed:
        reasons = tuple(line for candidate in failed for line in lines(f"{candidate.name}: {candidate.failure}", "bad"))
        sections.append(Text(reasons, "not measured"))
    return Document(f"KL divergence from {divergence.base}", verdict(divergence), tuple(sections))


def verdict(divergence: Divergence) -> Verdict:
    """The candidate nearest to the base; there is no pass, since nobody has said how near is near enough."""
    measured = [candidate for candidate in divergence.candidates if candidate.figures]
    if not measured:
        return Verdict("NOT-MEASURED", "no candidate gave rows that could be compared", "unsure")
    best = min(measured, key=lambda candidate: candidate.figures["kl_mean"].value)
    mean = best.figures["kl_mean"]
    failed = len(divergence.candidates) - len(measured)
    left = f"; {failed} of {len(divergence.candidates)} candidates failed" if failed else ""
    word = "nearest is " if len(measured) > 1 else ""
    return Verdict("MEASURED", f"{word}{best.name}: mean KLD {mean.value:.6f} ± {mean.error or 0:.6f} nats{left}")


def answer(divergence: Divergence, text: str) -> Answer:
    """The file of a divergence."""
    data: dict[str, Any] = {
        "base": divergence.base,
        "base_sha256": divergence.base_sha256,
        "text": text,
        "context": divergence.context,
        "windows": divergence.windows,
        "positions": divergence.positions,
        "vocabulary": divergence.vocabulary,
        "bos": divergence.bos,
        "candidates": [_record(candidate) for candidate in divergence.candidates],
    }
    return Answer(KIND, divergence.base, divergence.exit_code, data)


def label(name: str) -> str:
    """What the tool calls a statistic."""
    if name in NAMES:
        return NAMES[name]
    kind, _, share = name.rpartition("_p")
    return f"{float(share):.1f}% {'KLD' if kind == 'kl' else 'Δp'}"


def shown(name: str, value: float | None) -> str:
    """A number in the tool's digits: six, or three and two in percent."""
    if value is None:
        return ""
    if not name.startswith(tuple(PERCENT)):
        return f"{value:.6f}"
    return f"{100 * value:.{2 if name == 'correlation' else 3}f}%"


def _record(candidate: Measured) -> dict[str, Any]:
    statistics = {name: vars(figure) for name, figure in candidate.figures.items()}
    return {
        "name": candidate.name,
        "sha256": candidate.sha256,
        "bytes": candidate.bytes,
        "retokenized": candidate.retokenized,
        "failure": candidate.failure,
        "statistics": statistics,
    }


def _about(divergence: Divergence) -> tuple[Line, ...]:
    begin = "" if divergence.bos is None else f"; each begins with token {divergence.bos}, the BOS, in place of its first"
    about = [
        Line(
            f"{divergence.windows} windows of {divergence.context} tokens, the second half of each counts: "
            f"{divergence.positions} positions; vocabulary {divergence.vocabulary}{begin}"
        )
    ]
    about += [
        Line(f"{candidate.name} cuts the text into other tokens than {divergence.base}; it was scored on the base's", "unsure")
        for candidate in divergence.candidates
        if candidate.retokenized
    ]
    if divergence.windows == 1:
        about.append(Line("one window: no interval over windows", "unsure"))
    return tuple(about)


def _summary(candidate: Measured) -> Row:
    figures = candidate.figures
    mean, ratio, same = figures["kl_mean"], figures["ppl_ratio"], figures["same_top"]
    cells = (
        candidate.name,
        f"{candidate.bytes / 1e6:.1f}",
        f"{mean.value:.6f} ± {mean.error or 0:.6f}",
        _interval("kl_mean", mean),
        shown("kl_p99", figures["kl_p99"].value),
        shown("kl_max", figures["kl_max"].value),
        shown("delta_p_rms", figures["delta_p_rms"].value),
        shown("same_top", same.value),
        f"{ratio.value:.6f} ± {ratio.error or 0:.6f}",
    )
    return Row(cells)


def _figures(candidate: Measured, *, detail: bool) -> Table:
    rows = tuple(
        Row((label(name), shown(name, figure.value), shown(name, figure.error), _interval(name, figure)))
        for name, figure in candidate.figures.items()
    )
    return Table(STATISTIC, rows, candidate.name, detail=detail)


def _interval(name: str, figure: Figure) -> str:
    return " to ".join(shown(name, end) for end in figure.interval) if figure.interval else ""
