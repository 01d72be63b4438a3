"""An engine's own draws against the probabilities that they should come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from logitproof.acid import Row
from logitproof.acid_probe import Case, Probe
from logitproof.acid_subject import Subject
from logitproof.errors import ContractError, EngineError
from logitproof.sampler import Sampling, probabilities

DRAWS = 200
SETTINGS = (
    Sampling(temperature=0.7, top_k=5, seed=1),
    Sampling(top_p=0.7, seed=2),
    Sampling(min_p=0.15, seed=3),
    Sampling(top_k=6, repetition_penalty=1.3, seed=4),
)
"""No two filters that engines put in different orders stand together."""
CHECK = "draws = probabilities"


def sampling_row(subject: Subject, probes: Sequence[Probe]) -> Row:
    """One token drawn many times under each setting, on the first probe that the engine takes."""
    if not subject.hello().sample:
        return Row(CHECK, "sampling", "NOT-MEASURED", "the engine does not sample")
    refused = ""
    for probe in probes:
        try:
            subject.load(probe)
            faults = [text for setting in SETTINGS if (text := _fault(subject, probe.case("short"), setting))]
        except ContractError as error:
            refused = error.text
            continue
        except EngineError as error:
            return Row(CHECK, "sampling", "ERROR", f"{probe.name}: {error.text}")
        return Row(CHECK, "sampling", "FAIL" if faults else "PASS", "; ".join(faults))
    return Row(CHECK, "sampling", "NOT-MEASURED", refused or "there is no probe")


def apart(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation of two distributions [V]."""
    return 0.5 * float(np.abs(p - q).sum())


def allowed(p: np.ndarray, draws: int = DRAWS) -> float:
    """Total variation that so many honest draws from `p` [V] stay under: three times what they have on average.

    The average is the sum of mean absolute deviations, sqrt(2 p (1 - p) / (pi n)) each.
    """
    return 1.5 * float(np.sqrt(2 * p * (1 - p) / (np.pi * draws)).sum()) + 0.02


def _fault(subject: Subject, case: Case, setting: Sampling) -> str:
    right = probabilities(case.expected[-1], case.token_ids, setting)
    drawn = Counter(tokens[0] for tokens in subject.sample(case.token_ids, DRAWS, setting))
    found = np.zeros(len(right))
    found[list(drawn)] = np.array(list(drawn.values())) / DRAWS
    distance, limit = apart(found, right), allowed(right)
    return "" if distance <= limit else f"{setting}: total variation {distance:.2f}, at most {limit:.2f} by chance"
