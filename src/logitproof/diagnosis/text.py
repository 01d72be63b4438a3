"""Diagnoses as a document and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from logitproof.diagnosis.found import Diagnosis
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Line, Text, Tone, Verdict

KIND = "diagnose"
OPEN = ("unexplained", "partly", "below noise")
"""Verdicts that leave something to explain."""
NEARER = 0.7
"""Share of the reference's distance within which a bug counts as near."""
NONE_NEARER = "none comes nearer than the plain reference"
SOURCES = {
    "calculated band": "the calculated band's",
    "band of the contract": "the contract's band",
    "arithmetic": "of the arithmetic that the engine declares",
    "the engine itself": "what the engine shows of itself",
    "given": "as given",
    "bfloat16": "bfloat16's, for nothing says how the engine computes",
}
BELOW = dict.fromkeys(SOURCES, "it is below what the noise would make") | {
    "bfloat16": "it is below what bfloat16 would make; say `arithmetic:` of the candidate to know better"
}
NOTHING = "no cell is WRONG, so there is nothing to explain"


def document(found: Mapping[str, Diagnosis], folder: Path) -> Document:
    """What explains each cell, or the dump, by its name."""
    sections = tuple(Text(in_words(diagnosis), name) for name, diagnosis in found.items())
    return Document(f"Which known bug explains {folder}", verdict(found), sections, next_command(found, folder))


def in_words(found: Diagnosis) -> tuple[Line, ...]:
    """The verdict with its evidence in the first line, then the bugs, the remedies, what is left, and what it cost."""
    tones: dict[str, Tone] = {"same": "good", "unexplained": "unsure", "below noise": "unsure"}
    lines = [Line(sentence(found), tones.get(found.verdict, "bad"))]
    if found.mutants[1 : found.named]:
        others = ", ".join(map(str, found.mutants[1 : found.named]))
        lines.append(Line(f"these logits cannot tell it from: {others}", level=1))
    lines += [Line(f"bug: {bug}", level=1) for bug in found.bugs]
    lines += [Line(f"remedy: {remedy}", level=1) for remedy in found.remedies]
    lines += [Line(f"seen: {finding.text}", level=1) for finding in found.findings if found.verdict != "no logits"]
    return (*lines, Line(f"({found.passes} forward passes, {found.seconds:.1f} s)", "quiet", 1))


def sentence(found: Diagnosis) -> str:
    """What explains it, how well, and what comes next."""
    far = f"{found.to_reference:.3g} logits from the reference, noise {found.noise:.2g} ({SOURCES[found.source]})"
    if found.verdict == "same":
        return f"the same model: {far}"
    if found.verdict == "no logits":
        return f"{found.findings[0].text}; no bug of a model was tried"
    if found.verdict == "below noise":
        return f"cannot be told from noise: {far}; {BELOW[found.source]}"
    if found.verdict == "unexplained":
        return f"no known bug explains it: {far}; {_nearest(found)}"
    if found.together:
        count = {2: "two", 3: "three", 4: "four"}[len(found.together)]
        names = " and ".join(map(str, found.together))
        return f"{count} bugs: {names}, {found.remainder:.3g} logits away; {far}"
    if found.verdict == "partly":
        return f"{found.mutants[0]} explains a part: {found.remainder:.3g} logits remain, which it does not explain; {far}"
    runner = found.mutants[found.named] if found.named < len(found.mutants) else None
    second = f"; the next is {runner} at {runner.distance:.3g}" if runner else ""
    return f"{found.mutants[0]}: {found.mutants[0].distance:.3g} logits away; {far}{second}"


def _nearest(found: Diagnosis) -> str:
    """The nearest bugs, or that none is: a bug that changes next to nothing is as near as the reference, and no suspect."""
    near = [mutant for mutant in found.mutants[:3] if mutant.distance <= NEARER * found.to_reference]
    return f"nearest: {'; '.join(f'{mutant} {mutant.distance:.3g}' for mutant in near)}" if near else NONE_NEARER


def verdict(found: Mapping[str, Diagnosis]) -> Verdict:
    """What is not explained decides, then the first that is."""
    for name, diagnosis in found.items():
        if diagnosis.verdict in OPEN:
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
    open_still = any(diagnosis.verdict in OPEN for diagnosis in found.values())
    return f"logitproof localize {folder}" if open_still and folder.is_dir() else ""


def exit_code(found: Mapping[str, Diagnosis]) -> int:
    """0 nothing to explain · 1 every divergence is explained · 3 one is not."""
    verdicts = {diagnosis.verdict for diagnosis in found.values()} - {"same"}
    return 3 if verdicts & set(OPEN) else 1 if verdicts else 0


def answer(found: Mapping[str, Diagnosis], about: str) -> Answer:
    """diagnosis.json: by cell, with the envelope beside them."""
    return Answer(KIND, about, exit_code(found), {name: diagnosis.as_json() for name, diagnosis in found.items()})
