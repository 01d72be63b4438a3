"""The life of a contract: stages with evidence, amendments, falsification entries, references to other files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from logitproof.contract.typed import STRICT, Day, Name, Reason
from logitproof.errors import ContractError
from logitproof.files.causes import cause_of
from logitproof.files.forms import ITEM, SHA256
from logitproof.files.untrusted import parse_json, read_bytes

StageStatus = Literal["pending", "proven", "refuted"]
Sha256 = Annotated[str, Field(pattern=SHA256)]


class _Strict(BaseModel):
    model_config = STRICT


class Evidence(_Strict):
    """A recorded verdict.json, and its hash once it must not change any more."""

    verdict: str
    sha256: Sha256 | None = None


class Stage(_Strict):
    """A claim on the way to an active contract. `status` may be left out; it is computed from the evidence."""

    id: Name
    claim: str
    gates: list[str] = Field(min_length=1, description="the gates that prove it")
    evidence: Evidence | None = None
    status: StageStatus | None = None


class Alternative(_Strict):
    """A way that was weighed for a decision and not taken, with why."""

    title: str
    rejected: Reason = Field(description="why it was not taken")


class Amendment(_Strict):
    """A change of what the contract demands, or (`decided`) a decision with the alternatives that it was taken among.

    `gates` names the gates whose bounds it changes.
    """

    date: Day
    kind: Literal["loosened", "tightened", "added", "removed", "corrected", "decided"]
    title: str
    reason: Reason
    gates: list[str] = []
    alternatives: list[Alternative] = []

    @model_validator(mode="after")
    def _decided_among_something(self) -> Amendment:
        if (self.kind == "decided") != bool(self.alternatives):
            raise ValueError("an amendment of kind `decided` names its `alternatives`, and no other does")
        return self


class Steps(_Strict):
    """What to check first when exactly these gates fail; the most specific entry that fits is taken."""

    when: list[str] = Field(min_length=1)
    steps: list[str] = Field(min_length=1)


class Falsification(_Strict):
    """A prediction, the gates that would refute it, and what to do then."""

    id: Name
    prediction: str
    test: list[str] = Field(min_length=1)
    if_fails: list[Steps] = []

    def next_steps(self, failed: set[str]) -> list[str]:
        """Steps of the largest `when` that is wholly among the failed gates; none where the test holds."""
        fitting = [entry for entry in self.if_fails if set(entry.when) <= failed]
        return list(max(fitting, key=lambda entry: len(entry.when)).steps) if fitting else []


class CrossReference(_Strict):
    """A file of another repository that this contract rests on, with its hash and perhaps a mirror here."""

    id: Name
    source: str = Field(description="where the file lives, in words or as an address")
    sha256: Sha256
    mirror: str | None = Field(None, description="a byte-identical copy, relative to the contract")


class Unblocks(_Strict):
    """An item of another repository that waits for stages of this contract; whether it still does is computed."""

    item: str = Field(pattern=ITEM, description="OWNER/REPOSITORY#ITEM")
    stages: list[str] = Field(min_length=1, description="the stages that it waits for")
    status: Literal["blocked", "unblocked"] | None = None


@dataclass(frozen=True)
class Unblocked:
    """Whether an item still waits, for what, and the sha256 of the verdicts that the other side verifies, by their path."""

    item: str
    is_unblocked: bool
    why: str
    evidence: dict[str, str]

    def __str__(self) -> str:
        shown = "".join(f"; {path} sha256 {digest}" for path, digest in self.evidence.items())
        return f"{self.item} is {'unblocked' if self.is_unblocked else 'blocked'}: {self.why}{shown}"


@dataclass(frozen=True)
class StageVerdict:
    """The computed status of a stage and why."""

    id: str
    status: StageStatus
    why: str


def evidence_problem(stage: Stage, folder: Path) -> str:
    """What is wrong with the recorded evidence of a stage whose hash was written down, or nothing."""
    if stage.evidence is None or stage.evidence.sha256 is None:
        return ""
    path = folder / stage.evidence.verdict
    if not path.is_file():
        return f"the evidence {stage.evidence.verdict} of the stage {stage.id!r} is not there, and its hash is written down"
    digest = hashlib.sha256(read_bytes(path)).hexdigest()
    if digest != stage.evidence.sha256:
        text = f"the evidence {stage.evidence.verdict} of the stage {stage.id!r} has sha256 {digest}"
        return f"{text}, {stage.evidence.sha256} is written down"
    return ""


def stage_verdict(stage: Stage, folder: Path) -> StageVerdict:
    """Compute a stage's status from its recorded verdict; nothing recorded is pending, an ERROR proves nothing."""
    if stage.evidence is None:
        return StageVerdict(stage.id, "pending", "it names no evidence")
    path = folder / stage.evidence.verdict
    try:
        data = read_bytes(path)
        record = parse_json(data, path)
        gates = [gate for gate in record["gates"] if gate["id"] in stage.gates and not gate.get("control")]
    except (ContractError, KeyError, TypeError, AttributeError) as error:
        if not path.exists():
            return StageVerdict(stage.id, "pending", f"{stage.evidence.verdict} does not exist yet")
        return StageVerdict(stage.id, "pending", f"{stage.evidence.verdict} is no verdict: {cause_of(error)}")
    if stage.evidence.sha256 and hashlib.sha256(data).hexdigest() != stage.evidence.sha256:
        return StageVerdict(stage.id, "pending", f"{stage.evidence.verdict} has changed since its hash was written down")
    missing = sorted(set(stage.gates) - {gate["id"] for gate in gates})
    if missing:
        return StageVerdict(stage.id, "pending", f"{stage.evidence.verdict} has no gate {missing[0]!r}")
    if bad := [gate["id"] for gate in gates if gate["status"] == "FAIL"]:
        return StageVerdict(stage.id, "refuted", f"the gate {bad[0]} failed in {stage.evidence.verdict}")
    if open_ := [gate["id"] for gate in gates if gate["status"] != "PASS"]:
        return StageVerdict(stage.id, "pending", f"the gate {open_[0]} was not measured in {stage.evidence.verdict}")
    return StageVerdict(stage.id, "proven", f"all its gates hold in {stage.evidence.verdict}")


def unblocked(entry: Unblocks, stages: Sequence[Stage], folder: Path) -> Unblocked:
    """Whether every stage that an item waits for is proven; its evidence is what another contract names with its sha256."""
    waited = [stage for stage in stages if stage.id in entry.stages]
    verdicts = [stage_verdict(stage, folder) for stage in waited]
    open_ = next((verdict for verdict in verdicts if verdict.status != "proven"), None)
    if open_ is not None:
        return Unblocked(entry.item, False, f"the stage {open_.id} is {open_.status}: {open_.why}", {})
    paths = dict.fromkeys(stage.evidence.verdict for stage in waited if stage.evidence)
    evidence = {path: hashlib.sha256(read_bytes(folder / path)).hexdigest() for path in paths}
    return Unblocked(entry.item, True, f"{', '.join(verdict.id for verdict in verdicts)} proven", evidence)


def reference_problem(reference: CrossReference, folder: Path) -> str:
    """What is wrong with a reference's mirror, or nothing."""
    if reference.mirror is None:
        return ""
    path = folder / reference.mirror
    try:
        digest = hashlib.sha256(read_bytes(path)).hexdigest()
    except ContractError as error:
        return f"the mirror {reference.mirror} {error.text}"
    if digest != reference.sha256:
        return f"the mirror {reference.mirror} has sha256 {digest}, the reference is {reference.sha256}"
    return ""
