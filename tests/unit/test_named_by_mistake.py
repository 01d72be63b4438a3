"""A path that is nearly right, a file of another sort, a contract in place of its run: each is told as what it is."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import open_suite
from logitproof.engines._tool import Tool
from logitproof.errors import ContractError, LogitproofError
from logitproof.files.ended import SHELL, advice, remedy_of, signal_name
from logitproof.files.nearest import meant
from logitproof.files.yaml import SORTS
from logitproof.jobs.address import parse_address
from logitproof.jobs.shown import is_begun
from logitproof.localization.tap_dump import open_tap_dump
from logitproof.readers import open_dump
from logitproof.runs.pins import read_pins
from logitproof.weights.model import open_model

RIGHT = {
    "contract": "contract: c\nreference: {engine: toy}\ncandidates: {a: {engine: toy}}\n",
    "suite": "suite: s\nprompts: [{id: a, text: Hi}]\n",
    "pins": "pins: 1\nmodels: {}\nsuites: {}\nengines: {}\n",
    "taps": "token_ids: [1, 2]\ntaps: {}\n",
}
READ = {
    "contract": open_contract,
    "suite": lambda path: open_suite(path.name, path.parent),
    "pins": read_pins,
    "taps": lambda path: open_tap_dump(path.parent),
}


PAIRS = [(wanted, given) for wanted in SORTS for given in [*SORTS, "answer", "stranger"] if given != wanted]


@pytest.mark.parametrize(("wanted", "given"), PAIRS)
def test_a_file_of_another_sort_is_named(wanted: str, given: str, tmp_path: Path) -> None:
    stranger = {"answer": json.dumps({"format": 1, "kind": "verdict", "made_at": "now"}), "stranger": "shopping: [milk]\n"}
    path = tmp_path / ("taps.yaml" if wanted == "taps" else "given.yaml")
    path.write_text(RIGHT.get(given) or stranger[given])
    with pytest.raises(ContractError) as raised:
        READ[wanted](path)
    told = {"answer": "an answer of logitproof (verdict)", "stranger": "it has no key of one"}
    assert (SORTS[given][0] if given in RIGHT else told[given]) in raised.value.text
    assert SORTS[wanted][0] in raised.value.text
    assert str(path) in raised.value.where and raised.value.remedy and not raised.value.others


@pytest.fixture(params=["file", "folder"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model that somebody gives for a contract; of the file only what says that it is GGUF, and a size that no YAML has."""
    path = tmp_path / "model.gguf"
    if request.param == "folder":
        path = tmp_path / "hf"
        path.mkdir()
        (path / "config.json").write_text("{}")
        return path
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(1 << 25)
    return path


@pytest.mark.parametrize("command", ["check", "lint", "calibrate", "quality", "pin", "diagnose", "localize", "judge"])
def test_a_model_given_for_a_contract_is_told_what_to_do_with(command: str, model: Path) -> None:
    result = CliRunner().invoke(main, [command, str(model)])
    shown = " ".join(result.output.split())
    assert result.exit_code in (1, 2) and f"logitproof new -m {model}" in shown, shown


def test_a_model_without_its_engine_is_told_how_to_write_it(model: Path) -> None:
    with pytest.raises(ContractError, match="no engine is named before it") as raised:
        parse_address(f"{model}?threads=2")
    engine = "transformers" if model.is_dir() else "llamacpp"
    assert f"{engine}:{model}?threads=2" in raised.value.remedy


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("toys.yaml", "toys.parity.yaml"),
        ("Toys.parity.yaml", "toys.parity.yaml"),
        ("tyos.parity.yaml", "toys.parity.yaml"),
        ("model.guff", "model.gguf"),
    ],
)
def test_the_nearest_name_is_offered(wrong: str, right: str, tmp_path: Path) -> None:
    for name in (right, "unlike.txt", "zebra.json"):
        (tmp_path / name).touch()
    assert repr(str(tmp_path / right)) in meant(tmp_path / wrong)


