"""`logitproof attest`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import WRITTEN, ends_with
from logitproof.commands._paths import RUN


@ends_with(WRITTEN)
@click.command("attest")
@click.argument("run", type=RUN, metavar="RUN|CONTRACT")
@click.option("--key", required=True, type=click.Path(path_type=Path, dir_okay=False), help="Ed25519 private key, in PEM.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default RUN/evidence.dsse.json.")
def command(run: Path, key: Path, out: Path | None) -> None:
    """Sign a statement about a run, for teams without it.

    An in-toto Statement in a DSSE envelope, with all that the verdict was reached from. A key is made by
    `openssl genpkey -algorithm ed25519 -out key.pem`; `openssl pkey -in key.pem -pubout` writes its public half.
    """
    from logitproof.attestation.keys import private_key, signed
    from logitproof.attestation.make import payload_of, statement_of
    from logitproof.attestation.statement import PAYLOAD
    from logitproof.commands._say import note
    from logitproof.files.atomic import write_atomically
    from logitproof.runs.workspace import Workspace

    signer = private_key(key)
    statement = statement_of(Workspace(run))
    path = out or run / "evidence.dsse.json"
    write_atomically(path, signed(payload_of(statement), PAYLOAD, signer))
    verdict = statement.predicate.verdict.status
    note(f"{path}: {verdict}, {len(statement.subject)} subjects, {len(statement.predicate.gates)} gates, signed")
    note(f"next: logitproof verify-evidence {path} --key PUBLIC.pem --contract CONTRACT")
