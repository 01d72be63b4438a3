"""A suite is freed of prompts that hang on a tie, and says which and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from logitproof.contract.suite import Prompt, Suite, open_suite
from logitproof.errors import ContractError
from logitproof.quality.picker import Least, Picked, least_margin, pick, write_picked

SUITE = Suite(
    suite="mine",
    max_new_tokens=30,
    prompts=[
        Prompt(id="a", bucket="code", text="good"),
        Prompt(id="b", bucket="code", text="tie", max_new_tokens=200),
        Prompt(id="c", bucket="chat", text="tie too"),
    ],
)
RESERVE = Suite(
    suite="reserve",
    prompts=[
        Prompt(id="r0", bucket="code", text="good"),
        Prompt(id="r1", bucket="code", text="tie as well"),
        Prompt(id="r2", bucket="code", text="better"),
        Prompt(id="r3", bucket="code", text="never needed"),
    ],
)


def measure(prompt: Prompt, tokens: int) -> Least:
    assert tokens == 10
    return Least(0.01 if "tie" in (prompt.text or "") else 2.0, 3)


def picked() -> Picked:
    return pick(SUITE, RESERVE, measure, tie=0.15, tokens=10)


def test_a_prompt_that_hangs_on_a_tie_gives_way_to_the_first_good_reserve_of_its_kind() -> None:
    found = picked()
    assert [prompt.id for prompt in found.suite.prompts] == ["a", "r2", "c"]
    assert [str(one) for one in found.replaced] == ["b: margin 0.01 logits at new token 3; replaced by r2, least margin 2"]


def test_a_reserve_is_continued_as_far_as_what_it_replaces() -> None:
    assert picked().suite.continuation(picked().suite.prompts[1]) == 200


def test_what_no_reserve_can_replace_stays_and_is_told() -> None:
    assert [str(one) for one in picked().left] == [
        "c: margin 0.01 logits at new token 3; stays, no chat reserve is free of ties"
    ]


def test_a_reserve_that_the_suite_has_already_is_no_reserve() -> None:
    assert picked().tried == 2


def test_the_least_margin_is_that_of_the_two_best_and_knows_its_token() -> None:
    found = least_margin(np.array([[0.0, 5.0, 1.0], [3.0, 2.5, 0.0], [9.0, 1.0, 8.0]]))
    assert (found.margin, found.at) == (0.5, 1)


def test_no_token_is_no_margin() -> None:
    with pytest.raises(ContractError, match="no token"):
        least_margin(np.empty((0, 5)))


def test_a_written_suite_holds_its_hash_and_its_reasons_and_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "free.yaml"
    suite = write_picked(picked(), file, "toy:model", 0.15, 10)
    assert suite.suite == "free" and suite.frozen == suite.sha256 == open_suite("free.yaml", tmp_path).sha256
    assert "# b: margin 0.01 logits at new token 3; replaced by r2" in file.read_text("utf-8")
    with pytest.raises(ContractError, match="not written over"):
        write_picked(picked(), file, "toy:model", 0.15, 10)
    with pytest.raises(ContractError, match="no name of a suite file"):
        write_picked(picked(), tmp_path / "free.txt", "toy:model", 0.15, 10)


def test_a_frozen_suite_that_was_changed_is_refused(tmp_path: Path) -> None:
    write_picked(picked(), tmp_path / "free.yaml", "toy:model", 0.15, 10)
    text = (tmp_path / "free.yaml").read_text("utf-8")
    (tmp_path / "free.yaml").write_text(text.replace("text: better", "text: bitter"), "utf-8")
    with pytest.raises(ContractError, match="changed suite is another one"):
        open_suite("free.yaml", tmp_path)
