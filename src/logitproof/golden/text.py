"""A frozen golden as a document and as JSON."""

from __future__ import annotations

from typing import Any

from logitproof.comparison.text import KL, NO_VERDICT, far, metrics_table
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Verdict
from logitproof.golden.freeze import Frozen
from logitproof.golden.pairing import lacking

KIND = "freeze"


def document(frozen: Frozen) -> Document:
    """What was written, how exact it is, and which prompts hang on a tie."""
    header, error = frozen.header, frozen.header.error
    if header.form == "full":
        exact = f"measured KL error {error['kl_max']:.3g} nats a token at most, RMS {error['rms_max']:.3g} logits"
    else:
        exact = (
            f"KL is given as bounds; for an equal engine they are {error['kl_lower_max']:.3g} and "
            f"{error['kl_upper_mean']:.3g} nats (mean; at most {error['kl_upper_max']:.3g})"
        )
    lines = [Line(exact), Line(f"threads: {header.determinism['said']}")]
    if header.uncertain:
        names = ", ".join(
            f"{near_tie['prompt']} ({near_tie['margin']:.3g} at {near_tie['position']})" for near_tie in header.uncertain[:8]
        )
        tie = f"margins below {header.margin_floor:.3g} logits, a tie may flip: {names}; replace these prompts"
        lines.append(Line(tie, "unsure"))
    lines.append(Line(f"use it in a contract: reference: {{engine: golden}} with the model {frozen.path}"))
    reason = (
        f"{frozen.path}: {header.form} golden, {len(header.prompts)} prompts, {frozen.positions} positions, "
        f"{frozen.bytes_per_token:.1f} bytes a token"
    )
    return Document(
        f"Golden {frozen.path}", Verdict("FROZEN", reason), (Text(tuple(lines)),), f"logitproof compare {frozen.path} DUMP"
    )


def answer(frozen: Frozen) -> Answer:
    """The size and all that the file says of itself."""
    data = {"path": str(frozen.path), "size": frozen.size, "positions": frozen.positions}
    header = frozen.header
    facts = {"form": header.form, "error": header.error, "determinism": header.determinism, "uncertain": header.uncertain}
    return Answer(KIND, str(frozen.path), 0, {**data, "bytes_per_token": frozen.bytes_per_token, **facts})


def of_comparison(summary: dict[str, Any], leave: str = "") -> Document:
    """The statistics of two captures or dumps, a row a metric; there is no verdict without a contract.

    `leave` is the reason why one side may lack what the other has.
    """
    lines = [Line(text, "unsure") for text in summary.get("notes", [])]
    lines += [Line(f"not measured: {name}", "unsure") for name in summary.get("not_measured", [])]
    if basis := summary.get("kl_basis"):
        lines.append(Line(f"KL divergence: {basis}"))
    if lacks := lacking(summary):
        lines.append(Line(f"missing: {lacks}{f'; by leave: {leave}' if leave else ''}", "unsure" if leave else "bad"))
    distance = far(summary["metrics"].get(KL))
    verdict = Verdict("MEASURED", f"{distance}; {NO_VERDICT}")
    if lacks and not leave:
        verdict = Verdict("INCOMPLETE", f"{distance}, of what both hold: {lacks}")
    title = f"{summary['candidate']} against {summary['reference']}, {summary['positions']} positions"
    remarks = (Text(tuple(lines)),) if lines else ()
    return Document(title, verdict, (metrics_table(summary["metrics"]), *remarks), "logitproof new")
