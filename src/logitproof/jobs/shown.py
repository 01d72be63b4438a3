"""How an error names a request, and what came in place of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHOWN = 120
"""Bytes of a wrong answer that are quoted."""
STRAY = "stdout belongs to the protocol, log to stderr"
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
    return text[:1] in (b"{", b"[") and text.count(b"{") + text.count(b"[") > text.count(b"}") + text.count(b"]")


def remedy_of_stray(line: bytes) -> str:
    """What to do about a line on stdout that is not the protocol."""
    return SPLIT if is_begun(line) else STRAY


def shown_bytes(data: bytes) -> str:
    """The beginning of what an engine wrote, as one line."""
    text = data[:SHOWN].decode("utf-8", "backslashreplace").rstrip("\n")
    return f"{text!r}{' …' if len(data) > SHOWN else ''}"