def test_a_folder_that_is_not_there_is_named_instead(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    text = meant(tmp_path / "modles" / "deep" / "m.gguf")
    assert f"its folder {str(tmp_path / 'modles')!r} is not there" in text
    assert repr(str(tmp_path / "models")) in text


def test_nothing_is_offered_where_nothing_is_like_it(tmp_path: Path) -> None:
    (tmp_path / "zebra.json").touch()
    assert meant(tmp_path / "contract.yaml") == ""


@pytest.mark.parametrize("read", [open_model, open_dump, lambda path: parse_address(f"toy:{path}", where="REFERENCE")])
def test_whatever_reads_a_path_offers_the_name_that_was_meant(read, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "weights.gguf").touch()
    with pytest.raises(LogitproofError, match=r"did you mean .*weights\.gguf"):
        read(tmp_path / "wieghts.gguf")


@pytest.mark.parametrize("verb", [["judge"], ["decompose"], ["diagnose"], ["localize"], ["attest", "--key", "k.pem"]])
def test_a_contract_stands_for_its_run(verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.parity.yaml").write_text(
        RIGHT["contract"] + "models: {m: {original: m}}\nsuites: [smoke-10]\n"
        "bands: [{match: 1, wrong: 2, basis: of a test alone}]\n"
        "gates: [{id: g, metric: kl_divergence, at_most: 1, basis: of a test alone}]\n"
    )
    result = CliRunner().invoke(main, [*verb, "c.parity.yaml"])
    assert result.exit_code == 2
    assert "c.parity.yaml: has not been run" in result.output and "logitproof check" in result.output
    Path("runs/c").mkdir(parents=True)
    Path("runs/c/run.json").write_text("{}")
    result = CliRunner().invoke(main, [*verb, "c.parity.yaml"])
    assert "has not been run" not in result.output
    assert "runs/c" in result.output or "k.pem" in result.output


@pytest.mark.parametrize("verb", ["freeze", "diagnose", "dequantize", "rotate"])
def test_arguments_that_are_not_there_are_told_in_our_words(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("capture").mkdir()
    extra = [] if verb == "diagnose" else ["--out", "o"] if verb == "freeze" else ["o"]
    result = CliRunner().invoke(main, [verb, "captrue", *extra])
    assert result.exit_code == 2
    assert "did you mean 'capture'?" in result.output


def test_the_known_keys_are_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("contract: c\nbans: 1\ngats: 1\nmodles: 1\n")
    with pytest.raises(ContractError) as raised:
        open_contract(path)
    assert str(raised.value).count("known here:") == 1
    for key in ("bands", "gates", "models"):
        assert f"did you mean {key!r}" in str(raised.value)


@pytest.mark.parametrize(
    ("number", "hint"),
    [(signal.SIGKILL, "memory"), (signal.SIGILL, "processor"), (signal.SIGBUS, "disk"), (signal.SIGXCPU, "ulimit")],
)
def test_a_signal_says_what_to_look_at(number: signal.Signals, hint: str) -> None:
    assert hint in remedy_of(-number)
    assert hint in remedy_of(SHELL + number), "a shell gives 128 more"
    assert hint in advice(-number) and signal_name(-number) == number.name


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGILL])
def test_a_program_and_a_tool_say_what_to_look_at_too(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "ends"
    script.write_text(f"#!/bin/sh\nkill -{int(number)} $$\n")
    script.chmod(0o755)
    text = remedy_of(-number)
    with pytest.raises(RuntimeError, match=number.name) as raised:
        Tool(str(script)).run([], 10.0)
    assert text in str(raised.value)


def test_lint_offers_the_name_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").touch()
    path = tmp_path / "c.yaml"
    path.write_text(
        RIGHT["contract"] + "models: {m: {original: wieghts.gguf}}\nsuites: [smoke-10]\n"
        "bands: [{match: 1, wrong: 2, basis: of a test alone}]\n"
        "gates: [{id: g, metric: kl_divergence, at_most: 1, basis: of a test alone}]\n"
    )
    result = CliRunner().invoke(main, ["lint", str(path)])
    assert "names nothing" in result.output and "weights.gguf'" in " ".join(result.output.split())


@pytest.mark.parametrize("code", [None, 0, 1, 255, -signal.SIGSEGV, -200])
def test_what_says_nothing_has_no_remedy(code: int | None) -> None:
    assert remedy_of(code) == ""


@pytest.mark.parametrize(
    ("line", "begun"), [(b"{\n", True), (b'  [{"a": 1},\n', True), (b'{"id": 1}\n', False), (b"hello\n", False)]
)
def test_an_answer_over_many_lines_is_seen_by_its_first(line: bytes, begun: bool) -> None:
    assert is_begun(line) is begun
