"""What pydantic found wrong, in our own words: its texts are for programmers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import ValidationError

from logitproof.files.forms import FORMS

WORDS = {
    "too_short": "needs at least {min_length} entries",
    "too_long": "may have at most {max_length} entries",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dataclass_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "string_type": "must be a text",
    "string_too_short": "needs at least {min_length} letters",
    "string_too_long": "may have at most {max_length} letters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "string_unicode": "must be a text in UTF-8",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "multiple_of": "must be a multiple of {multiple_of}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "none_required": "must be left out",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "date_type": "must be a date, such as 2026-12-31",
    "date_parsing": "must be a date, such as 2026-12-31",
    "date_from_datetime_parsing": "must be a date, such as 2026-12-31",
    "date_from_datetime_inexact": "must be a date, such as 2026-12-31",
    "json_invalid": "is no JSON",
    "json_type": "must be JSON",
    "path_type": "must be a path",
    "bytes_type": "must be bytes",
    "missing": "is missing",
    "missing_argument": "is missing",
    "extra_forbidden": "is not known here",
    "unexpected_keyword_argument": "is not known here",
    "recursion_loop": "stands within itself",
    "value_error": "{error}",
    "assertion_error": "{error}",
}
"""What is wrong, by pydantic's name for it."""
SINGULAR = {
    "needs at least 1 entries": "needs at least 1 entry",
    "may have at most 1 entries": "may have at most 1 entry",
    "needs at least 1 letters": "must not be empty",
}
UNKNOWN = "is not what is asked for here"
_BRANCH = re.compile(
    r"(?:float|int|str|bool|none|list|dict|tuple|date|literal|constrained|function|json-or-python|lax-or-strict|nullable|union"
    r"|model|is-instance|chain|default|definition)(?:-[a-z]+)*(?:\[.*\])?|[A-Z]\w*"
)
"""How pydantic calls a branch of a union within a place: no key of a file."""
ABSENT = ("missing", "extra_forbidden", "missing_argument", "unexpected_keyword_argument")
"""Faults of a key itself, which is the last of its place."""
SHOWN = 80
"""Characters of a wrong value that are quoted."""


def worded(fault: Mapping[str, Any]) -> str:
    """What is wrong with one value, without its place."""
    words = FORMS.get(str(fault.get("ctx", {}).get("pattern"))) or WORDS.get(fault["type"])
    text = words.format(**fault.get("ctx", {})) if words else UNKNOWN
    return SINGULAR.get(text, text)


def place_of(fault: Mapping[str, Any], data: Any = None) -> tuple[str | int, ...]:
    """Where it stands in the file: the keys, without the branches of a union, which pydantic counts as such.

    With the `data` that was validated the keys are those that it has; without it a branch is known by its form.
    """
    keys: list[str | int] = []
    inside = data
    for number, key in enumerate(fault["loc"]):
        if data is None:
            is_key = isinstance(key, int) or number == 0 or not _BRANCH.fullmatch(key)
        elif isinstance(inside, dict):
            is_key = key in inside or (number == len(fault["loc"]) - 1 and fault["type"] in ABSENT)
            inside = inside.get(key, inside)
        else:
            is_key = isinstance(inside, list) and isinstance(key, int) and key < len(inside)
            inside = inside[key] if is_key else inside
        if is_key:
            keys.append(key)
    return tuple(keys)


def together(error: ValidationError, data: Any) -> list[tuple[tuple[str | int, ...], str, Mapping[str, Any]]]:
    """Place, words and fault of everything that is wrong, once a place: what may be one of several is told as one."""
    by_place: dict[tuple[str | int, ...], tuple[list[str], Mapping[str, Any]]] = {}
    places = [place_of(fault, data) for fault in error.errors()]
    for place, fault in zip(places, error.errors(), strict=True):
        # of the branches of a union the one that was meant is told: the one in which something is read
        is_branch = len(place) < len(fault["loc"])
        if is_branch and any(deeper[: len(place)] == place and len(deeper) > len(place) for deeper in places):
            continue
        words, _ = by_place.setdefault(place, ([], fault))
        if (text := worded(fault)) not in words:
            words.append(text)
    return [(place, _joined(words), fault) for place, (words, fault) in by_place.items()]


def _joined(words: list[str]) -> str:
    return " or ".join([words[0], *(more.removeprefix("must be ") for more in words[1:])])


def quoted(value: Any) -> str:
    """The offending value, if it is one that can be shown in a line."""
    if isinstance(value, dict | list):
        return ""
    shown = _as_written(value)
    return f", got {shown if len(shown) <= SHOWN else f'{shown[: SHOWN - 1]}…'}"


def _as_written(value: Any) -> str:
    """A value as a file writes it, not as Python does."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else repr(value)


def in_words(error: ValidationError, *before: str | int) -> str:
    """The first thing that is wrong with a value, with its place under the keys `before`."""
    place, text = in_parts(error, *before)
    return f"`{place}` {text}" if place else text


def in_parts(error: ValidationError, *before: str | int) -> tuple[str, str]:
    """The place of the first thing that is wrong, under the keys `before`, and what it is."""
    fault = error.errors()[0]
    text = f"{worded(fault)}{'' if fault['type'] in (*ABSENT, 'value_error') else quoted(fault['input'])}"
    return ".".join(str(key) for key in (*before, *place_of(fault))), text
