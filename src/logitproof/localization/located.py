"""Where a difference starts, of one candidate and of several."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from logitproof.documents.shown import Shown
from logitproof.localization.hypotheses import Hypothesis
from logitproof.localization.localize import Localization, Stage, first_odd
from logitproof.localization.patching import Patched
from logitproof.protocol.precision import Precision


@dataclass(frozen=True)
class Located(Shown):
    """What was found of one candidate, and which known bugs make its broken tensors."""

    LAYOUT: ClassVar[str] = "logitproof.localization.text"

    name: str
    precision: Precision
    localization: Localization
    hypotheses: tuple[Hypothesis, ...] = ()
    patched: tuple[Patched, ...] = ()

    @property
    def explained(self) -> list[Hypothesis]:
        """The nearest bug of each broken tap that explains it."""
        best: dict[str, Hypothesis] = {}
        for hypothesis in self.hypotheses:
            if hypothesis.explains:
                best.setdefault(hypothesis.tap, hypothesis)
        return list(best.values())


@dataclass(frozen=True)
class Locations(Shown):
    """Every candidate's, and where there are three sources or more, who stands apart at each stage."""

    LAYOUT: ClassVar[str] = "logitproof.localization.text"

    reference: str
    token_ids: tuple[int, ...]
    mode: str
    located: tuple[Located, ...]
    stages: tuple[Stage, ...] = ()
    bytes_at_most: int = 0
    notes: tuple[str, ...] = field(default=())
    generated_from: int | None = None
    """the first position that was generated, where that is known"""

    @property
    def first_stage(self) -> Stage | None:
        """The first stage at which the sources disagree."""
        return first_odd(self.stages)

    @property
    def exit_code(self) -> int:
        """0 every operation is right · 1 one is wrong · 3 of a candidate nothing could be compared."""
        verdicts = {candidate.localization.verdict for candidate in self.located}
        return 3 if "nothing compared" in verdicts else 1 if verdicts - {"same"} else 0

    def as_json(self) -> dict[str, Any]:
        """Plain data, hypotheses included."""
        return {
            "reference": self.reference,
            "token_ids": list(self.token_ids),
            "mode": self.mode,
            "bytes_at_most": self.bytes_at_most,
            "notes": list(self.notes),
            "generated_from": self.generated_from,
            "located": [
                {
                    "name": candidate.name,
                    "precision": candidate.precision,
                    **candidate.localization.as_json(),
                    "hypotheses": [asdict(hypothesis) for hypothesis in candidate.hypotheses],
                    "patched": [asdict(patch) for patch in candidate.patched],
                }
                for candidate in self.located
            ],
            "stages": [asdict(stage) for stage in self.stages],
        }
