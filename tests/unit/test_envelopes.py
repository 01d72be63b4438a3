"""A line that is meant as an answer and is none is told as that, by its field; only what is no answer is sent to stderr."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from logitproof.jobs.shown import ENVELOPE, SPLIT, STRAY, is_begun, stray

FAULT = "`id` is missing"
MEANT: dict[str, Any] = {
    "no id": {"result": {"token_ids": [1]}},
    "an error that is a text": {"id": 1, "error": "out of memory"},
    "an error without its kind": {"id": 1, "error": {"message": "no [31m { [ closes"}},
    "a result that is a list": {"id": 1, "result": []},
    "an id alone": {"id": "a"},
}
STRAYS: dict[str, tuple[bytes, str]] = {
    "a line of a log": (b"loading...\n", STRAY),
    "a number": (b"3\n", STRAY),
    "a list": (b"[1, 2]\n", STRAY),
    "an answer over many lines": (b"{\n", SPLIT),
    "the beginning of an answer": (b'{"id": 1, "result": {\n', SPLIT),
    "bytes that are no text": (b"\xff\xfe{}\n", STRAY),
    "deeper than anyone writes": (b'{"id":' * 5000, SPLIT),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_is_meant_as_an_answer_is_told_by_its_field(name: str) -> None:
    line = json.dumps(MEANT[name]).encode()
    text, remedy = stray(line, "score", FAULT)
    assert "breaks the protocol" in text and FAULT in text and remedy == ENVELOPE and not is_begun(line)


@pytest.mark.parametrize("name", STRAYS)
def test_what_is_no_answer_is_told_so(name: str) -> None:
    line, wanted = STRAYS[name]
    text, remedy = stray(line, "score", FAULT)
    assert "not the protocol" in text and remedy == wanted


def test_a_record_of_something_else_is_told_both() -> None:
    text, remedy = stray(b'{"level": "info", "msg": "loaded"}', "load", FAULT)
    assert "not the protocol" in text and ENVELOPE in remedy and "stderr" in remedy


BROKEN: dict[str, tuple[str, str, str]] = {
    "no id": ('{"result": {}}', r"breaks the protocol: `id` is missing", "with the id of the request"),
    "an error that is a text": ('{"id": %d, "error": "no"}', r"`error` must be a mapping, got 'no'", '"kind"'),
    "neither": ('{"id": %d}', "with neither result nor error", '"result"'),
    "another id": ('{"id": 99, "result": {}}', "answered request 99, request", "with its own `id`"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_engine_that_breaks_the_envelope_has_its_remedy(project: Any, name: str) -> None:
    answer, text, remedy = BROKEN[name]
    write = f"""
        def score(p):
            line = {answer!r}
            line = line.replace("%d", str(number))
            sys.stdout.write(line + chr(10))
            sys.stdout.flush()
    """
    report = project.check(candidates={"mine": project.engine(write)})
    assert report.verdict.status == "ERROR"
    words = [(failure.text, failure.remedy) for failure in report.verdict.cells[0].failures]
    assert words and all(re.search(text, fault) and re.search(remedy, cure) for fault, cure in words), words
