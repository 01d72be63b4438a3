"""A folder that one process at a time works in: the second is told whose it is and since when."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import environment_errors
from logitproof.files.untrusted import parse_json

NAME = "in-use.json"


@contextlib.contextmanager
def in_use(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` while the body runs; the system lets go of it when the process ends, however it ends.

    Raises EnvironmentFailed that names the other process, what it does (`what`) and since when.
    """
    with environment_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = f"is in use by another run{_holder(descriptor)}"
            raise EnvironmentFailed(text, where=str(folder), remedy="wait until it ends, or give another --out") from None
        with environment_errors(folder):
            record = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds"), "what": what}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(record).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """What the holder wrote of itself; nothing where it has not yet."""
    try:
        record = parse_json(os.pread(descriptor, 4096, 0), Path(NAME), "record")
        return f": {record['what']}, process {record['pid']}, since {record['since']}"
    except (OSError, ContractError, KeyError, TypeError):
        return ""
