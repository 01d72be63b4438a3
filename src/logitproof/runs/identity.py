"""The id of a run: its own, not its folder's. A killed run that is continued keeps it, a new run gets another.

RUN/begun.json       the id and what was begun under it, from the start of a run to its end
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path

from logitproof.contract.opened import OpenContract
from logitproof.errors import ContractError
from logitproof.files.atomic import content_key, write_atomically
from logitproof.files.untrusted import read_object


def new_run_id() -> str:
    """An id that sorts by the time of its making, such as `20260131T120000.000000Z-0123abcd`: UTC, and 32 random bits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def begin(folder: Path, opened: OpenContract, only: str, *, fresh: bool) -> str:
    """The id of the run that begins in `folder`: that of one that was killed there over the same contract, or a new one."""
    path = folder / "begun.json"
    what = content_key({"contract": opened.path.read_text("utf-8"), "suites": [s.sha256 for s in opened.suites], "only": only})
    try:
        record = read_object(path)
        if not fresh and record["what"] == what:
            return str(record["run_id"])
    except (ContractError, KeyError):
        pass
    run_id = new_run_id()
    write_atomically(path, json.dumps({"run_id": run_id, "what": what}))
    return run_id


def end(folder: Path) -> None:
    """The run has ended: whatever runs next in `folder` is another."""
    (folder / "begun.json").unlink(missing_ok=True)
