"""Forms of texts that files have, as patterns, and what each asks for in words: nobody is shown a pattern."""

from __future__ import annotations

_UNSEEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""Control characters, those that turn the direction of a line, and blanks of no width."""
NAME = rf"^[^\s{_UNSEEN}](?:[^{_UNSEEN}]*[^\s{_UNSEEN}])?$"
REASON = r"\S(?:.|\s){8,}\S"
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
VERSION = r"^\d+\.\d+\.\d+([-+].*)?$"
OF_PREFLIGHT = r"^PF\d{3}$"
OF_LINT = r"^LP\d{3}$"
SHA256 = r"^[0-9a-f]{64}$"
SHA256_START = r"^[0-9a-f]{12,64}$"
COMMIT = r"^([0-9a-f]{40})?$"
ITEM = r"^[\w.-]+/[\w.-]+#[\w.-]+$"
FORMS = {
    NAME: "must be a name in one line: not empty, no blanks around it, no characters that nobody sees",
    REASON: "needs at least 10 letters, blanks around them not counted",
    PLAIN_NAME: "must be a name of letters, digits, '.', '_' and '-' that begins with a letter or a digit",
    VERSION: "must be a version of three numbers, such as 1.0.0",
    OF_PREFLIGHT: "must be a code of preflight, such as PF402",
    OF_LINT: "must be a code of lint, such as LP011",
    SHA256: "must be a sha256: 64 digits of 0 to 9 and a to f",
    SHA256_START: "must be a sha256, or the first 12 digits or more of one: 0 to 9 and a to f",
    COMMIT: "must be a commit: 40 digits of 0 to 9 and a to f",
    ITEM: "must be an item, such as owner/repository#12",
}
