"""Kinds with signed evidence: a verdict that was rewritten, a statement that was edited or does not follow."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from _vacuous_kinds import Kind, Outcome
from _vacuous_project import Project
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from logitproof.attestation.keys import private_key, signed
from logitproof.attestation.seals import parts_of, sealed
from logitproof.attestation.statement import PAYLOAD

WRONG = "def rows(ids): return [[2 * x for x in row(token)] for token in ids]"
VERIFY = ("verify-evidence", "run/evidence.dsse.json", "--key", "key.pub.pem")


def evidence() -> Iterator[Kind]:
    """Evidence of an engine that is wrong, or of the honest one after it was changed."""
    yield Kind("evidence: of a wrong engine", lambda project: _attested(project, WRONG) or project.command(*VERIFY))
    yield Kind("evidence: of a verdict that was rewritten", _rewritten)
    yield Kind("evidence: of a bound that was widened after the run", _widened)
    yield Kind("evidence: of weights that were replaced after the run", _replaced)
    yield Kind("evidence: by another key", _by_another_key)
    yield Kind("evidence: against a contract with a wider bound", _against_another)
    for name, change in EDITS.items():
        yield Kind(f"evidence: {name}, not signed", _edited(change, sign=False))
        yield Kind(f"evidence: {name}, signed again by its team", _edited(change, sign=True))


def _pass(statement: Any) -> None:
    statement["predicate"]["verdict"] = {"status": "PASS", "exit_code": 0}


def _holding(statement: Any) -> None:
    _pass(statement)
    for gate in statement["predicate"]["gates"]:
        gate.update(status="PASS", observed=0.0)


def _no_cells(statement: Any) -> None:
    _pass(statement)
    statement["predicate"].update(cells=[], gates=[])


def _no_rows(statement: Any) -> None:
    _holding(statement)
    for cell in statement["predicate"]["cells"]:
        cell["rows"] = cell["rows"][:0]


def _wide(statement: Any) -> None:
    _holding(statement)
    for gate in statement["predicate"]["contract"]["terms"]["gates"]:
        gate["at_most"] = 1e9


EDITS: dict[str, Callable[[Any], None]] = {
    "PASS for FAIL": _pass,
    "gates that hold": _holding,
    "no cell": _no_cells,
    "no prompt": _no_rows,
    "a bound of 1e9 in its terms": _wide,
}


def _keys(project: Project, name: str = "key") -> None:
    key = Ed25519PrivateKey.generate()
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    (project.folder / f"{name}.pem").write_bytes(secret)
    (project.folder / f"{name}.pub.pem").write_bytes(public)


def _attested(project: Project, changes: str = "") -> Outcome | None:
    """Run and attest; what went otherwise than it should."""
    project.check(candidates={"mine": project.engine(changes)})
    _keys(project)
    code, said = project.command("attest", "run", "--key", "key.pem")
    return (0, f"it could not be attested: {said}") if code else None


def _rewritten(project: Project) -> Outcome:
    project.check(candidates={"mine": project.engine(WRONG)})
    path = project.folder / "run/verdict.json"
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, "status": "PASS", "exit_code": 0, "reason": ""}), "utf-8")
    _keys(project)
    return project.command("attest", "run", "--key", "key.pem")


def _widened(project: Project) -> Outcome:
    use = project.engine(WRONG)
    project.check(candidates={"mine": use})
    wide = [{"id": "kl", "metric": "kl_divergence", "at_most": 1e9, "basis": "far above everything that is"}]
    project.contract(candidates={"mine": use}, gates=wide)
    _keys(project)
    return project.command("attest", "run", "--key", "key.pem")


def _replaced(project: Project) -> Outcome:
    project.check()
    project.write("weights.json", '{"vocab_size": 40, "other": 1}')
    _keys(project)
    return project.command("attest", "run", "--key", "key.pem")


def _by_another_key(project: Project) -> Outcome:
    failed = _attested(project)
    _keys(project, "other")
    return failed or project.command(*VERIFY[:3], "other.pub.pem")


def _against_another(project: Project) -> Outcome:
    failed = _attested(project)
    wide = [{"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": "far above everything that is"}]
    path = project.contract(gates=wide)
    return failed or project.command(*VERIFY, "--contract", path.name)


def _edited(change: Callable[[Any], None], *, sign: bool) -> Callable[[Project], Outcome]:
    def run(project: Project) -> Outcome:
        if failed := _attested(project, WRONG):
            return failed
        path = project.folder / "run/evidence.dsse.json"
        envelope = json.loads(path.read_text("utf-8"))
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement)
        statement["predicate"]["seals"] = sealed(parts_of(statement))
        payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
        if sign:
            path.write_bytes(signed(payload, PAYLOAD, private_key(project.folder / "key.pem")))
        else:
            envelope["payload"] = base64.b64encode(payload).decode()
            path.write_text(json.dumps(envelope, indent=1) + "\n", "utf-8")
        return project.command(*VERIFY)

    return run
