"""Suites: the shipped one is what it says, and a bad one is refused with its place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from logitproof.contract.suite import open_suite, shipped_suites
from logitproof.errors import ContractError


def written(folder: Path, text: str) -> Path:
    (folder / "mine.yaml").write_text(text, "utf-8")
    return folder


def test_the_shipped_suite_has_two_prompts_of_each_kind() -> None:
    suite = open_suite("smoke-10", Path())
    kinds = Counter(prompt.bucket for prompt in suite.prompts)
    assert kinds == {"factual": 2, "generative": 2, "code": 2, "multilingual": 2, "reasoning": 2}
    assert len(suite.prompts) == 10
    assert all(prompt.text for prompt in suite.prompts)


def test_the_generative_prompts_are_long_and_are_continued_for_long() -> None:
    suite = open_suite("smoke-10", Path())
    for prompt in suite.prompts:
        long = prompt.bucket == "generative"
        assert suite.continuation(prompt) == (200 if long else 32)
        assert not long or len((prompt.text or "").split()) >= 40


def test_the_hash_of_a_suite_changes_with_whatever_is_fed(tmp_path: Path) -> None:
    base = "suite: s\nprompts:\n  - {id: a, text: hello}\n"
    hashes = set()
    for text in (
        base,
        base.replace("hello", "Hello"),
        base.replace("{id", "{max_new_tokens: 4, id"),
        f"max_new_tokens: 9\n{base}",
    ):
        hashes.add(open_suite("mine.yaml", written(tmp_path, text)).sha256)
    assert len(hashes) == 4
    assert open_suite("mine.yaml", written(tmp_path, base)).sha256 in hashes


def test_a_suite_that_is_not_shipped_is_named_with_the_nearest() -> None:
    with pytest.raises(ContractError, match=r"did you mean 'smoke-10'") as caught:
        open_suite("smoke-1O", Path(), where="c.yaml:7")
    assert caught.value.where == "c.yaml:7"
    assert list(shipped_suites()) == ["horizon-4k", "quality-100", "reserve", "smoke-10"]


@pytest.mark.parametrize("name", shipped_suites())
def test_a_shipped_suite_is_frozen_and_a_changed_word_is_refused(name: str, tmp_path: Path) -> None:
    text = shipped_suites()[name].read_text("utf-8")
    assert open_suite(name, Path()).frozen == open_suite(name, Path()).sha256
    (tmp_path / "mine.yaml").write_text(text.replace('text: "', 'text: "And ', 1), "utf-8")
    with pytest.raises(ContractError, match="a changed suite is another one"):
        open_suite("mine.yaml", tmp_path)


def test_reserves_stand_ready_for_every_kind_of_prompt_and_are_in_no_other_suite() -> None:
    reserve = Counter(prompt.bucket for prompt in open_suite("reserve", Path()).prompts)
    suites = [open_suite(name, Path()) for name in ("smoke-10", "quality-100")]
    texts = {prompt.text for suite in suites for prompt in suite.prompts}
    assert {prompt.bucket for suite in suites for prompt in suite.prompts} == set(reserve) and min(reserve.values()) >= 6
    assert not texts & {prompt.text for prompt in open_suite("reserve", Path()).prompts}


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ("[]", "at least 1 entry"),
        ("[{id: a, text: ''}]", "the prompt is empty"),
        ("[{id: a}]", "either `text` or `token_ids`"),
        ("[{id: a, text: x, token_ids: [1]}]", "either `text` or `token_ids`"),
        ("[{id: a, token_ids: [-1]}]", "must be at least 0"),
        ("[{id: a, text: x}, {id: a, text: y}]", "stands twice"),
        ("[{id: a, txt: x}]", "did you mean 'text'"),
    ],
)
def test_a_suite_that_would_compare_nothing_or_guess_is_refused(tmp_path: Path, prompts: str, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint) as caught:
        open_suite("mine.yaml", written(tmp_path, f"suite: s\nprompts: {prompts}\n"))
    assert "mine.yaml" in str(caught.value)
