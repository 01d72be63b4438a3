"""How an error names a request, and what came in place of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

SHOWN = 120
"""Bytes of a wrong answer that are quoted."""
STRAY = "stdout belongs to the protocol, log to stderr"
ENVELOPE = (
    'an answer is {"id": …, "result": {…}} or {"id": …, "error": {"kind": "failed", "message": …}}, with the id of the request'
)
RECORD = TypeAdapter(dict[str, Any])
SPLIT = "an answer is one line: print its JSON without newlines in it"


def described(method: str, params: Mapping[str, Any]) -> str:
    """A request as an error names it: the method, how many tokens or what file, and the mode."""
    parts = []
    if isinstance(ids := params.get("token_ids"), list):
        parts.append(f"of {len(ids)} token{'s' * (len(ids) != 1)}")
    if isinstance(sequences := params.get("sequences"), list):
        parts.append(f"of {len(sequences)} sequences")
    if isinstance(text := params.get("text"), str):
        parts.append(f"of a text of {len(text)} letters")
    if isinstance(model := params.get("model"), str):
        parts.append(f"of {Path(model).name}")
    if isinstance(mode := params.get("mode"), str):
        parts.append(f"in {mode}")
    return " ".join([f"`{method}`", *parts])


def is_begun(line: bytes) -> bool:
    """Whether a line is the beginning of a JSON object or list whose end stands in a later one."""
    text = line.strip()
    if _record(line) is not None:
        return False
    return text[:1] in (b"{", b"[") and text.count(b"{") + text.count(b"[") > text.count(b"}") + text.count(b"]")


def stray(line: bytes, method: str, fault: str) -> tuple[str, str]:
    """What a line is that is no answer to `method`, and what to do; `fault` is what is wrong with it as an answer."""
    text = f"answered `{method}` with something that is not the protocol: {shown_bytes(line)}"
    record = _record(line)
    if record is None:
        return text, SPLIT if is_begun(line) else STRAY
    if record.keys() & {"id", "result", "error", "part", "progress"}:
        return f"its answer to `{method}` breaks the protocol: {fault}: {shown_bytes(line)}", ENVELOPE
    return text, f"{ENVELOPE}; whatever is no answer belongs on stderr"


def _record(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line, or None."""
    try:
        return RECORD.validate_json(line)
    except ValidationError:
        return None


def shown_bytes(data: bytes) -> str:
    """The beginning of what an engine wrote, as one line."""
    text = data[:SHOWN].decode("utf-8", "backslashreplace").rstrip("\n")
    return f"{text!r}{' …' if len(data) > SHOWN else ''}"
