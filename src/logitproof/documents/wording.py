"""Text made fit for a file or a terminal: nothing that a prompt, a token or an engine says can break a layout."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP = re.compile(r"[\\`*_\[\]<>|~&#$@]")
_MARKER = re.compile(r"^(\d*)([-+=.)])")
_COMMAND = re.compile(
    r"::(?=(?:add-mask|add-matcher|add-path|debug|echo|endgroup|error|group|internal-set-repo-path|notice|remove-matcher"
    r"|save-state|set-env|set-output|stop-commands|warning)\b)|##(?=\[|vso\[)",
    re.IGNORECASE,
)
"""What a runner of CI takes for a command to itself: GitHub at the beginning of a line, the older forms anywhere in one."""


def visible(text: str) -> str:
    """One line in which control characters, all else that cannot be printed and commands to CI stand as escapes.

    Every text that somebody else may have written goes through here, whatever lays it out: an engine's error, a prompt's
    id, the name of a candidate. The escapes are those of JSON.
    """
    line = text if text.isprintable() else "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
    return _COMMAND.sub(lambda match: f"\\u{ord(match[0][0]):04x}{match[0][1:]}", line)


def visible_lines(text: str) -> str:
    """`visible` of each line of a text whose line breaks are ours."""
    return "\n".join(visible(line) for line in text.split("\n"))


def code(text: str) -> str:
    """Markdown: text as it is, as one line of code that ends neither the code nor a table's cell."""
    line = visible(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line[:1] in ("`", " ", "") or line[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def next_line(command: str) -> str:
    """Markdown: the next command as code, and behind it what it is for, whose own commands are code too."""
    first, _, purpose = command.partition("   # ")
    pieces = [
        code(piece) if index % 2 else _MARKUP.sub(r"\\\g<0>", visible(piece)) for index, piece in enumerate(purpose.split("`"))
    ]
    return f"Next: {code(first)}" + (f" ({''.join(pieces)})" if purpose else "")


def number_of(number: int, noun: str) -> str:
    """A number of things: 1 cell, 2 cells."""
    return f"{number} {noun}{'s' * (number != 1)}"


def words(text: str) -> str:
    """Markdown: text of a contract or an error on one line, none of it read as markup."""
    return _MARKUP.sub(lambda match: f"\\{match[0]}", visible(" ".join(text.split())))


def paragraph(text: str) -> str:
    """`words` for the beginning of a line, where a dash or a number would begin a list."""
    return _MARKER.sub(r"\1\\\2", words(text))


def legal_xml(text: str) -> str:
    """Text that XML 1.0 may hold; what it may not becomes the replacement character."""
    return _NOT_XML.sub("\ufffd", text)


def encodable(text: str) -> str:
    """Text that UTF-8 may hold: a lone surrogate becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in which letters stay readable; NaN and infinities are null, and no line is broken in a string."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return visible_lines(encodable(text))


def number(value: float | None) -> str:
    """Three digits that count; a dash where nothing was measured."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


def percent(share: float | None, digits: int) -> str:
    """A share in percent, cut off and not rounded, so that only all is 100."""
    if share is None or not math.isfinite(share):
        return "–"
    return f"{math.floor(share * 100 * 10**digits + 1e-9) / 10**digits:.{digits}f}"


def plain(value: Any) -> Any:
    """What JSON has: records are objects, tuples are lists, paths are texts, and numbers that are not finite are null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return str(value) if isinstance(value, Path) else value
