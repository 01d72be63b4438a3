"""`logitproof serve`."""

from __future__ import annotations

import click

from logitproof.commands._exits import Exits, ends_with


@ends_with(Exits("it was ended"))
@click.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port; 0 is any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; any but a loopback is seen by others.")
def command(port: int, host: str) -> None:
    """Show the history as pages of a local web server.

    Runs, every gate over time, two runs side by side, and how far a run has come. Nothing is served beyond this machine
    unless --host says so; there is no password. Ctrl+C ends it.
    """
    from logitproof.commands._say import note
    from logitproof.errors import ContractError
    from logitproof.runs.ledger import open_ledger

    try:
        from logitproof.web.server import serve
    except ImportError as error:
        remedy = "pip install 'logitproof[serve]'"
        raise ContractError(f"{error.name} is not installed", where="logitproof serve", remedy=remedy) from None
    serve(open_ledger(), host, port, note)
