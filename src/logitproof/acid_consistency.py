"""An engine against itself: relations that hold whatever the model is, so that no reference is needed.

Two runs of one engine may differ by rounding, as much as a run and the expected logits may: each relation is held
to twice the probe's band. What an engine has no option for is NOT-MEASURED, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.acid import Measured, Row
from logitproof.acid_probe import Case, Probe, centred_distances
from logitproof.acid_subject import Subject
from logitproof.catalog import Entry
from logitproof.errors import ContractError, EngineError

TWO_RUNS = 2.0
"""Each of two runs may be a band away from the truth."""
NEW_TOKENS = 6
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "chunked prefill = prefill": ({"chunk": 7}, {"batch_size": 7}),
    "batched = alone": ({"batch": 3, "padding": "right"}, {"sequences": 3}),
    "padded on the left = alone": ({"batch": 3, "padding": "left"},),
    "padded on the right = alone": ({"batch": 3, "padding": "right"},),
    "prefix reuse = fresh": ({"reuse": True},),
}
"""Relations to the same engine with another option: the first set of options that the engine has is used."""
Pairs = list[tuple[Case, str, np.ndarray, np.ndarray]]
Compare = Callable[[Subject, Subject, Probe], Pairs]


def consistency_rows(
    subject: Subject, probes: Sequence[Probe], precision: str | None, entry: Entry, scratch: Path
) -> Iterator[Row]:
    """One row for each relation, over all probes that the engine takes."""
    hello = subject.hello()
    if {"prefill", "decode"} <= set(hello.modes):
        yield _row("decode = prefill", subject, subject, probes, precision, _two_modes)
    else:
        yield _absent("decode = prefill", f"the engine offers {' and '.join(hello.modes) or 'no mode'} alone")
    yield _row("twice = once", subject, subject, probes, precision, _twice)
    if hello.generate:
        yield _row("generated = scored", subject, subject, probes, precision, _generated)
    else:
        yield _absent("generated = scored", "the engine does not generate")
    for check, choices in VARIANTS.items():
        options = next((one for one in choices if set(one) <= set(entry.option_names)), None)
        if options is None:
            names = " or ".join(", ".join(one) for one in choices)
            yield _absent(check, f"{entry.name} has no option {names}")
            continue
        with Subject(replace(subject.spec, options=subject.spec.options | options), scratch, subject.weights) as other:
            compare = _reused if "reuse" in options else _same_prefill
            yield _row(check, subject, other, probes, precision, compare)
    yield from (
        _tokenizer_rows(subject, probes)
        if hello.tokenize
        else [
            _absent("tokens", "the engine does not tokenize"),
            _absent("tokens of a text = tokens of its parts", "the engine does not tokenize"),
        ]
    )


def _row(check: str, subject: Subject, other: Subject, probes: Sequence[Probe], precision: str | None, compare: Compare) -> Row:
    """The relation on every probe; the worst probe stands in the row."""
    measured: list[Measured] = []
    refused = ""
    for probe in probes:
        try:
            used = precision or subject.precision(subject.load(probe))
            if other is not subject:
                other.load(probe)
            pairs = compare(subject, other, probe)
        except ContractError as error:
            refused = error.text
            continue
        except EngineError as error:
            return Row(check, "consistency", "ERROR", f"{probe.name}: {error.text}", measured=tuple(measured))
        for case, mode, left, right in pairs:
            distances = centred_distances(left, right)
            worst, band = int(np.argmax(distances)), case.band.get(used)
            at_most = None if band is None else TWO_RUNS * band
            measured.append(Measured(f"{probe.name}/{case.name}", mode, float(distances[worst]), worst, at_most))
    told = [one for one in measured if one.at_most is not None]
    if not told:
        return _absent(check, refused or "no probe has a band for this precision")
    held = all(one.held for one in told)
    return Row(check, "consistency", "PASS" if held else "FAIL", measured=tuple(measured))


def _absent(check: str, reason: str) -> Row:
    return Row(check, "consistency", "NOT-MEASURED", reason)


def _two_modes(subject: Subject, other: Subject, probe: Probe) -> Pairs:
    case = probe.case("text")
    return [(case, "decode", subject.score(case.token_ids, "prefill"), subject.score(case.token_ids, "decode"))]


def _twice(subject: Subject, other: Subject, probe: Probe) -> Pairs:
    """The same sequence before and after another one."""
    case, between = probe.case("text"), probe.case("second")
    found: Pairs = []
    for mode in subject.hello().modes:
        first = subject.score(case.token_ids, mode)
        subject.score(between.token_ids, mode)
        found.append((case, mode, first, subject.score(case.token_ids, mode)))
    return found


def _generated(subject: Subject, other: Subject, probe: Probe) -> Pairs:
    """The logits that a continuation was chosen from, and those of the finished sequence."""
    case = probe.case("text")
    new, logits = subject.generate(case.token_ids, NEW_TOKENS)
    mode = subject.hello().modes[0]
    scored = subject.score([*case.token_ids, *new], mode)
    return [(case, mode, scored[len(case.token_ids) - 1 : -1], logits)]


def _reused(subject: Subject, other: Subject, probe: Probe) -> Pairs:
    """A continuation after a sequence that begins the same way, and one with nothing before it."""
    case = probe.case("text")
    half = case.token_ids[: len(case.token_ids) // 2]
    other.generate([*half, *reversed(half)], NEW_TOKENS)
    return [(case, "generate", subject.generate(case.token_ids, NEW_TOKENS)[1], other.generate(case.token_ids, NEW_TOKENS)[1])]


def _same_prefill(subject: Subject, other: Subject, probe: Probe) -> Pairs:
    case = probe.case("text")
    return [(case, "prefill", subject.score(case.token_ids, "prefill"), other.score(case.token_ids, "prefill"))]


def _tokenizer_rows(subject: Subject, probes: Sequence[Probe]) -> Iterator[Row]:
    """The ids of every text, and that a special token parts a text in two that do not touch each other's tokens."""
    wrong: list[str] = []
    apart: list[str] = []
    asked = 0
    for probe in probes:
        try:
            subject.load(probe)
            for text in probe.texts:
                found = subject.tokenize(text.text)
                asked += 1
                if tuple(found) != text.token_ids:
                    wrong.append(f"{probe.name}: {text.text!r} gives {found}, expected {list(text.token_ids)}")
            apart += _not_parted(subject, probe)
        except ContractError:
            continue
        except EngineError as error:
            yield Row("tokens", "tokenizer", "ERROR", f"{probe.name}: {error.text}")
            return
    for check, faults in (("tokens", wrong), ("tokens of a text = tokens of its parts", apart)):
        if not asked:
            yield Row(check, "tokenizer", "NOT-MEASURED", "the engine tokenized no probe's text")
        else:
            yield Row(check, "tokenizer", "FAIL" if faults else "PASS", "; ".join(faults))


def _not_parted(subject: Subject, probe: Probe) -> list[str]:
    """What is wrong where a special token stands between two texts; a token put before each text is counted once."""
    special, number = probe.special
    left, right = probe.texts[0].text, probe.texts[1].text
    whole, first, second = (subject.tokenize(text) for text in (f"{left}{special}{right}", left, right))
    begun = min(probe.begins_with, len(second))
    if whole == [*first, number, *second[begun:]]:
        return []
    return [f"{probe.name}: {whole} is not {first}, {number} and {second[begun:]}"]
