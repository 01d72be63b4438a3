"""The first bad setting of an engine is found by running the contract at settings that halve what is left."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from logitproof.cli import main
from logitproof.runs.bisect import Step, halved, layers_of, one_after_another, values_of

GOOD: dict[str, Any] = {"good": {"engine": "toy", "options": {"noise": 1e-7}}}


@pytest.fixture(autouse=True)
def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITPROOF_HISTORY", "off")


def cli(*words: object, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["bisect", *map(str, words)])
    assert done.exit_code == code, done.output
    return done


@given(st.integers(2, 40), st.data())
def test_the_first_bad_place_is_found_in_few_steps_or_said_to_be_hidden(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, count - 1))
    skipped = data.draw(st.sets(st.integers(1, count - 2))) if count > 2 else set()
    asked = set[int]()

    def step_of(place: int) -> Step:
        asked.add(place)
        return "skip" if place in skipped else "bad" if place >= first else "good"

    found = halved(count, step_of)
    hidden = first in skipped or first - 1 in skipped
    assert found == first or (found is None and hidden) or (hidden and found is not None and found >= first)
    if not skipped:
        assert found == first and len(asked) <= count.bit_length() + 1


def test_settings_go_one_step_at_a_time() -> None:
    assert [setting.options for setting in one_after_another({"a": 1, "b": 2})] == [{}, {"a": 1}, {"a": 1, "b": 2}]
    assert [setting.options for setting in values_of("n", [1, 2])] == [{"n": 1}, {"n": 2}]
    assert [setting.options["x"] for setting in layers_of("x", 3)] == [[0, 1, 2], [1, 2], [2], []]
    assert layers_of("x", 3)[2].change == "layer 1 is not computed in float32"


def test_the_option_that_breaks_a_contract_is_named(project: Any) -> None:
    contract, out = project.contract(candidates=GOOD), project.folder / "b"
    pairs = ["shift=0", "decode_noise=0", "noise=1.0", "seed=3"]
    found = json.loads(cli("options", contract, "good", *pairs, "--out", out, "--json").stdout)
    assert found["subject"] == "noise = 1.0" and found["kind"] == "bisect"
    assert {tried["step"] for tried in found["tried"]} == {"good", "bad"} and len(found["tried"]) < 5
    text = " ".join(cli("options", contract, "good", *pairs, "--out", project.folder / "c").output.split())
    assert "noise = 1.0 breaks it" in text


def test_the_first_bad_value_is_found_past_one_that_comes_to_no_verdict(project: Any) -> None:
    contract, out = project.contract(candidates=GOOD), project.folder / "b"
    found = json.loads(cli("values", contract, "good", "noise", "1e-7", "2e-7", "0.5", "1.0", "--out", out, "--json").stdout)
    assert found["first"] == "noise = 0.5"
    noises = ["1e-7", ".nan", "1.0"]
    assert "NOT FOUND" in cli("values", contract, "good", "noise", *noises, "--out", project.folder / "c", code=3).output


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("options", "nobody", "noise=1"), "no candidate is called 'nobody'"),
        (("options", "good", "nose=1"), "nose"),
        (("options", "good", "noise=2e-7"), "is not bad with"),
        (("values", "good", "noise", "1.0", "2.0"), "is not good with"),
        (("values", "good", "noise", "1.0"), "leaves nothing to halve"),
        (("options", "good", "noise"), "is not NAME=VALUE"),
    ],
)
def test_a_question_without_an_answer_is_refused(project: Any, words: tuple[str, ...], text: str) -> None:
    contract = project.contract(candidates=GOOD)
    kind, candidate, *rest = words
    assert text in cli(kind, contract, candidate, *rest, "--out", project.folder / "b", code=2).output


def test_commits_are_halved_by_the_command_of_the_history() -> None:
    assert main.get_command(None, "bisect").commands["commits"] is main.get_command(None, "history").commands["bisect"]  # type: ignore
