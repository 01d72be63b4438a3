"""A statement checked offline: the signature, the hashes, every gate and the verdict, from what was recorded."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitproof.attestation.derive import (
    TermsBroken,
    columns_of,
    contract_of,
    decided,
    derived,
    gates_written,
    judged_written,
    terms_of,
)
from logitproof.attestation.keys import REMEDY, Opened
from logitproof.attestation.make import payload_of, plain, subjects_of
from logitproof.attestation.seals import edited
from logitproof.attestation.statement import PAYLOAD, Predicate, Statement
from logitproof.contract.contract import Contract
from logitproof.contract.opened import OpenContract, read_contract
from logitproof.errors import ContractError, LogitproofError
from logitproof.files.causes import cause_of
from logitproof.files.hashes import file_sha256
from logitproof.files.untrusted import parse_json, refusal, validated
from logitproof.jobs.plan import matrix_cells
from logitproof.verdict.judge import Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LIMIT = 1 << 30
"""Bytes of an envelope: some 200 a position, so that this is millions of them."""
CLOSE, NOTHING = 1e-12, 1e-15
"""Relative, and beside zero absolute: another processor adds the same numbers in another order."""
FORGED = "do not rely on it: ask the team that signed it for another"
OTHER = "ask for the evidence of a run by this contract, or look at what was changed in it"


@dataclass(frozen=True)
class Verified:
    """A statement whose signature, hashes, gates and verdict hold; `verdict` is what was derived."""

    statement: Statement
    keyid: str
    verdict: Verdict
    contract: Path | None
    """the contract that it was held against"""


def verify(path: Path, key: Ed25519PublicKey, contract: Path | None = None) -> Verified:
    """Check the evidence in a file, by the public key of the team that is trusted; `contract` is what was agreed.

    Raises ContractError that names the subject or the field that does not hold.
    """
    opened = Opened(path, LIMIT)
    if opened.payload_type != PAYLOAD:
        raise refusal(path, "payloadType", f"is {opened.payload_type!a}, not {PAYLOAD!r}", REMEDY)
    record = parse_json(opened.payload, path, "payload", remedy=REMEDY)
    statement = validated(path, Statement, record, remedy=REMEDY)
    names = edited(record)
    if not names:
        keyid = opened.refuse_unsigned(key)
    if names:
        more = f" ({len(names)} such parts)" if len(names) > 1 else ""
        raise refusal(path, names[0], f"is not what its seal says: it was edited{more}", FORGED)
    if payload_of(statement) != opened.payload:
        raise refusal(path, "payload", "is not laid out as `logitproof attest` writes it", REMEDY)
    try:
        verdict = _derived(statement)
    except TermsBroken as error:
        raise refusal(path, "", f"{error}; signed as it is, it says nothing", FORGED) from None
    if contract is not None:
        _refuse_other_contract(path, statement.predicate, contract)
    return Verified(statement, keyid, verdict, contract)


def _derived(statement: Statement) -> Verdict:
    """The verdict of what was recorded; raises TermsBroken that names what is written otherwise."""
    predicate = statement.predicate
    _refuse_other_subjects(statement)
    contract = contract_of(predicate.contract.terms)
    _refuse_gaps(predicate, contract)
    try:
        verdict = derived(predicate)
    except TermsBroken:
        raise
    except (LogitproofError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise TermsBroken(f"predicate: its statistics cannot be judged: {cause_of(error)}") from None
    _refuse_other("gates", [gate.model_dump() for gate in gates_written(verdict)], plain(statement)["predicate"]["gates"])
    columns = columns_of(contract)
    for kept, cell in zip(predicate.cells, verdict.cells, strict=True):
        now = judged_written(cell, columns)
        now["coverage"] = now["coverage"].model_dump()
        _refuse_other(f"cells.{kept.id}", now, kept.model_dump(include=set(now)))
    _refuse_other("verdict", decided(verdict).model_dump(), predicate.verdict.model_dump())
    return verdict


def _refuse_other_subjects(statement: Statement) -> None:
    expected = {subject.name: subject.digest for subject in subjects_of(statement.predicate)}
    recorded = {subject.name: subject.digest for subject in statement.subject}
    if len(recorded) != len(statement.subject):
        raise TermsBroken("subject: a name stands there twice")
    for name in sorted({*expected, *recorded}):
        if expected.get(name) != recorded.get(name):
            raise TermsBroken(f"subject {name}: its hash is not the one that stands in the predicate")


def _refuse_gaps(predicate: Predicate, contract: Contract) -> None:
    """Every cell of the contract is there or said to be unmeasured, and all have the same prompts."""
    opened = OpenContract(Path(contract.contract), contract, {}, ())
    try:
        planned = {cell.id for cell in matrix_cells(opened)}
    except LogitproofError as error:
        raise TermsBroken(f"contract.terms: {error.text}") from None
    there = [cell.id for cell in predicate.cells] + [cell.cell for cell in predicate.unmeasured]
    if planned != set(there) or len(there) != len(set(there)):
        name = min(planned ^ set(there), default="one of them")
        raise TermsBroken(f"cells: {name} is left out, stands twice, or is not of the contract")
    prompts = {cell.id: [(row.suite, row.prompt_idx, row.prompt_sha256) for row in cell.rows] for cell in predicate.cells}
    for name, rows in prompts.items():
        if rows != next(iter(prompts.values())):
            raise TermsBroken(f"cells.{name}.rows: its prompts are not those of the other cells")
        if {suite for suite, _, _ in rows} != set(predicate.suites):
            raise TermsBroken(f"cells.{name}.rows: its prompts are not of the suites that are named")


def _refuse_other(place: str, anew: Any, written: Any) -> None:
    """Raise TermsBroken that names the first place where what is written is not what was derived anew."""
    for where, now, before in _differences(place, anew, written, _is_close):
        raise TermsBroken(f"{where}: the statement says {before!a}, its recorded statistics come to {now!a}")


def _differences(place: str, left: Any, right: Any, is_same: Callable[[Any, Any], bool]) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in sorted({*left, *right}):
            yield from _differences(f"{place}.{key}", left.get(key, "nothing"), right.get(key, "nothing"), is_same)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (first, second) in enumerate(zip(left, right, strict=True)):
            name = str(first.get("id", number)) if isinstance(first, Mapping) else str(number)
            yield from _differences(f"{place}.{name}", first, second, is_same)
    elif not is_same(left, right):
        yield place, left, right


def _is_close(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=CLOSE, abs_tol=NOTHING)
    return type(left) is type(right) and bool(left == right)


def _refuse_other_contract(path: Path, predicate: Predicate, contract: Path) -> None:
    """Raise ContractError where the contract is not the one of the statement, with the terms that differ."""
    read, _ = read_contract(contract)
    agreed, recorded = terms_of(read), terms_of(contract_of(predicate.contract.terms))
    others = [
        f"{where.removeprefix('.')}: the contract has {wanted!a}, the evidence {given!a}"
        for where, wanted, given in _differences("", agreed, recorded, operator.eq)
    ]
    if others:
        listed = "; ".join(others[:5]) + ("; ..." if len(others) > 5 else "")
        raise ContractError(f"is of another contract than {contract}: {listed}", where=str(path), remedy=OTHER)
    if (sha256 := file_sha256(contract)) != predicate.contract.sha256:
        text = f"was made by a file of sha256 {predicate.contract.sha256}; {contract} has {sha256}, with the same terms"
        raise refusal(path, "contract.sha256", text, OTHER)
