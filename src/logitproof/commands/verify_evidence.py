"""`logitproof verify-evidence`."""

from __future__ import annotations

from pathlib import Path

import click

from logitproof.commands._exits import Exits, ends_with
from logitproof.commands._options import AS_JSON


@ends_with(
    Exits(
        "it is genuine: PASS",
        "it is genuine: FAIL",
        "it is genuine: ERROR, nothing was proven",
        wrong="it is not genuine, of another contract, or a set-up ERROR",
    )
)
@click.command("verify-evidence")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--key", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The signer's public key, in PEM.")
@click.option("--contract", type=click.Path(path_type=Path, dir_okay=False), help="Must be the one that it was judged by.")
@AS_JSON
def command(file: Path, key: Path, contract: Path | None, as_json: bool) -> None:
    """Verify signed evidence offline, without an engine.

    Every gate and the verdict are derived again from the recorded statistics; the exit code is that verdict's.
    """
    from logitproof.attestation.keys import public_key
    from logitproof.attestation.text import answer, document
    from logitproof.attestation.verify import verify
    from logitproof.commands._answer import tell

    verified = verify(file, public_key(key), contract)
    tell(document(file, verified), answer(file, verified), as_json=as_json)
