"""The smaller questions of quality as documents: samplers, tokenizers, multiple choice, suites."""

from __future__ import annotations

from collections.abc import Sequence

from logitproof.documents.document import Document
from logitproof.documents.section import Column, Line, Row, Table, Text, Verdict
from logitproof.quality.accuracy import Answers, Paired
from logitproof.quality.chat_template import Rendered
from logitproof.quality.picker import Picked
from logitproof.quality.synchronized import Synchronized
from logitproof.quality.tokenizers import Difference, Found
from logitproof.quality.two_sample import TwoSample

SHOWN = 12
"""Differences that a terminal shows."""
WRONG = 3


def of_samples(about: str, test: TwoSample, alpha: float, power: float, replay: Synchronized | str) -> Document:
    """Whether completions differ, how well such a difference would be seen, and what the seeded sampler did."""
    wrong = () if isinstance(replay, str) else replay.faults
    differs = test.differs(alpha)
    tested = f"{'different' if differs else 'not different'}: MMD² {test.mmd:.4g}, p = {test.p_value:.3g} (alpha {alpha:g})"
    seeded = (
        f"not measured, {replay}"
        if isinstance(replay, str)
        else f"{replay.equal} of {replay.draws} tokens foretold, {replay.ties} ties, {len(wrong)} wrong"
    )
    lines = [
        Line(tested, "bad" if differs else "plain"),
        Line(f"{test.completions} completions of {test.prompts} prompts, {test.permutations} permutations"),
        Line(f"power: {power:.0%} of 5 trials against a repetition penalty of 1.1 are seen with this many completions"),
        Line(f"seeded sampler: {seeded}", "bad" if wrong else "plain"),
    ]
    faults = [f"{fault.prompt}: token {fault.position} is {fault.drawn}, its noise gives {fault.expected}" for fault in wrong]
    lines += [Line(fault, "bad", 1) for fault in faults[:WRONG]]
    reason = f"seeded sampler: {seeded}" if wrong and not differs else tested
    bad = bool(differs or wrong)
    verdict = Verdict("DIFFERENT" if bad else "NOT DIFFERENT", reason, "bad" if bad else "good")
    return Document(f"Do they sample from one distribution? {about}", verdict, (Text(tuple(lines)),))


def of_tokenizers(about: str, result: Found, rendered: Sequence[Rendered]) -> Document:
    """Texts that are cut differently, each by its smallest part, and chat templates."""
    lines = [Line(_cut(difference), "bad") for difference in result.differences]
    causes = [
        Line(
            f"{cause.text}: {cause.smallest!r} is {list(cause.reference)} for the reference, {list(cause.candidate)} here",
            "bad",
        )
        for cause in result.causes
    ]
    counts = [Line(f"{cause.texts} of the texts show it", "plain", 1) for cause in result.causes]
    findings = tuple(line for pair in zip(causes, counts, strict=True) for line in pair)
    trips = [Line(f"note: {trip.side}, {trip.name}: {trip.text!r} comes back as {trip.back!r}") for trip in result.trips]
    more = [Line(f"… and {len(lines) - SHOWN} more")] if lines[SHOWN:] else []
    templates = [Line(_template(text), "bad") for text in rendered]
    shown = (*lines[:SHOWN], *more, *trips[:SHOWN], *templates)
    reason = (
        f"{result.tried} texts: {len(result.differences)} are cut differently by {len(result.causes)} causes, "
        f"{len(result.trips)} do not come back; "
        f"chat template: {'differs' if rendered else 'the same'}"
    )
    differs = bool(result.differences or rendered)
    verdict = Verdict("DIFFERENT" if differs else "SAME", reason, "bad" if differs else "good")
    rest = (*lines[SHOWN:], *trips[SHOWN:])
    first = (Text(findings, "What they do differently"),) if findings else ()
    sections = (*first, Text(shown, "Texts"), *((Text(rest, "All others", detail=True),) if rest else ()))
    return Document(f"Two tokenizers: {about}", verdict, sections if shown else ())


def of_answers(names: Sequence[str], by_engine: Sequence[Answers], pairing: Paired | None) -> Document:
    """Accuracy of one engine, or of two on the same questions and whether they answer equally well."""
    columns = (Column("engine", "code"), Column("accuracy"))
    rows = tuple(Row((name, str(answers.accuracy))) for name, answers in zip(names, by_engine, strict=True))
    if pairing is None:
        return Document("Multiple choice", Verdict("MEASURED", f"accuracy {by_engine[0].accuracy}"), (Table(columns, rows),))
    low, high = pairing.interval
    paired = f"{pairing.flips} answers flip, {pairing.lost} lost, {pairing.won} won; McNemar p = {pairing.p_value:.3g}"
    difference = Text((Line(f"difference of accuracy {pairing.difference:+.2%} (95 % {low:+.2%} to {high:+.2%})"),))
    differs = pairing.p_value <= 0.05
    verdict = Verdict("DIFFERENT" if differs else "NOT DIFFERENT", paired, "bad" if differs else "good")
    return Document("Multiple choice", verdict, (Table(columns, rows), difference))


def of_picked(picked: Picked, out: str, sha256: str) -> Document:
    """How many prompts hung on a tie, and what became of them."""
    reason = (
        f"{len(picked.hanging)} of {len(picked.suite.prompts)} prompts hang on a tie: {len(picked.replaced)} replaced, "
        f"{len(picked.left)} stay; {picked.tried} reserves tried"
    )
    lines = tuple(Line(str(prompt), "bad" if prompt.reserve is None else "plain") for prompt in picked.hanging)
    verdict = Verdict("HANGS" if picked.left else "FREE OF TIES", reason, "bad" if picked.left else "good")
    file = Text((Line(f"{out}: sha256 {sha256}"),))
    return Document(f"A suite without ties: {out}", verdict, (*((Text(lines),) if lines else ()), file))


def _cut(text: Difference) -> str:
    return f"{text.name}: {text.smallest!r} is {list(text.reference)} for the reference, {list(text.candidate)} here"


def _template(text: Rendered) -> str:
    at, end = text.first, text.first + 60
    return (
        f"chat template, {text.name}: from character {at} on {text.reference[at:end]!r} for the reference, "
        f"{text.candidate[at:end]!r} here"
    )
