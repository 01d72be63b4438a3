"""Diagnoses as a document and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from logitproof.diagnosis.diagnose import Diagnosis
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Tone, Verdict

KIND = "diagnose"
NOTHING = "no cell is WRONG, so there is nothing to explain"


def document(found: Mapping[str, Diagnosis], folder: Path) -> Document:
    """What explains each cell, or the dump, by its name."""
    sections = tuple(Text(in_words(diagnosis), name) for name, diagnosis in found.items())
    return Document(f"Which known bug explains {folder}", verdict(found), sections, next_command(found, folder))


def in_words(found: Diagnosis) -> tuple[Line, ...]:
    """The verdict with its evidence in the first line, then the bugs, the remedies and what it cost."""
    tone: Tone = {"same": "good", "unexplained": "unsure"}.get(found.verdict, "bad")  # type: ignore[assignment]
    lines = [Line(sentence(found), tone)]
    if found.verdict not in ("same", "unexplained") and found.pair is None and found.mutants[1 : found.named]:
        others = ", ".join(map(str, found.mutants[1 : found.named]))
        lines.append(Line(f"these logits cannot tell it from: {others}", level=1))
    lines += [Line(f"bug: {bug}", level=1) for bug in found.bugs]
    lines += [Line(f"remedy: {remedy}", level=1) for remedy in found.remedies]
    return (*lines, Line(f"({found.passes} forward passes, {found.seconds:.1f} s)", "quiet", 1))


def sentence(found: Diagnosis) -> str:
    """What explains it, how well, and what comes next."""
    far = f"{found.to_reference:.3g} logits from the reference, noise {found.noise:.2g}"
    if found.verdict == "same":
        return f"the same model: {far}"
    if found.verdict == "unexplained":
        near = "; ".join(f"{mutant} {mutant.distance:.3g}" for mutant in found.mutants[:3])
        return f"no known bug explains it: {far}; nearest: {near}"
    if found.pair is not None:
        return f"two bugs: {found.pair[0]} and {found.pair[1]}, {found.pair[0].distance:.3g} logits away; {far}"
    runner = found.mutants[found.named] if found.named < len(found.mutants) else None
    second = f"; the next is {runner} at {runner.distance:.3g}" if runner else ""
    return f"{found.mutants[0]}: {found.mutants[0].distance:.3g} logits away; {far}{second}"


def verdict(found: Mapping[str, Diagnosis]) -> Verdict:
    """What is not explained decides, then the first that is."""
    for name, diagnosis in found.items():
        if diagnosis.verdict == "unexplained":
            return Verdict("UNEXPLAINED", f"{name}: {sentence(diagnosis)}", "unsure")
    for name, diagnosis in found.items():
        if diagnosis.verdict != "same":
            return Verdict("EXPLAINED", f"{name}: {sentence(diagnosis)}", "bad")
    first = next((f"{name}: {sentence(diagnosis)}" for name, diagnosis in found.items()), NOTHING)
    return Verdict("SAME", first, "good")


def next_command(found: Mapping[str, Diagnosis], folder: Path) -> str:
    """The record of the bug, or the search inside the model where logits do not tell."""
    names = [name for diagnosis in found.values() for name in diagnosis.names]
    if names:
        return f"logitproof mutations show {names[0]}"
    open_still = any(diagnosis.verdict == "unexplained" for diagnosis in found.values())
    return f"logitproof localize {folder}" if open_still and folder.is_dir() else ""


def exit_code(found: Mapping[str, Diagnosis]) -> int:
    """0 nothing to explain · 1 every divergence is explained · 3 one is not."""
    verdicts = {diagnosis.verdict for diagnosis in found.values()} - {"same"}
    return 3 if "unexplained" in verdicts else 1 if verdicts else 0


def answer(found: Mapping[str, Diagnosis], about: str) -> Answer:
    """diagnosis.json: by cell, with the envelope beside them."""
    return Answer(KIND, about, exit_code(found), {name: diagnosis.as_json() for name, diagnosis in found.items()})
