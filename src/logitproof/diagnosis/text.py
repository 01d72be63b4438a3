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


def document(diagnoses: Mapping[str, Diagnosis], folder: Path) -> Document:
    """What explains each cell, or the dump, by its name."""
    sections = tuple(Text(in_words(diagnosis), name) for name, diagnosis in diagnoses.items())
    return Document(f"Which known bug explains {folder}", verdict(diagnoses), sections, next_command(diagnoses, folder))


def page(diagnosis: Diagnosis) -> Document:
    """A diagnosis alone, of logits that stand in no run."""
    following = f"logitproof mutations show {diagnosis.names[0]}" if diagnosis.names else ""
    sections = (Text(in_words(diagnosis)),)
    return Document("Which known bug explains these logits", verdict({"these logits": diagnosis}), sections, following)


def in_words(diagnosis: Diagnosis) -> tuple[Line, ...]:
    """The verdict with its evidence in the first line, then the bugs, the remedies, what is left, and what it cost."""
    tones: dict[str, Tone] = {"same": "good", "unexplained": "unsure", "below noise": "unsure"}
    lines = [Line(sentence(diagnosis), tones.get(diagnosis.verdict, "bad"))]
    if diagnosis.mutants[1 : diagnosis.named]:
        others = ", ".join(map(str, diagnosis.mutants[1 : diagnosis.named]))
        lines.append(Line(f"these logits cannot tell it from: {others}", level=1))
    lines += [Line(f"bug: {bug}", level=1) for bug in diagnosis.bugs]
    lines += [Line(f"remedy: {remedy}", level=1) for remedy in diagnosis.remedies]
    lines += [Line(f"seen: {finding.text}", level=1) for finding in diagnosis.findings if diagnosis.verdict != "no logits"]
    return (*lines, Line(f"({diagnosis.passes} forward passes, {diagnosis.seconds:.1f} s)", "quiet", 1))


def sentence(diagnosis: Diagnosis) -> str:
    """What explains it, how well, and what comes next."""
    far = f"{diagnosis.to_reference:.3g} logits from the reference, noise {diagnosis.noise:.2g} ({SOURCES[diagnosis.source]})"
    if diagnosis.verdict == "same":
        return f"the same model: {far}"
    if diagnosis.verdict == "no logits":
        return f"{diagnosis.findings[0].text}; no bug of a model was tried"
    if diagnosis.verdict == "below noise":
        return f"cannot be told from noise: {far}; {BELOW[diagnosis.source]}"
    if diagnosis.verdict == "unexplained":
        return f"no known bug explains it: {far}; {_nearest(diagnosis)}"
    if diagnosis.together:
        count = {2: "two", 3: "three", 4: "four"}[len(diagnosis.together)]
        names = " and ".join(map(str, diagnosis.together))
        return f"{count} bugs: {names}, {diagnosis.remainder:.3g} logits away; {far}"
    if diagnosis.verdict == "partly":
        return (
            f"{diagnosis.mutants[0]} explains a part: {diagnosis.remainder:.3g} logits remain, which it does not explain; {far}"
        )
    runner = diagnosis.mutants[diagnosis.named] if diagnosis.named < len(diagnosis.mutants) else None
    second = f"; the next is {runner} at {runner.distance:.3g}" if runner else ""
    return f"{diagnosis.mutants[0]}: {diagnosis.mutants[0].distance:.3g} logits away; {far}{second}"


def _nearest(diagnosis: Diagnosis) -> str:
    """The nearest bugs, or that none is near: a bug that changes almost nothing is as near as the reference, and no suspect."""
    near = [mutant for mutant in diagnosis.mutants[:3] if mutant.distance <= NEARER * diagnosis.to_reference]
    return f"nearest: {'; '.join(f'{mutant} {mutant.distance:.3g}' for mutant in near)}" if near else NONE_NEARER


def verdict(diagnoses: Mapping[str, Diagnosis]) -> Verdict:
    """The first cell that is not explained decides; if all are, the first that is not "same" does."""
    for name, diagnosis in diagnoses.items():
        if diagnosis.verdict in OPEN:
            return Verdict("UNEXPLAINED", f"{name}: {sentence(diagnosis)}", "unsure")
    for name, diagnosis in diagnoses.items():
        if diagnosis.verdict != "same":
            return Verdict("EXPLAINED", f"{name}: {sentence(diagnosis)}", "bad")
    first = next((f"{name}: {sentence(diagnosis)}" for name, diagnosis in diagnoses.items()), NOTHING)
    return Verdict("SAME", first, "good")


def next_command(diagnoses: Mapping[str, Diagnosis], folder: Path) -> str:
    """The record of the bug, or the search inside the model where logits do not tell."""
    names = [name for diagnosis in diagnoses.values() for name in diagnosis.names]
    if names:
        return f"logitproof mutations show {names[0]}"
    open_still = any(diagnosis.verdict in OPEN for diagnosis in diagnoses.values())
    return f"logitproof localize {folder}" if open_still and folder.is_dir() else ""


def exit_code(diagnoses: Mapping[str, Diagnosis]) -> int:
    """0 nothing to explain · 1 every divergence is explained · 3 one is not."""
    verdicts = {diagnosis.verdict for diagnosis in diagnoses.values()} - {"same"}
    return 3 if verdicts & set(OPEN) else 1 if verdicts else 0


def answer(diagnoses: Mapping[str, Diagnosis], about: str) -> Answer:
    """diagnosis.json: by cell, with the envelope beside them."""
    return Answer(KIND, about, exit_code(diagnoses), {name: diagnosis.as_json() for name, diagnosis in diagnoses.items()})
