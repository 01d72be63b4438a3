"""Statuses are computed from recorded verdicts; what a person typed must agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from logitproof.contract.history import evidence_problem, reference_problem, stage_verdict, unblocked
from logitproof.contract.opened import OpenContract
from logitproof.lint import Finding, Rule


class Life(Rule):
    """Stages, status and references to other files."""

    codes: ClassVar[Mapping[str, str]] = {
        "LP001": "a stage's status is not what its recorded verdict says",
        "LP002": "a stage is called pending although its evidence is there",
        "LP003": "the contract's status is not what its stages say",
        "LP004": "a mirror of a referenced file is missing or not byte-identical",
        "LP005": "evidence that is not what its hash says, whatever the contract's status is",
        "LP006": "an item of another repository is called blocked or unblocked, and is not",
    }

    def look(self, opened: OpenContract) -> Iterator[Finding]:
        """Compare every typed status with the computed one."""
        contract = opened.contract
        computed = [stage_verdict(stage, opened.folder) for stage in contract.stages]
        for index, (stage, now) in enumerate(zip(contract.stages, computed, strict=True)):
            if stage.status is None or stage.status == now.status:
                continue
            code = "LP002" if stage.status == "pending" else "LP001"
            text = f"the stage {stage.id!r} is called {stage.status} and is {now.status}: {now.why}"
            yield self.finding(opened, code, "stages", index, "status", text=text, remedy="leave `status` out: it is computed")
        for index, stage in enumerate(contract.stages):
            if problem := evidence_problem(stage, opened.folder):
                remedy = "restore the recorded verdict, or record a new one and write down its hash"
                yield self.finding(opened, "LP005", "stages", index, "evidence", text=problem, remedy=remedy)
        open_ = [now for now in computed if now.status != "proven"]
        if contract.status == "active" and open_:
            text = f"the contract is active and its stage {open_[0].id!r} is {open_[0].status}: {open_[0].why}"
            yield self.finding(opened, "LP003", "status", text=text, remedy="prove the stage, or call the contract a draft")
        if contract.status == "draft" and contract.stages and not open_:
            text = "every stage is proven and the contract is still a draft"
            yield self.finding(opened, "LP003", "status", text=text, remedy="call it active")
        for index, entry in enumerate(contract.unblocks):
            state = unblocked(entry, contract.stages, opened.folder)
            if entry.status is not None and (entry.status == "unblocked") != state.is_unblocked:
                text = f"{entry.item} is called {entry.status}, and {state}"
                yield self.finding(
                    opened, "LP006", "unblocks", index, "status", text=text, remedy="leave `status` out: it is computed"
                )
        for index, reference in enumerate(contract.files_it_rests_on):
            if problem := reference_problem(reference, opened.folder):
                remedy = f"copy it again from {reference.source}, or amend the reference"
                key = "rests_on" if contract.rests_on else "references"
                yield self.finding(opened, "LP004", key, index, text=problem, remedy=remedy)
