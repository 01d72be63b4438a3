"""What a diagnosis finds: bugs with their distances, the noise that it judged by, and the shape of what no bug explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from logitproof.contract.arithmetic import Arithmetic
from logitproof.documents.shown import Shown

Verdict = Literal["same", "below noise", "no logits", "named", "ambiguous", "two bugs", "several bugs", "partly", "unexplained"]
Mode = Literal["prefill", "decode"]
Source = Literal["calculated band", "band of the contract", "arithmetic", "the engine itself", "given", "bfloat16"]
"""What says how much noise the candidate makes, the best evidence first."""


@dataclass(frozen=True)
class Known:
    """What is known of a candidate before its logits are explained.

    `noise` is the RMS error in logits that its arithmetic makes, by `source`; nothing where nobody says. `wrong` says that a
    verdict called these logits WRONG already, so that they are never the same model's. `bits` are the significant bits of the
    narrowest type that the engine is known to compute in, `arithmetic` is all that is known of how it does, `at_most` is what
    people allow it. `other` are the candidate's rows of the same sequences in the other mode (prefill for decode), where it has
    them.
    """

    noise: float | None = None
    source: Source = "given"
    wrong: bool = False
    bits: int | None = None
    arithmetic: Arithmetic | None = None
    at_most: float | None = None
    other: Sequence[np.ndarray] = ()


@dataclass(frozen=True)
class Mutant:
    """One known bug with its options, and how far its logits are from the candidate's.

    `uncertainty` is by the options whose values were fitted: how much of it moves the logits by less than the noise. It is 0 of
    a whole number that is known.
    """

    name: str
    options: Mapping[str, Any]
    distance: float
    uncertainty: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        valued = {key: value for key, value in self.options.items() if value != ""}
        shown = ", ".join(f"{key} = {_plain(value)}{self._give(key)}" for key, value in valued.items())
        return f"{self.name}{f' ({shown})' if shown else ''}"

    def _give(self, key: str) -> str:
        return f" ± {_plain(float(f'{self.uncertainty[key]:.2g}'))}" if self.uncertainty.get(key) else ""


@dataclass(frozen=True)
class Finding:
    """One thing that the difference shows by itself: its kind, a sentence with the evidence, and the numbers."""

    kind: str
    text: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class Diagnosis(Shown):
    """What explains the candidate.

    `mutants` are ranked, nearest first; of a verdict that names something, the first `named` of them cannot be told apart by
    these logits; `no logits` are rows that a transform explains before any bug is tried. `together` are two to four bugs that
    explain it only when all are planted. `remainder` is how far what is
    named stays away; a verdict `partly` names what leaves more than noise. `findings` describe a difference that is not, or
    not wholly, explained. Distances are in logits. `positions` are the five at which the best explains most, as
    (sequence, position); `source` says where `noise` comes from. In a notebook it shows itself as `diagnosis/text.py` words it.
    """

    LAYOUT: ClassVar[str] = "logitproof.diagnosis.text"

    verdict: Verdict
    to_reference: float
    noise: float
    mutants: tuple[Mutant, ...] = ()
    named: int = 0
    together: tuple[Mutant, ...] = ()
    positions: tuple[tuple[int, int], ...] = ()
    source: Source = "given"
    findings: tuple[Finding, ...] = ()
    remedies: tuple[str, ...] = ()
    bugs: tuple[str, ...] = ()
    passes: int = 0
    seconds: float = 0.0
    skipped: tuple[str, ...] = field(default=(), repr=False)

    @property
    def names(self) -> list[str]:
        """Ids that the diagnosis holds possible; none where it is the same or unexplained."""
        return list(dict.fromkeys(mutant.name for mutant in self.together or self.mutants[: self.named]))

    @property
    def remainder(self) -> float:
        """How far what is named stays from the candidate; the whole distance where nothing is."""
        if self.together:
            return self.together[0].distance
        return self.mutants[0].distance if self.named else self.to_reference

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "names": self.names, "remainder": self.remainder}


def _plain(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, float) and abs(value) >= 1 else f"{value}"
