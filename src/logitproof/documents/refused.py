"""What stands in the envelope where there is no answer: every fault, for a machine that asked for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from logitproof.documents.answer import Answer
from logitproof.errors import ContractError, LogitproofError
from logitproof.files.system import in_words, remedy_of

KIND = "error"


@dataclass(frozen=True)
class Fault:
    """What is wrong, where, and the remedy."""

    text: str
    where: str
    remedy: str


def refusal(faults: Sequence[Fault], command: str, exit_code: int) -> Answer:
    """The answer of a command that came to none."""
    return Answer(KIND, command, exit_code, {"faults": [asdict(fault) for fault in faults]})


def faults_of(error: LogitproofError | OSError | KeyboardInterrupt) -> list[Fault]:
    """Every fault that an error tells of."""
    if isinstance(error, LogitproofError):
        others = error.others if isinstance(error, ContractError) else ()
        return [Fault(fault.text, fault.where, fault.remedy) for fault in (error, *others)]
    if isinstance(error, OSError):
        return [Fault(in_words(error), str(error.filename or ""), remedy_of(error))]
    return [Fault("interrupted", "", "what was measured is kept: run the same command to continue")]
