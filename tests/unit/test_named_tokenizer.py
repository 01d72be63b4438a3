"""A reference without a tokenizer serves texts that a named tokenizer cuts, and nothing of it is believed without a look."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from logitproof.engines.toy import Toy
from logitproof.errors import ContractError
from logitproof.gguf.vocabulary import token_count
from logitproof.golden.freeze import freeze
from logitproof.jobs.cut import refuse_foreign_ids
from logitproof.jobs.named_tokenizer import named_tokenizer
from logitproof.jobs.spec import Spec
from logitproof.lint import lint

WORDS = ["the", "cat", "sat", "on", "a", "mat"]
TEXT = "the cat sat on the mat"
IDS = [0, 1, 2, 3, 0, 5]
BASIS = "a reason of more than ten letters"


def tokenizer_in(folder: Path, words: list[str], shift: int = 0) -> Path:
    """A folder whose tokenizer gives each word its number in the list, more by `shift`."""
    fillers = {f"[{number}]": number for number in range(shift)}
    vocabulary = fillers | {word: number + shift for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}), "utf-8")
    return folder


@pytest.fixture
def dumped(project: Any) -> dict[str, Any]:
    """The toy's logits of `IDS`, as a dump that knows ids and no text, and a suite of the text."""
    project.write("suite.yaml", {"suite": "s", "max_new_tokens": 0, "prompts": [{"id": "cat", "text": TEXT}]})
    toy = Toy()
    toy.load(project.model)
    rows = np.asarray(toy.score(IDS, "prefill").logits, np.float32)
    np.savez(project.folder / "rows.npz", logits=rows + np.float32(1e-4), token_ids=np.array(IDS))
    tokenizer_in(project.folder / "words", WORDS)
    return {"engine": "dump", "options": {"path": "rows.npz"}, "tokenizer": "words"}


def judged(project: Any, reference: dict[str, Any], **candidate: Any) -> Any:
    return project.check(
        reference=reference, candidates={"toy": {**project.toy(noise=1e-3), **candidate}}, matrix={"mode": ["prefill"]},
        bands=[{"match": 0.5, "wrong": 1.0, "basis": BASIS}],
        gates=[{"id": "kl", "metric": "kl_divergence", "at_most": 0.1, "basis": BASIS}],
    )  # fmt: skip


def test_texts_are_cut_by_the_named_tokenizer(project: Any, dumped: dict[str, Any]) -> None:
    report = judged(project, dumped, tokenizer="words")
    (cell,) = report.verdict.cells
    assert (report.verdict.status, cell.status, cell.positions) == ("PASS", "MATCH", len(IDS)), report.verdict.reason


def test_without_it_the_dump_has_no_tokens_for_the_text(project: Any, dumped: dict[str, Any]) -> None:
    report = judged(project, {**dumped, "tokenizer": None})
    assert report.verdict.status == "ERROR" and report.verdict.cells[0].status == "SET-UP ERROR"


def test_a_tokenizer_of_other_ids_never_passes(project: Any, dumped: dict[str, Any]) -> None:
    tokenizer_in(project.folder / "other", ["on", "cat", "sat", "the", "a", "mat"])
    report = judged(project, {**dumped, "tokenizer": "other"})
    (cell,) = report.verdict.cells
    assert (report.verdict.status, cell.status) == ("ERROR", "SET-UP ERROR")
    assert "does not hold these 6 tokens" in cell.reason


def test_a_candidate_whose_named_tokenizer_cuts_otherwise_is_told(project: Any, dumped: dict[str, Any]) -> None:
    tokenizer_in(project.folder / "other", ["on", "cat", "sat", "the", "a", "mat"])
    report = judged(project, dumped, tokenizer="other")
    (cell,) = report.verdict.cells
    assert (report.verdict.status, cell.status) == ("ERROR", "SET-UP ERROR") and "token" in cell.reason


def test_ids_outside_of_the_vocabulary_are_refused(project: Any, dumped: dict[str, Any]) -> None:
    tokenizer_in(project.folder / "large", WORDS, shift=100_000)
    report = judged(project, {**dumped, "tokenizer": "large"})
    assert report.verdict.status == "ERROR"
    assert "token id 100005 is outside its vocabulary" in report.verdict.cells[0].reason
    with pytest.raises(ContractError, match="the tokenizer words are not of one model"):
        refuse_foreign_ids([1, 64], Spec("toy", tokenizer="words"), "toy", 64)
    refuse_foreign_ids([1, 63], Spec("toy", tokenizer="words"), "toy", 64)
    refuse_foreign_ids([], Spec("toy"), "toy", 64)


