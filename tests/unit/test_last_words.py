"""What is quoted of a program that ended: how it began, with what it gave up, and how it ended."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.engines._tool import quoted
from logitproof.errors import EngineDied
from logitproof.files.last_words import Words, cause, last_words, shortened
from logitproof.jobs.spec import Spec
from logitproof.jobs.worker import Worker

GO = ["loading"] * 9 + ["panic: index out of range [7] with length 3", "", "goroutine 1 [running]:"]
GO += [f"main.go:{n} +0x{n}" for n in range(40)]
PYTHON = [
    "Traceback (most recent call last):",
    *(f'  File "engine.py", line {n}, in score' for n in range(40)),
    "    return rows[7]",
    "IndexError: list index out of range",
]
AGAIN = "During handling of the above exception, another exception occurred:"
DEATHS: dict[str, tuple[list[str], str]] = {
    "Go": (GO, "panic: index out of range [7] with length 3"),
    "Python": (PYTHON, "IndexError: list index out of range"),
    "Python, after another": (
        [*PYTHON, "", AGAIN, "", *PYTHON[:-1], "mine.EngineError: no such layer"],
        "mine.EngineError: no such layer",
    ),
    "Rust": (
        ["thread 'main' panicked at src/main.rs:7:5:", "index out of bounds: the len is 3", *["  at frame"] * 40],
        "thread 'main' panicked at src/main.rs:7:5: index out of bounds: the len is 3",
    ),
    "C++": (
        [*["log"] * 30, "terminate called after throwing an instance of 'std::runtime_error'", "  what():  no tensor blk.0"],
        "terminate called after throwing an instance of 'std::runtime_error' what():  no tensor blk.0",
    ),
    "C": (
        [*["log"] * 30, "engine: attention.c:17: attend: Assertion `n < max' failed.", *["frame"] * 30],
        "engine: attention.c:17: attend: Assertion `n < max' failed.",
    ),
    "ggml": (
        [*["log"] * 30, "/src/ggml.c:3: GGML_ASSERT(n > 0) failed", *["frame"] * 30],
        "/src/ggml.c:3: GGML_ASSERT(n > 0) failed",
    ),
    "Java": (
        [*["log"] * 30, 'Exception in thread "main" java.lang.IndexOutOfBoundsException: 7', *["\tat a.b"] * 40],
        'Exception in thread "main" java.lang.IndexOutOfBoundsException: 7',
    ),
    "Zig": (["thread 99 panic: index out of bounds", *["frame"] * 40], "thread 99 panic: index out of bounds"),
    "JavaScript": (
        ["/engine.js:3", "    throw new RangeError('no');", "    ^", "", "RangeError: no", *["    at f"] * 40],
        "RangeError: no",
    ),
    "C#": (
        ["Unhandled exception. System.IndexOutOfRangeException: no", *["   at f"] * 40],
        "Unhandled exception. System.IndexOutOfRangeException: no",
    ),
    "Swift": ([*["log"] * 30, "Fatal error: Index out of range", *["frame"] * 30], "Fatal error: Index out of range"),
    "a harmless error before": (
        ["RuntimeError: no CUDA, the CPU it is", *["log"] * 40, *GO],
        "panic: index out of range [7] with length 3",
    ),
    "a compiler": (
        ["make: go", "main.c:3:5: error: expected ';'", *["note"] * 40, "make: *** [all] Error 1"],
        "main.c:3:5: error: expected ';'",
    ),
}


@pytest.mark.parametrize("kind", DEATHS)
def test_first_last_and_telling_lines_are_kept_however_few_are_shown(kind: str) -> None:
    lines, told = DEATHS[kind]
    kept = Words(lines).kept()
    assert cause(kept) == cause(lines) == told
    assert kept[0] == lines[0] and kept[-1] == lines[-1] and len(kept) < 40
    for most in (6, 8, 12):
        shown = shortened(kept, most)
        assert shown[0] == lines[0] and shown[-1] == lines[-1] and len(shown) <= most
        assert cause(shown) == told or told in " ".join(line.strip() for line in shown)


@pytest.mark.parametrize("lines", [[], ["one"], ["loaded 3 tensors", "listening"], ["Errors: 0", "no panic: fine"]])
def test_what_is_no_death_is_called_none(lines: list[str]) -> None:
    assert cause(lines) == "" and Words(lines).kept() == lines and shortened(lines, 6) == lines


def test_lines_left_out_are_counted() -> None:
    kept = Words(f"line {n}" for n in range(100)).kept()
    assert kept[4] == "… 76 lines …" and kept[3] == "line 3" and kept[5] == "line 80"


def test_a_tool_and_a_worker_quote_the_panic(tmp_path: Path) -> None:
    assert "panic: index out of range" in quoted("\n".join(GO)) and "main.go:39" in quoted("\n".join(GO))
    assert last_words("\n\na\n\n") == ["a"] and quoted("") == "it said nothing"
    script = tmp_path / "engine.py"
    script.write_text(
        f"import sys\nsys.stdin.readline()\nsys.stderr.write({chr(10).join(GO)!r})\nsys.stderr.flush()\nsys.exit(2)\n"
    )
    with (
        Worker(Spec("command", {"argv": [sys.executable, str(script)]}), name="mine") as worker,
        pytest.raises(EngineDied) as died,
    ):
        worker.hello()
    first, *rest = died.value.text.splitlines()
    assert re.search(
        r"ended during `hello` \(exit code 2\); .*it gave up with: panic: index out of range \[7\] with length 3", first
    )
    assert any("loading" in line for line in rest) and "main.go:39" in rest[-1]


def test_protocol_test_shows_a_panic_once_with_its_lines_and_does_not_blame_the_rule(tmp_path: Path) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text(PANICS.format(panic="\n".join(GO)))
    (tmp_path / "m.json").write_text('{"vocab_size": 40}')
    words = ["protocol", "test", f'command:{tmp_path}/m.json?argv=["{sys.executable}", "{engine}"]', "--timeout", "20"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and "\\n" not in done.output
    assert done.output.count("main.go:39") == 1 and done.output.count("goroutine 1") == 1
    assert "look for an overflow" not in done.output and "causal mask" not in done.output
    last = done.output.strip().splitlines()[-1]
    assert "first to mend: shape: score of 7 tokens in prefill → its process ended (status 2) with: panic: index out of" in last


PANICS = """
import json, os, sys
for line in sys.stdin:
    try:
        request = json.loads(line)
        method, number = request["method"], request["id"]
    except (ValueError, TypeError, KeyError):
        print(json.dumps({{"id": -1, "error": {{"kind": "refused", "message": "no request"}}}}), flush=True)
        continue
    if method == "hello":
        answer = {{"result": {{"protocol": 1, "engine": "mine", "versions": {{}}}}}}
    elif method == "load":
        answer = {{"result": {{"vocab_size": 40}}}}
    elif method == "score":
        sys.stderr.write('''{panic}'''); sys.stderr.flush(); os._exit(2)
    else:
        answer = {{"error": {{"kind": "unsupported", "message": method}}}}
    print(json.dumps({{"id": number, **answer}}), flush=True)
"""
