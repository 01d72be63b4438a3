"""An engine's tokenizer: the ids of the probes' texts, and a promise that byte-level BPE makes about special tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from logitproof.acid.probe import Probe
from logitproof.acid.row import Row
from logitproof.acid.subject import Subject
from logitproof.errors import ContractError, EngineError

TOKENS, PARTS = "tokens", "tokens of a text = tokens of its parts"


def tokenizer_rows(subject: Subject, probes: Sequence[Probe]) -> Iterator[Row]:
    """Two rows over all probes that the engine takes."""
    wrong: list[str] = []
    touching: list[str] = []
    reason = "" if subject.hello().tokenize else "the engine does not tokenize"
    asked = 0
    for probe in probes if not reason else ():
        try:
            subject.load(probe)
            wrong += _wrong(subject, probe)
            touching += _touching(subject, probe)
            asked += 1
        except ContractError as error:
            reason = reason or error.text
        except EngineError as error:
            yield Row(TOKENS, "tokenizer", "ERROR", f"{probe.name}: {error.text}")
            return
    for check, faults in ((TOKENS, wrong), (PARTS, touching)):
        if asked:
            yield Row(check, "tokenizer", "FAIL" if faults else "PASS", "; ".join(faults))
        else:
            yield Row(check, "tokenizer", "NOT-MEASURED", reason or "there is no probe")


def _wrong(subject: Subject, probe: Probe) -> list[str]:
    pairs = [(text, subject.tokenize(text.text)) for text in probe.texts]
    return [
        f"{probe.name}: {text.text!r} gives {ids}, expected {list(text.token_ids)}"
        for text, ids in pairs
        if tuple(ids) != text.token_ids
    ]


def _touching(subject: Subject, probe: Probe) -> list[str]:
    """What is wrong where a special token stands between two texts; a token put before each text is counted once."""
    special, number = probe.special
    left, right = probe.texts[0].text, probe.texts[1].text
    whole, first, second = (subject.tokenize(text) for text in (f"{left}{special}{right}", left, right))
    begun = min(probe.begins_with, len(second))
    if whole == [*first, number, *second[begun:]]:
        return []
    return [f"{probe.name}: {whole} is not {first}, {number} and {second[begun:]}"]
