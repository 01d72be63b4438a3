"""A waiver: a divergence that is known, has an issue and an end, and is not forgotten when it goes away."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from logitproof.contract.suite import Prompt
from logitproof.contract.typed import STRICT, Day, Name, Reason
from logitproof.files.forms import SHA256_START

WaiverStatus = Literal["KNOWN-DIVERGENT", "FIXED", "EXPIRED", "UNUSED"]


class Waiver(BaseModel):
    """A prompt that is known to be WRONG in some cells.

    It is keyed by the prompt's content (`prompt_sha256` of verdict.json), so that it ends when the prompt
    changes. It never excuses an error of an engine or of the set-up, nor a control.
    """

    model_config = STRICT

    id: Name
    cell: str = Field(description="glob of cell ids, such as mine/*/Q8_0/*")
    prompt: Annotated[str, Field(pattern=SHA256_START, description="sha256 of the prompt, at least 12 digits")]
    issue: Annotated[str, Field(min_length=3, description="where the divergence is tracked")]
    until: Day
    reason: Reason

    def covers(self, cell: str, prompt: Prompt, today: date) -> bool:
        """Whether it stands for this prompt in this cell and has not ended."""
        return today <= self.until and fnmatch.fnmatchcase(cell, self.cell) and prompt.sha256.startswith(self.prompt)


@dataclass(frozen=True)
class WaiverVerdict:
    """What became of a waiver in this run. FIXED fails the run until the waiver is removed."""

    id: str
    status: WaiverStatus
    issue: str
    until: str
    cell: str = ""
    prompt_id: str = ""
    text: str = ""


def unused(waivers: Sequence[Waiver], used: set[str], today: date) -> list[WaiverVerdict]:
    """Waivers that stood for nothing in this run: ended, or of no prompt that was compared."""
    verdicts = []
    for waiver in waivers:
        if today > waiver.until:
            text = f"ended on {waiver.until}: the divergence counts again"
            verdicts.append(WaiverVerdict(waiver.id, "EXPIRED", waiver.issue, str(waiver.until), waiver.cell, text=text))
        elif waiver.id not in used:
            text = "no prompt of this run is meant"
            verdicts.append(WaiverVerdict(waiver.id, "UNUSED", waiver.issue, str(waiver.until), waiver.cell, text=text))
    return verdicts
