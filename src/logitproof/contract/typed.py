"""Types of what people write into YAML: exactly those that the published JSON Schema names.

A truth is no number, a text is no number, and a day is a day. A whole number may be written 5.0, as JSON Schema has it.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from logitproof.files.forms import NAME, REASON

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
GLOB = "*?[]"
_DAY = r"^\d{4}-\d{2}-\d{2}$"


def _integral(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _day(value: Any) -> Any:
    """A day, or a text that spells one: YAML makes a day of it where it has no quotes."""
    if isinstance(value, str) and re.match(_DAY, value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value} is no day of the calendar") from None
    if isinstance(value, datetime) or not isinstance(value, date):
        raise ValueError("must be a date, such as 2026-12-31")
    return value


def _label(value: str) -> str:
    """A name that is part of a cell's id, in which globs select."""
    if not re.fullmatch(NAME, value):
        blank = "has blanks around it" if value != value.strip() else "has a character that nobody sees"
        fault = blank if value else "is empty"
        raise ValueError(f"cannot be a name: it {fault}")
    if "/" in value or value == "reference" or set(value) & set(GLOB):
        raise ValueError("cannot be a name: it is part of a cell's id, in which '/', '*', '?', '[' and ']' mean something else")
    return value


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, Field(ge=0), BeforeValidator(_integral)]
Positive = Annotated[int, Field(ge=1), BeforeValidator(_integral)]
Day = Annotated[date, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date", "pattern": _DAY})]
Reason = Annotated[str, Field(min_length=10, pattern=REASON)]
"""Why something is so: some words, not blanks."""
Name = Annotated[str, Field(pattern=NAME)]
"""What stands in tables and lines of a log: one line, all of it seen."""
Label = Annotated[str, AfterValidator(_label)]
FilePath = Annotated[str, Field(min_length=1)]
Pair = Annotated[tuple[str, str], BeforeValidator(_pair)]
