"""An engine's own draws against the probabilities that they should come from."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from logitproof.acid.probe import Probe
from logitproof.acid.row import Row
from logitproof.acid.subject import Subject
from logitproof.errors import ContractError, EngineError
from logitproof.protocol.sampler import LOUD, ORDER, Sampling, penalized, probabilities, scaled_last
from logitproof.rows.probability import softmax

DRAWS = 250
AMONG = 24
"""Positions of a sequence among which the least certain is drawn from."""
PROBES = 2
DRAWN_FROM = ("gemma2", "gemma3")
"""Probes that are drawn from before all others: soft-caps keep their distributions wide."""
"""How many probes are drawn from: together they show every bug of sampling in the library."""
PENALTIES = (1.05, 1.1, 1.2, 1.35, 1.6, 2.0)
LIKELY, OFTEN = (1, 2, 4, 12, 24), (2, 3)
"""How many of the likeliest tokens are put into a context, and how often each."""
LEAST = 1.5
"""Least factor on what chance allows by which a wrong penalty must be off to be looked for."""
CHECK = "draws = probabilities"
FIRST = "temperature before top-p, as transformers has it"
LAST = "temperature after top-p, as llama.cpp has it"
NEITHER = "the temperature stands neither before nor after top-p"


def sampling_row(subject: Subject, probes: Sequence[Probe]) -> Row:
    """One token drawn many times under each setting, on the first probes that the engine takes."""
    if not subject.hello().sample:
        return Row(CHECK, "sampling", "NOT-MEASURED", "the engine does not sample")
    faults: list[str] = []
    orders: list[str] = []
    refused = "there is no probe"
    for probe in sorted(probes, key=lambda probe: probe.name not in DRAWN_FROM):
        if len(orders) == PROBES:
            break
        try:
            precision = subject.precision(subject.load(probe), probe)
            if not probe.judges(precision):
                refused = f"{probe.name} has no band for {precision}"
                continue
            texts, order = _drawn_from(subject, probe)
        except ContractError as error:
            refused = error.text
            continue
        except EngineError as error:
            return Row(CHECK, "sampling", "ERROR", f"{probe.name}: {error.text}")
        faults += [f"{probe.name}: {text}" for text in texts]
        orders.append(order)
    if not orders:
        return Row(CHECK, "sampling", "NOT-MEASURED", refused)
    order_names = [name for name in orders if name]
    return Row(CHECK, "sampling", "FAIL" if faults else "PASS", "; ".join(faults) or order_names[0])


def _drawn_from(subject: Subject, probe: Probe) -> tuple[list[str], str]:
    """What is wrong with the draws, and the order of temperature and top-p where nothing is."""
    context, logits = place(probe)
    faults = [text for setting in LOUD if (text := _fault(subject, context, logits, setting))]
    if not faults and (text := _counted(subject, context)):
        faults = [text]
    order = "" if faults else _order(subject, context, logits)
    return ([f"{ORDER}: {NEITHER}"], NEITHER) if order == NEITHER else (faults, order)


def apart(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation of two distributions [V]."""
    return 0.5 * float(np.abs(p - q).sum())


def allowed(p: np.ndarray, draws: int = DRAWS) -> float:
    """Total variation that so many honest draws from `p` [V] stay under: three times what they have on average.

    The average is the sum of mean absolute deviations, sqrt(2 p (1 - p) / (pi n)) each.
    """
    return 1.5 * float(np.sqrt(2 * p * (1 - p) / (np.pi * draws)).sum()) + 0.02


def place(probe: Probe) -> tuple[tuple[int, ...], np.ndarray]:
    """The token ids after which the probe is least certain of the next, and the logits [V] there."""
    case = probe.case("text")
    entropies = [-float((p * np.log(p + 1e-300)).sum()) for p in map(softmax, case.expected[:AMONG].astype(np.float64))]
    index = int(np.argmax(entropies))
    return case.token_ids[: case.positions[index] + 1], case.expected[index]


def counting(logits: np.ndarray, token_ids: Sequence[int], setting: Sampling) -> np.ndarray:
    """The probabilities [V] where the repetition penalty is applied once for every occurrence of a token."""
    left, counts = np.asarray(logits, np.float64), Counter(token_ids)
    while counts:
        left = penalized(left, list(counts), setting.repetition_penalty)
        counts = Counter({token: count - 1 for token, count in counts.items() if count > 1})
    return probabilities(left, (), replace(setting, repetition_penalty=1.0))


def repeated(subject: Subject, context: Sequence[int]) -> list[tuple[tuple[int, ...], np.ndarray, Sampling]]:
    """Contexts in which likely tokens occur several times, the engine's own logits [V] after each, and a penalty.

    The first is the context in which a penalty that counts occurrences is furthest from the right one, the second the one in
    which no penalty at all is. A context is left out if that distance is no larger than chance makes the distance of draws.
    """
    mode, best, cases = subject.hello().modes[0], [LEAST, LEAST], dict[int, tuple[tuple[int, ...], np.ndarray, Sampling]]()
    longer = (*context[:1], *context)  # what is likely where something stands before, as it will
    first = np.argsort(-np.asarray(subject.score(longer, mode)[-1], np.float64), kind="stable")
    for count, times in itertools.product(LIKELY, OFTEN):
        before = (*context[:1], *[int(token) for token in first[:count]] * times, *context[1:])
        logits = np.asarray(subject.score(before, mode)[-1], np.float64)
        for penalty in PENALTIES:
            setting = Sampling(top_k=8, repetition_penalty=penalty, seed=7)
            right = probabilities(logits, before, setting)
            for which, wrong in enumerate((counting(logits, before, setting), probabilities(logits, (), setting))):
                if (loud := apart(right, wrong) / allowed(right)) > best[which]:
                    best[which], cases[which] = loud, (before, logits, setting)
    return list(cases.values())


def _counted(subject: Subject, context: tuple[int, ...]) -> str:
    """What is wrong where likely tokens were there before, more than once, against the engine's own logits."""
    faults = [_fault(subject, *case) for case in repeated(subject, context)] if subject.hello().modes else []
    text = next((fault for fault in faults if fault), "")
    return f"where likely tokens occur several times: {text}" if text else ""


def _fault(subject: Subject, context: tuple[int, ...], logits: np.ndarray, setting: Sampling) -> str:
    right = probabilities(logits, context, setting)
    distance, limit = apart(_drawn(subject, context, setting, len(right)), right), allowed(right)
    return "" if distance <= limit else f"{setting}: total variation {distance:.2f}, at most {limit:.2f} by chance"


def _order(subject: Subject, context: tuple[int, ...], logits: np.ndarray) -> str:
    shares = _drawn(subject, context, ORDER, len(logits))
    for name, right in ((FIRST, probabilities(logits, context, ORDER)), (LAST, scaled_last(logits, context, ORDER))):
        if apart(shares, right) <= allowed(right):
            return name
    return NEITHER


def _drawn(subject: Subject, context: tuple[int, ...], setting: Sampling, size: int) -> np.ndarray:
    """Shares [V] of the tokens drawn."""
    drawn = Counter(tokens[0] for tokens in subject.sample(context, DRAWS, setting))
    shares = np.zeros(size)
    shares[list(drawn)] = np.array(list(drawn.values())) / DRAWS
    return shares
