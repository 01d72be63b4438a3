"""Why something could not be read, in a few words: what Python says of a key, a type or an index is for programmers."""

from __future__ import annotations

import re

from pydantic import ValidationError

from logitproof.errors import LogitproofError
from logitproof.files import system
from logitproof.files.worded import in_words


def cause_of(error: Exception) -> str:
    """The words of an exception that is quoted inside of another text: one line, without a remedy of its own."""
    if isinstance(error, LogitproofError):
        return f"{error.where}: {error.text}" if error.where else error.text
    if isinstance(error, ValidationError):
        return in_words(error)
    if isinstance(error, OSError) and error.errno:
        return system.in_words(error)
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 text"
    if isinstance(error, KeyError) and error.args:
        return _of_key(error.args[0])
    for kinds, words in WORDS:
        if isinstance(error, kinds):
            return words
    text = " ".join(str(error).split()) or type(error).__name__
    return next((match.expand(words) for pattern, words in OF_NUMPY if (match := re.fullmatch(pattern, text))), text)


OF_NUMPY = (
    (r"cannot reshape array of size (\d+) into shape (\(.*\))", r"\1 numbers do not fill the shape \2"),
    (r"axes don't match array", "it has other axes than are named"),
)
WORDS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((TypeError, AttributeError), "a value in it is of another type than it must be"),
    ((IndexError,), "there are fewer entries than an index names"),
    ((RecursionError,), "it is nested too deep"),
    ((ArithmeticError,), "a number in it is too large, or nothing where it must not be"),
)


def _of_key(key: object) -> str:
    """A key that is missing; what was raised as a sentence is one."""
    if isinstance(key, str) and " " in key:
        return " ".join(key.split())
    return f"it has no {key!r}" if isinstance(key, str) else f"{key!r} is not known"