def test_a_tokenizer_that_changed_is_read_again(project: Any, dumped: dict[str, Any]) -> None:
    assert judged(project, dumped, tokenizer="words").verdict.status == "PASS"
    shutil.rmtree(project.folder / "words")
    tokenizer_in(project.folder / "words", ["on", "cat", "sat", "the", "a", "mat"])
    report = judged(project, dumped, tokenizer="words")
    assert report.verdict.status == "ERROR" and "does not hold these 6 tokens" in report.verdict.cells[0].reason


NO_TOKENIZER = """
def hello(p):
    return {"protocol": 1, "engine": "fake", "versions": {"fake": "1"}, "generate": True, "tokenize": False}
def load(p):
    return {"vocab_size": 64}
def row(token):
    return [((token * 31 + n * 7) % 97) / 10 for n in range(64)]
"""


def test_a_program_without_a_tokenizer_is_the_reference_of_texts(project: Any, dumped: dict[str, Any]) -> None:
    right = project.engine(NO_TOKENIZER, "right.py")
    wrong = project.engine(NO_TOKENIZER.replace("n * 7", "n * 11"))
    near = project.engine(NO_TOKENIZER.replace("/ 10", "/ 10 + 1e-4 * n"), "near.py")
    for candidate, status in ((near, "PASS"), (wrong, "FAIL")):
        report = project.check(
            reference={**right, "tokenizer": "words"}, candidates={"mine": {**candidate, "tokenizer": "words"}},
            matrix={"mode": ["prefill"]}, bands=[{"match": 0.5, "wrong": 1.0, "basis": BASIS}],
            gates=[{"id": "kl", "metric": "kl_divergence", "at_most": 0.1, "basis": BASIS}],
        )  # fmt: skip
        (cell,) = report.verdict.cells
        assert (report.verdict.status, cell.positions) == (status, len(IDS)), report.verdict.reason


def test_a_golden_of_ids_is_the_reference_of_texts(project: Any, dumped: dict[str, Any]) -> None:
    ids = {"suite": "s", "max_new_tokens": 0, "prompts": [{"id": "cat", "token_ids": IDS}]}
    project.write("ids.yaml", ids)
    path = project.contract(suites=["ids.yaml"])
    made = freeze(path, project.folder / "ref.golden", store=project.store)
    reference = {"engine": "golden", "options": {"path": made.path.name}}
    report = judged(project, {**reference, "tokenizer": "words"}, tokenizer="words")
    assert (report.verdict.status, report.verdict.cells[0].positions) == ("PASS", len(IDS)), report.verdict.reason
    tokenizer_in(project.folder / "other", ["on", "cat", "sat", "the", "a", "mat"])
    report = judged(project, {**reference, "tokenizer": "other"}, tokenizer="other")
    assert report.verdict.status == "ERROR", report.verdict.reason


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model": {"type": "Nothing"}}'])
def test_what_is_no_tokenizer_is_said(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    if content is not None:
        (folder / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(ContractError, match="tokenizer"):
        named_tokenizer(folder)
    with pytest.raises(ContractError, match="not there"):
        named_tokenizer(tmp_path / "gone")
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(ContractError, match="neither a folder nor a GGUF"):
        named_tokenizer(tmp_path / "file")


def test_lint_tells_a_tokenizer_that_is_not_there_or_of_another_model(project: Any, dumped: dict[str, Any]) -> None:
    def codes(tokenizer: str) -> list[str]:
        path = project.contract(reference={**dumped, "tokenizer": tokenizer}, candidates={"toy": project.toy()})
        return [finding.code for finding in lint(path) if finding.at.endswith("tokenizer")]

    (project.folder / "empty").mkdir()
    assert codes("words") == []
    assert codes("gone") == ["LP070"]
    assert codes("empty") == ["LP072"]


def test_tokens_are_counted_up_to_the_largest_id(tmp_path: Path) -> None:
    assert token_count(tokenizer_in(tmp_path / "a", WORDS)) == 6
    assert token_count(tokenizer_in(tmp_path / "b", WORDS, shift=10)) == 16
    assert token_count(tmp_path) is None
    unigram = {"model": {"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.0]]}, "added_tokens": [{"id": 4, "content": "<s>"}]}
    (tmp_path / "c").mkdir()
    (tmp_path / "c/tokenizer.json").write_text(json.dumps(unigram), "utf-8")
    assert token_count(tmp_path / "c") == 5
