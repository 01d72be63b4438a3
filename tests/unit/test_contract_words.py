"""A contract is complained about in the words of whoever wrote the file: every fault, none that only `check` would find."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.files import forms
from logitproof.files.worded import quoted
from logitproof.files.yaml_text import parse_yaml
from logitproof.jobs.unread import unread_in_words
from logitproof.lint import lint

SOURCE = Path(__file__).parents[2] / "src"
BASIS = "a reason of more than ten letters"
GATE = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}
BAND = {"match": 1e-4, "wrong": 1e-2, "basis": BASIS}
UNSEEN = ["", " ", "a ", " a", "a\nb", "a\tb", "a\x00b".replace("\x00", "\x7f"), "\u202eabc", "a\u200bb", "a\u2066b", "\ufeffa"]
OF_PYYAML = re.compile(r"token|mapping values|constructor|block end|flow |scalar|node|<unicode string>|tag:yaml")


@pytest.mark.parametrize("key", ["no", "off", "yes", "5", "1.5", "1e3", "~", "null", "2026-12-31"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_key_that_yaml_takes_for_no_text_is_told_as_it_was_written(project: Any, key: str, depth: int) -> None:
    text = project.contract().read_text("utf-8")
    old, new = [
        ("suites:", f"{key}: 1\nsuites:"),
        ("  m:", f"  {key}: toy.json\n  m:"),
        ("    original:", f"    {key}: toy.json\n    original:"),
    ][depth]
    assert old in text
    path = project.write("toys.parity.yaml", text.replace(old, new, 1))
    with pytest.raises(ContractError) as raised:
        open_contract(path)
    line = path.read_text("utf-8").splitlines().index(new.splitlines()[0]) + 1
    assert raised.value.where == f"{path}:{line}"
    assert f"the key '{key}' is" in raised.value.text and "put it in quotes" in raised.value.text


def test_a_key_in_quotes_is_a_text(tmp_path: Path) -> None:
    assert parse_yaml('"no": 1\n<<: {"5": 2}\n', tmp_path)[0] == {"no": 1, "5": 2}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        (date(2024, 1, 1), "2024-01-01"),
        (datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00+00:00"),
        (1.5, "1.5"),
        ("1", "'1'"),
    ],
)
def test_a_value_is_quoted_as_a_file_has_it(value: Any, shown: str) -> None:
    assert quoted(value) == f", got {shown}"


@pytest.mark.parametrize(
    "text",
    [
        "a:\n\tb: 1\n", "a: b: c\n", "a:b\nc: d\n", "a: !mine x\n", "a: !!python/object:os.x {}\n", "a: *b\n",
        "a: 1\n---\nb: 1\n",
        'a: "x\n', "a: [1, 2\nb: 3\n", "a: {b: 1\nc: 2\n", "- a\nb: 1\n", 'a: "\\q"\n', "%x\na: 1\n", "a: @b\n", "a: `b`\n",
        "a: \x07\n", "a: 1\n <<: 3\n", "a: %x\n", "<<: 3\n", "a:\n  - b\n c: 1\n",
    ],
)  # fmt: skip
def test_no_word_of_the_yaml_library_reaches_a_person(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContractError) as raised:
        parse_yaml(text, tmp_path / "c.yaml")
    assert raised.value.text.startswith("not valid YAML: ") and not OF_PYYAML.search(raised.value.text), raised.value.text


def test_no_pattern_reaches_a_person() -> None:
    for path in SOURCE.rglob("*.py"):
        written = re.findall(r'pattern=(r?"[^"]*")', path.read_text("utf-8"))
        assert not written, f"{path}: {written}: patterns stand in files/forms.py, with what they ask for in words"
    assert not [words for words in forms.FORMS.values() if "\\" in words or "^" in words]


NAMED: dict[str, Callable[[str], dict[str, Any]]] = {
    "models": lambda name: {"models": {name: {"original": "toy.json"}}},
    "models.m": lambda name: {"models": {"m": {"original": "toy.json", name: "toy.json"}}},
    "candidates": lambda name: {"candidates": {name: {"engine": "toy"}}},
    "references": lambda name: {"reference": None, "references": {"hf": {"engine": "toy"}, name: {"engine": "toy"}}},
    "gates.0.id": lambda name: {"gates": [{**GATE, "id": name}]},
}


@pytest.mark.parametrize("place", NAMED)
@pytest.mark.parametrize("name", UNSEEN)
def test_a_name_is_one_line_of_which_all_is_seen(project: Any, place: str, name: str) -> None:
    data = {key: value for key, value in project.data(**NAMED[place](name)).items() if value is not None}
    with pytest.raises(ContractError) as raised:
        open_contract(project.write("toys.parity.yaml", data))
    assert re.search(r"toys\.parity\.yaml:\d+: ", raised.value.where) and "name" in raised.value.text, str(raised.value)


@pytest.mark.parametrize("name", ["a/b", "*", "[x]", "a?", "reference"])
@pytest.mark.parametrize("place", ["models", "models.m", "candidates", "references"])
def test_a_name_that_is_part_of_a_cell_has_no_sign_that_selects(project: Any, place: str, name: str) -> None:
    data = {key: value for key, value in project.data(**NAMED[place](name)).items() if value is not None}
    with pytest.raises(ContractError, match="part of a cell's id"):
        open_contract(project.write("toys.parity.yaml", data))


REASONS: dict[str, dict[str, Any]] = {
    "bands.0.basis": {"bands": [{**BAND, "basis": " " * 12}]},
    "gates.0.basis": {"gates": [{**GATE, "basis": "\n" * 12}]},
    "candidates.c.may_be_exact": {"candidates": {"c": {"engine": "toy", "may_be_exact": "ok" + " " * 12}}},
    "candidates.c.may_be_vacuous": {"candidates": {"c": {"engine": "toy", "may_be_vacuous": "ok" + " " * 12}}},
    "reference.intended": {"reference": {"engine": "toy", "intended": "\t" * 12}},
    "lint.0.reason": {"lint": [{"code": "LP021", "until": date(2030, 1, 1), "reason": " " * 12}]},
    "preflight.reason": {"preflight": {"skip": ["PF402"], "reason": " " * 12}},
}


@pytest.mark.parametrize("place", REASONS)
def test_blanks_are_no_reason(project: Any, place: str) -> None:
    with pytest.raises(ContractError, match="needs at least 10 letters") as raised:
        open_contract(project.contract(**REASONS[place]))
    assert raised.value.where.endswith(place)


def test_every_fault_of_what_a_contract_names_is_told_at_once(project: Any) -> None:
    path = project.contract(
        reference={"engine": "toi"},
        candidates={"a": {"engine": "toy", "options": {"nois": 1}, "only": {"model": "x"}}, "b": {"engine": "tox"}},
        suites=["gone.yaml", "smoke-1"],
        matrix={"isa": ["avx3"]},
        gates=[{**GATE, "metric": "KL"}, {**GATE, "id": "b", "where": {"candidate": "nobody"}, "against": "hf"}],
    )
    places = [finding.text.partition(": ")[0] for finding in lint(path)]
    assert sorted(places) == sorted([
        "reference.engine", "candidates.a.options.nois", "candidates.a.only.model", "candidates.b.engine", "suites.0",
        "suites.1", "matrix.isa", "gates.0.metric", "gates.1.where.candidate", "gates.1.against",
    ])  # fmt: skip
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 2 and all(place in done.output for place in places)


@pytest.mark.parametrize("names", [["suite.yaml", "suite.yaml"], ["suite.yaml", "./suite.yaml"], ["smoke-10", "smoke-10"]])
def test_a_suite_that_stands_twice_would_count_its_prompts_twice(project: Any, names: list[str]) -> None:
    with pytest.raises(ContractError, match="stands twice") as raised:
        open_contract(project.contract(suites=names))
    assert raised.value.where.endswith("suites.1")


def test_a_suite_without_its_ending_is_offered_the_file(project: Any) -> None:
    with pytest.raises(ContractError, match=r"did you mean the file 'suite\.yaml'"):
        open_contract(project.contract(suites=["suite"]))


FOUND: dict[str, tuple[dict[str, Any], str, str]] = {
    "a folder that is no model": ({"models": {"m": {"original": "."}}}, "LP073", "without config.json"),
    "no file of the reference's label": (
        {"models": {"m": {"F32": "toy.json"}}, "matrix": {"quantization": ["F32"]}}, "LP073", "which is not listed"
    ),
    "a witness on a label that is not there": (
        {"witness": {"engine": "toy", "weights": "zzz"}}, "LP073", "the witness reads 'zzz'"
    ),
    "a code that preflight does not have": ({"preflight": {"skip": ["PF999"], "reason": BASIS}}, "LP009", "no code 'PF999'"),
    "leave for a code that lint does not have": (
        {"lint": [{"code": "LP999", "until": date(2030, 1, 1), "reason": BASIS}]}, "LP008", "lint has no code 'LP999'"
    ),
    "leave that reaches no cell": ({"may_be_unmeasured": ["zzz*"]}, "LP054", "gives leave to no cell"),
    "a folder for a program": (
        {"candidates": {"c": {"engine": "toy", "python": "/"}}}, "LP070", "is no program that can be run"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_lint_finds_what_a_run_would_refuse_or_leave_out(project: Any, name: str) -> None:
    changes, code, words = FOUND[name]
    findings = [finding for finding in lint(project.contract(**changes)) if finding.code == code]
    assert any(words in finding.text and finding.remedy and finding.line > 1 for finding in findings), findings


def test_a_seed_that_no_generator_takes_is_refused(project: Any) -> None:
    with pytest.raises(ContractError, match="must be at least 0"):
        open_contract(project.contract(bootstrap_seed=-1))


def test_files_as_other_systems_write_them_are_read(project: Any) -> None:
    text = project.contract().read_text("utf-8")
    for changed in (text.replace("\n", "\r\n"), text.replace("\n", "\r"), f"\ufeff{text}"):
        path = project.folder / "toys.parity.yaml"
        path.write_bytes(changed.encode())
        assert open_contract(path).contract.contract == "toys"
    assert yaml.safe_load(text)["contract"] == "toys"


def test_gates_and_candidates_without_a_cell_are_findings_like_any_other(project: Any) -> None:
    gates = [{**GATE, "where": {"mode": "greedy"}}, {**GATE, "id": "far", "where": {"mode": "self"}}]
    path = project.contract(gates=gates)
    done = CliRunner().invoke(main, ["lint", str(path), str(path)])
    assert done.exit_code == 2 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 4 and all(re.search(r"toys\.parity\.yaml:\d+: LP000 gates\.[01]\.where: ", line) for line in lines), (
        lines
    )


def test_a_reference_that_nothing_is_compared_with_is_told_by_lint_and_by_a_run(project: Any) -> None:
    data = project.data(references={"hf": {"engine": "toy"}, "other": {"engine": "toy", "options": {"noise": 1e-9}}})
    del data["reference"]
    path = project.write("toys.parity.yaml", data)
    assert any(finding.code == "LP065" and "other" in finding.text for finding in lint(path))
    assert any("other is listed as a reference" in text for text in unread_in_words(open_contract(path)))
    data["gates"].append({**GATE, "id": "b", "against": "other"})
    path = project.write("toys.parity.yaml", data)
    assert not [finding for finding in lint(path) if finding.code == "LP065"] and unread_in_words(open_contract(path)) == []


def test_one_thing_is_not_told_as_many(project: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("COLUMNS", "120")
    path = project.contract(candidates={"good": project.toy(noise=1e-7)})
    done = CliRunner().invoke(main, ["check", str(path), "--out", "run"])
    texts = [done.output, *(file.read_text("utf-8") for file in (project.folder / "run").glob("*.md"))]
    assert done.exit_code == 0 and all("in 1 cell" in text for text in texts) and "preflight: 1 pair, 2 settings" in done.output
    assert not [text for text in texts if re.search(r"(?<![\d.,])1 (?:cells|pairs|positions|prompts|findings|runs)\b", text)]
