"""`protocol test` breaks exactly the rule that an engine breaks, and says what was sent and what came back."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.conformance.conformance import RULES, Conformance, Row, conformance
from logitproof.conformance.rules import stdout
from logitproof.conformance.session import Broken
from logitproof.conformance.wire import Noted, Wire
from logitproof.errors import ContractError, EngineDied
from logitproof.jobs.address import parse_address
from logitproof.jobs.shown import SPLIT
from logitproof.jobs.spec import Spec

ENGINE = Path(__file__).with_name("faulty_engine.py")

PRETTY = "import json; input(); print(json.dumps({'id': 1, 'result': {'protocol': 1}}, indent=1), flush=True); input()"
FAULTS = {
    "": set(),
    "progress": set(),
    "offers-nothing": set(),
    "version-2": {"hello"},
    "extra-field-of-hello": {"hello"},
    "unknown-method-failed": {"unknown method"},
    "dies-of-a-method": {"unknown method"},
    "dies-of-a-line": {"malformed line"},
    "dies-before-load": {"before load"},
    "missing-file-taken": {"missing file"},
    "file-not-named": {"missing file"},
    "truncated-file-taken": {"truncated file"},
    "narrow-rows": {"shape"},
    "header-in-file": {"size"},
    "other-path": {"size", "any path"},
    "nan": {"finite"},
    "probabilities": {"logits"},
    "percentages": {"logits"},
    "base-2": {"logits"},
    "surprisals": {"logits", "greedy"},
    "log-probabilities": set(),
    "flat": {"logits", "greedy"},
    "big-endian": {"finite", "logits", "greedy"},
    "same-row": {"logits", "greedy"},
    "transposed": {"prefix", "tail", "greedy"},
    "shifted": {"prefix", "greedy"},
    "last-row-only": {"shape", "prefix", "decode", "state", "tail", "many"},
    "one-token-dies": {"one token"},
    "ascii-paths": {"any path"},
    "parameter-ignored": {"unknown parameter"},
    "nothing-scored": {"empty list"},
    "wraps-ids": {"outside vocabulary"},
    "noise": {"repeatable"},
    "sees-the-end": {"prefix"},
    "decode-late": {"decode"},
    "cache-not-emptied": {"state"},
    "tail-alone": {"tail"},
    "one-forgotten": {"many", "one of many"},
    "part-twice": {"many", "one of many"},
    "batch-state": {"many"},
    "one-spoils-all": {"one of many"},
    "second-best": {"greedy"},
    "one-at-least": {"no new tokens"},
    "stop-ignored": {"stop"},
    "stop-token-dropped": {"stop"},
    "tokens-outside": {"tokenize"},
    "seed-ignored": {"sample"},
    "progress-of-another": {"progress"},
    "wrong-id": {"ids"},
    "answers-twice": {"ids"},
    "extra-field-of-load": {"load"},
    "extra-field-of-answers": {"messages"},
    "prints": {"stdout"},
    "close-ignored": {"close"},
    "status-5": {"close"},
    "end-ignored": {"end of input"},
}


def address(folder: Path, *argv: object) -> str:
    folder.mkdir(exist_ok=True)
    model = folder / "toy.json"
    model.write_text('{"vocab_size": 300, "seed": 1}')
    return f"command:{model}?argv={json.dumps([str(word) for word in argv])}"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Conformance]:
    folder = tmp_path_factory.mktemp("conformance")

    def test(fault: str) -> Conformance:
        # A folder each: the threads must not write the model that another's engine reads.
        own = folder / (fault or "none")
        return conformance(parse_address(address(own, sys.executable, ENGINE, fault)), timeout=20)

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(FAULTS, pool.map(test, FAULTS), strict=True))


def row(report: Conformance, rule: str) -> Row:
    return next(one for one in report.rows if one.rule == rule)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault or "none")
def test_a_fault_breaks_its_own_rule_and_no_other(reports: dict[str, Conformance], fault: str) -> None:
    report = reports[fault]
    assert {one.rule for one in report.failed} == FAULTS[fault], [one.said for one in report.failed]
    assert [one.rule for one in report.rows] == [rule.name for rule in RULES]
    assert report.exit_code == (1 if FAULTS[fault] else 0)
    assert all(one.said and (one.remedy or one.status != "FAIL") for one in report.rows)


def test_every_rule_is_broken_by_a_fault() -> None:
    assert {rule.name for rule in RULES} == set().union(*FAULTS.values())


def test_an_engine_that_keeps_the_protocol_keeps_every_rule_that_it_offers(reports: dict[str, Conformance]) -> None:
    assert {one.rule for one in reports[""].rows if one.status == "NOT-OFFERED"} == {"progress"}
    assert row(reports["progress"], "progress").status == "PASS"
    silent = {one.rule for one in reports["offers-nothing"].rows if one.status == "NOT-OFFERED"}
    assert silent == {
        "decode",
        "tail",
        "many",
        "one of many",
        "greedy",
        "no new tokens",
        "stop",
        "tokenize",
        "sample",
        "progress",
    }


def test_a_row_says_what_was_sent_and_what_came_back(reports: dict[str, Conformance]) -> None:
    assert row(reports["nan"], "finite").said == "score of 7 tokens → nan at position 2, entry 5"
    assert "status 3" in row(reports["dies-of-a-method"], "unknown method").said
    assert "it does not name not-there.json" in row(reports["file-not-named"], "missing file").said
    assert "loading weights... 100%" in row(reports["prints"], "stdout").said
    assert "status 5" in row(reports["status-5"], "close").said
    assert "argmax" in row(reports["second-best"], "greedy").said


@pytest.mark.parametrize(
    ("fault", "rule", "words"),
    [
        ("probabilities", "logits", "these are probabilities, not logits"),
        ("percentages", "logits", "these are percentages, not logits"),
        ("base-2", "logits", "log-probabilities to base 2"),
        ("surprisals", "logits", "without their sign"),
        ("flat", "logits", "the one value 0.5 in the whole row"),
        ("same-row", "logits", "the same row at all 7 positions"),
        ("big-endian", "finite", "written big-endian"),
        ("big-endian", "logits", "with the bytes of every number swapped they are logits"),
        ("transposed", "prefix", "the file holds the rows transposed"),
        ("shifted", "greedy", "the rows of score are shifted by one"),
        ("last-row-only", "prefix", "one has 1 rows, 4 were asked for"),
    ],
)
def test_rows_that_are_no_logits_are_named_by_their_transform(
    reports: dict[str, Conformance], fault: str, rule: str, words: str
) -> None:
    assert words in row(reports[fault], rule).said


def test_an_answer_over_many_lines_is_told_as_one(tmp_path: Path) -> None:
    noted = Noted()
    wire = Wire(Spec("command", {"argv": [sys.executable, "-c", PRETTY]}, timeout=2.0), name="pretty", noted=noted)
    try:
        wire.ask("hello")
    finally:
        wire.end()
    assert noted.stray[0] == "'{'" and noted.is_split
    with pytest.raises(Broken) as broken:
        stdout(SimpleNamespace(noted=noted))  # type: ignore[arg-type]
    assert broken.value.remedy == SPLIT


def test_a_program_that_never_answers_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match="hello: its process ended"):
        conformance(parse_address(address(tmp_path, sys.executable, "-c", "import sys; sys.exit(9)")))


def test_a_program_that_is_not_there_is_a_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no program that can be run"):
        conformance(parse_address(address(tmp_path, "./not-there")))


def test_an_option_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    address(tmp_path)
    with pytest.raises(ContractError, match="argv: must be a list, got 'nope'\\n  remedy: `logitproof list engines`"):
        conformance(parse_address(f"command:{tmp_path / 'toy.json'}?argv=nope"))


def test_the_command_prints_a_row_a_rule_writes_json_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    run = CliRunner().invoke(main, ["protocol", "test", address(tmp_path, sys.executable, ENGINE, "nan"), "--json", str(out)])
    assert run.exit_code == 1, run.output
    assert "FAIL         finite" in run.output and "remedy: " in run.output
    read = json.loads(out.read_text("utf-8"))
    assert read["exit_code"] == 1 and len(read["rows"]) == len(RULES)
    assert CliRunner().invoke(main, ["protocol", "test", "command:/not/there?argv=[x]"]).exit_code == 2


def test_engines_of_the_catalogue_keep_the_protocol(tmp_path: Path) -> None:
    address(tmp_path)
    report = conformance(parse_address(f"toy:{tmp_path / 'toy.json'}"))
    assert report.failed == [] and report.exit_code == 0


@pytest.mark.parametrize("how", ["events", "top", "text"])
def test_a_program_that_is_described_keeps_every_rule_but_one_with_whole_rows_and_with_its_best_entries(
    tmp_path: Path, how: str
) -> None:
    """The program first sees its weights when it scores, so nobody can say at `load` that they are truncated."""
    where = "pattern=^pos=(?P<position>\\d+) tok=(?P<id>\\d+) p=(?P<logprob>\\S+)" if how == "text" else "prefix='@logits'"
    argv = [sys.executable, str(ENGINE.with_name("printing_program.py")), how, "{model}", "{tokens}"]
    address(tmp_path)
    report = conformance(parse_address(f"stdout:{tmp_path / 'toy.json'}?argv={json.dumps(argv)}&vocab_size=300&{where}"))
    assert [one.rule for one in report.failed] == ["truncated file"], [one.said for one in report.failed]
    shown = {"events": "shape [7, 300]", "top": "shape [7, 5]", "text": "shape [7, 1]"}[how]
    assert shown in row(report, "shape").said


FIRST = {
    "load dies": ("def load(p): sys.exit(3)", "a model that is loaded comes first"),
    "load has no size": ("def load(p): return {}", "a model that is loaded comes first"),
    "score fails": ('def score(p): send({"id": number, "error": {"kind": "failed", "message": "no"}})', "without rows"),
    "score has no rows": ("def score(p): return {}", "without rows"),
}


@pytest.mark.parametrize("name", FIRST)
def test_rules_that_could_not_be_asked_have_the_remedy_of_what_comes_first(project: Any, name: str) -> None:
    change, words = FIRST[name]
    program = project.engine(change)["options"]["argv"]
    argv = json.dumps([program[0], str(project.folder / program[1])])
    report = conformance(parse_address(f"command:{project.model}?argv={argv}"), timeout=20)
    for rule in ("shape", "size", "finite", "logits", "one token", "repeatable", "prefix", "state"):
        broken = row(report, rule)
        assert broken.status == "FAIL" and words in broken.remedy, (rule, broken.remedy)
