"""The server's life: it listens, says where, and ends with Ctrl+C."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from logitproof.errors import ContractError
from logitproof.files.system import in_words
from logitproof.runs.ledger import Ledger
from logitproof.web.app import LOOPBACK, application


def serve(ledger: Ledger, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until it is ended; ContractError where the address cannot be had."""
    listening = listen(host, port)
    here = is_loopback(host)
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{listening.getsockname()[1]}")
    if not here:
        say(f"{host} is no loopback address: whoever reaches this machine sees every run, without a password")
    config = uvicorn.Config(application(ledger, LOOPBACK if here else ()), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        text = f"cannot listen there: {in_words(error)}"
        raise ContractError(
            text, where=f"{host}:{port}", remedy="name another --port or --host; port 0 is any free one"
        ) from None
    return listening


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
