"""A contract alone drives a program that cannot change: ids in by argument, variable or file, logits out by text or file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.errors import ContractError, EngineError
from logitproof.jobs.worker import Spec, Worker
from logitproof.rows.top import is_top

PROGRAM = str(Path(__file__).with_name("printing_program.py"))
IDS = [5, 6, 299, 7]
TEXT = r"^pos=(?P<position>\d+) tok=(?P<id>\d+) p=(?P<logprob>\S+)"


def use(engine: str, how: str, *more: str, **options: Any) -> dict[str, Any]:
    argv = [sys.executable, PROGRAM, how, "{model}", *(more or ("{tokens}",))]
    return {"engine": engine, "options": {"argv": argv, "vocab_size": 300, **options}, "timeout": 30}


WAYS = {
    "dump": use("dumper", "dump", "{tokens}", "{out}"),
    "dump-by-variable": use("dumper", "dump", environment={"LOGITS_OUT": "{out}"}),
    "dump-by-file": use("dumper", "dump", "{tokens_file}", "{out}", tokens_as="json"),
    "dump-by-int32": use("dumper", "dump-int32", "{tokens_file}", "{out}", tokens_as="int32"),
    "dump-last": use("dumper", "dump", "{tokens}", "{out}", rows="last", environment={"LAST": "1"}),
    "events": use("stdout", "events", prefix="@logits"),
    "events-last": use("stdout", "events", prefix="@logits ", rows="last", environment={"LAST": "1"}),
    "numbers": use("stdout", "numbers", pattern=r"^row: (?P<logits>.*)$"),
}
IN_PART = {
    "top": use("stdout", "top", prefix="@logits"),
    "top-logits": use("stdout", "top-logits", prefix="@logits"),
    "text": use("stdout", "text", pattern=TEXT),
}


def worker(project: Any, how: dict[str, Any]) -> Worker:
    spec = Spec(how["engine"], how["options"], timeout=how["timeout"], directory=str(project.folder))
    return Worker(spec, name="mine")


def score(project: Any, how: dict[str, Any], mode: Any = "prefill") -> np.ndarray:
    with worker(project, how) as running:
        running.hello()
        running.load(project.model, None)
        return np.array(running.score(IDS, mode, project.folder / "logits.bin").open())


@pytest.mark.parametrize("way", WAYS)
def test_whole_rows_are_those_of_the_toy(project: Any, way: str) -> None:
    np.testing.assert_allclose(score(project, WAYS[way]), score(project, project.toy()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("way", IN_PART)
def test_the_best_entries_are_those_of_the_toy(project: Any, way: str) -> None:
    found, whole = score(project, IN_PART[way]), score(project, project.toy()).astype(np.float64)
    assert is_top(found) and found.shape == (4, 1 if way == "text" else 5)
    log_p = whole - np.log(np.exp(whole).sum(axis=1, keepdims=True))
    assert found["id"].tolist() == np.argsort(-whole, axis=1)[:, : found.shape[1]].tolist()
    np.testing.assert_allclose(found["log_probability"], np.take_along_axis(log_p, found["id"], 1), atol=1e-5)


def test_logits_without_their_sum_say_which_token_is_best_and_no_more(project: Any) -> None:
    pattern = r"^pos=(?P<position>\d+) tok=(?P<id>\d+) p=(?P<logit>\S+)"
    found = score(project, use("stdout", "text", pattern=pattern))
    assert found.shape == (4, 1) and np.isnan(found["log_probability"]).all()
    assert found["id"][:, 0].tolist() == score(project, project.toy()).argmax(axis=1).tolist()


def test_a_contract_judges_such_programs_like_any_engine(project: Any) -> None:
    same = [{"match": 1e-4, "wrong": 1e-2, "basis": "the same formula, printed or dumped as float32"}]
    exact = {"may_be_exact": "the program computes what the toy computes, in the same order"}
    named = {name: {**WAYS[name], **exact} for name in ("dump", "events", "dump-last")}
    report = project.check(candidates=named, bands=same, matrix={"mode": ["prefill", "greedy"]})
    assert report.verdict.exit_code == 0
    assert {cell.status for cell in report.verdict.cells} == {"MATCH"} and len(report.verdict.cells) == 6
    wrong = use("dumper", "dump", "{tokens}", "{out}", separator=",7,")
    assert project.check(candidates={"wrong": wrong}).verdict.exit_code == 3


FAULTS = [
    ("status", "dump", r"status 3; it gave up with: .*CUDA error 719.*\n  last words: "),
    ("crash", "dump", r"was killed by SIGABRT\n.*loading weights"),
    ("hang", "dump", r"did not end within 3 s and was killed\n.*>"),
    ("no-file", "dump", r"wrote no file \{out\}\n.*loading weights"),
    ("row-lost", "dump", "3600 bytes, 4 rows of 300 float32 are 4800"),
    ("row-lost", "events", "of 4 rows 1 are not printed, the first is position 3"),
    ("garbled", "events", "none of its events"),
    ("narrow", "events", "rows of \\[299\\] logits are printed, the vocabulary has 300"),
]


@pytest.mark.parametrize(("wrong", "way", "text"), FAULTS)
def test_what_a_program_does_wrong_is_an_engine_error_with_its_last_words(
    project: Any, wrong: str, way: str, text: str
) -> None:
    how = WAYS[way]
    options = {**how["options"], "environment": {"WRONG": wrong}, "timeout": 3.0}
    with pytest.raises(EngineError, match=f"(?s){text}"):
        score(project, {**how, "options": options})


REFUSED = [
    (use("stdout", "events"), "exactly one of prefix and pattern"),
    (use("stdout", "events", pattern="(?P<token>x)"), "one of id and logits must be there"),
    (use("stdout", "events", pattern="("), "no regular expression"),
    (use("stdout", "events", "{token}", prefix="@"), r"\{token\} stands for nothing; did you mean 'tokens'"),
    (use("stdout", "events", "5,6", prefix="@"), "nothing tells the program its tokens"),
    (use("dumper", "dump"), "nothing tells the program where to write"),
    (use("dumper", "dump", "{tokens}", "{out}", modes=["prefill", "decode"]), "which of its modes"),
    ({"engine": "dumper", "options": {"argv": ["./not-there", "{tokens}", "{out}"]}, "timeout": 9}, "no program that can be"),
]


@pytest.mark.parametrize(("how", "text"), REFUSED)
def test_what_a_contract_says_wrong_is_refused_before_anything_runs(project: Any, how: dict[str, Any], text: str) -> None:
    with pytest.raises(ContractError, match=text), worker(project, how) as running:
        running.hello()


def test_a_token_outside_the_vocabulary_and_a_mode_that_it_has_not_are_refused(project: Any) -> None:
    with worker(project, WAYS["dump"]) as running:
        running.hello()
        running.load(project.model, None)
        with pytest.raises(ContractError, match="outside the vocabulary of 300"):
            running.score([300], "prefill", project.folder / "x")
        with pytest.raises(ContractError, match="computes in prefill"):
            running.score([3], "decode", project.folder / "x")


def test_braces_and_shell_characters_reach_the_program_as_they_are(project: Any) -> None:
    show = "import sys; open('seen', 'w').write(chr(10).join(sys.argv[1:])); print('row:', *[0.5] * 300)"
    argv = [sys.executable, "-c", show, "{{}} $HOME; `x` {tokens}"]
    options = {"argv": argv, "vocab_size": 300, "pattern": "^row: (?P<logits>.*)", "rows": "last"}
    with worker(project, {"engine": "stdout", "options": options, "timeout": 30}) as running:
        running.hello()
        running.load(project.model, None)
        running.score([4], "prefill", project.folder / "x")
    assert (project.folder / "seen").read_text() == "{} $HOME; `x` 4"


def test_a_changed_script_is_another_engine(project: Any) -> None:
    script = project.write("mine.py", "print()")
    options = {"argv": [sys.executable, "mine.py", "{tokens}", "{out}"], "vocab_size": 300}
    seen = []
    for text in ("print()", "print(1)"):
        script.write_text(text)
        with worker(project, {"engine": "dumper", "options": options, "timeout": 30}) as running:
            seen.append(running.hello().versions)
    assert seen[0]["mine.py"] != seen[1]["mine.py"]
