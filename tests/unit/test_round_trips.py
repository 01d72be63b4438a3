"""What one format wrote, another reads: tokens, rows and provenance, for every writer and every pair of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitproof import catalog
from logitproof.errors import ContractError
from logitproof.golden.compare import compare_dumps
from logitproof.readers import Reader, convert, open_dump
from logitproof.readers.hf_fixture import HfFixture
from logitproof.readers.ndjson import Ndjson
from logitproof.traces.dump import Dump, DumpedPrompt

TEXTS = {"token_ids", "prompt_length", "text"}
ALL = {*TEXTS, "id", "logits", "positions", "versions", "dtype", "model", "continuation_text", "bucket"}
KEEPS: dict[str, set[str]] = {
    "ndjson": ALL,
    "npy": ALL,
    "raw_f32": ALL,
    "hf_fixture": ALL - {"continuation_text", "bucket"},
    "aprrawlg": {"token_ids", "logits", "positions"},
    "key_value": {*TEXTS, "continuation_text"},
    "frozen_json": {*TEXTS, "id", "versions"},
    "safetensors_golden": {"token_ids", "prompt_length", "id", "versions"},
    "llamacpp_kl_base": {"token_ids"},
    "llamacpp_fixture": {"prompt_length", "id"},  # and one token more: each row's own choice
    "marked_text": {"token_ids", "prompt_length"},
}
"""What each format that can be written holds of a dump of one prompt with all its rows."""
LETTERS = st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp"))
WORDS = st.text(LETTERS, min_size=1)


def writers() -> list[str]:
    return [name for name in catalog.entries("readers") if catalog.load("readers", name).write is not Reader.write]


def made(seed: int, text: str = "What is 2+2?", continuation: str = "It is 4.", dtype: str = "float16") -> Dump:
    """A prompt of five tokens and its greedy continuation by three, with every row."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(8, 23)).astype(np.float32)
    tokens = random.integers(0, 23, 8).tolist()
    for position in (4, 5, 6):
        tokens[position + 1] = int(np.argmax(logits[position]))
    prompt = DumpedPrompt("fx", tokens, 5, np.arange(8), logits, text=text, continuation_text=continuation, bucket="sums")
    return Dump((prompt,), 23, {"engine": "1.2"}, {"model": "some/model", "dtype": dtype})


def facts(dump: Dump) -> dict[str, Any]:
    (prompt,) = dump.prompts
    rows = None if prompt.logits is None else np.asarray(prompt.logits[:]).tolist()
    told = {name: getattr(prompt, name) for name in ("id", "token_ids", "prompt_length", "text", "continuation_text", "bucket")}
    about = {name: dump.provenance.get(name) for name in ("model", "dtype")}
    return {**told, **about, "logits": rows, "positions": prompt.positions.tolist(), "versions": dict(dump.versions)}


def assert_kept(before: Dump, after: Dump, names: set[str]) -> None:
    left, right = facts(before), facts(after)
    assert {name: right[name] for name in names} == {name: left[name] for name in names}


def test_the_table_names_every_format_that_can_be_written() -> None:
    assert set(writers()) == set(KEEPS)


@pytest.mark.parametrize("name", sorted(KEEPS))
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**20), text=WORDS, continuation=WORDS, dtype=st.sampled_from(["float16", "bfloat16", "float32"]))
def test_what_a_format_writes_is_read_back(
    tmp_path: Path, name: str, seed: int, text: str, continuation: str, dtype: str
) -> None:
    dump, path = made(seed, text, continuation, dtype), tmp_path / "written"
    catalog.load("readers", name)().write(dump, path)
    assert_kept(dump, open_dump(path, name), KEEPS[name])


@pytest.mark.parametrize("first", sorted(name for name in KEEPS if "logits" in KEEPS[name]))
@pytest.mark.parametrize("second", sorted(KEEPS))
def test_what_one_writes_another_reads_and_writes_again(tmp_path: Path, first: str, second: str) -> None:
    dump = made(3)
    catalog.load("readers", first)().write(dump, tmp_path / "one")
    convert(tmp_path / "one", tmp_path / "two", source_format=first, target_format=second)
    assert_kept(dump, open_dump(tmp_path / "two", second), KEEPS[first] & KEEPS[second])


def test_a_type_that_nobody_stated_is_not_invented(tmp_path: Path) -> None:
    dump = Dump(made(1).prompts, 23)
    HfFixture().write(dump, tmp_path / "f.json")
    assert open_dump(tmp_path / "f.json").provenance["dtype"] == ""


@pytest.mark.parametrize("position", [0, 4, 7, -1, -5])
def test_one_position_of_a_dump_is_one_row(tmp_path: Path, position: int) -> None:
    """Counted from the prompt's end where it is negative: -1 is the row that predicts the first new token."""
    dump = made(2)
    Ndjson().write(dump, tmp_path / "d.jsonl")
    convert(tmp_path / "d.jsonl", tmp_path / "f.json", target_format="hf_fixture", position=position)
    (prompt,) = open_dump(tmp_path / "f.json").prompts
    index = position if position >= 0 else 5 + position
    assert prompt.positions.tolist() == [index]
    assert np.array_equal(np.asarray(prompt.logits[:])[0], np.asarray(dump.prompts[0].logits[:])[index])
    with pytest.raises(ContractError, match="holds no position 8; it holds 0 to 7"):
        convert(tmp_path / "d.jsonl", tmp_path / "g.json", target_format="hf_fixture", position=8)


def test_dumps_of_one_prompt_are_paired_by_their_tokens_whatever_they_are_called() -> None:
    """A fixture of one vector after the prompt, and a dump that goes on behind it, under other names."""
    (prompt,) = made(4).prompts
    fixture = DumpedPrompt("fx", prompt.token_ids[:5], 5, np.array([4]), np.asarray(prompt.logits)[4:5])
    other = DumpedPrompt("0", prompt.token_ids, 5, np.arange(8), prompt.logits)
    for left, right in ((fixture, other), (other, fixture)):
        summary = compare_dumps(Dump((left,), 23), Dump((right,), 23))
        assert summary["positions"] == 1 and summary["metrics"]["kl_divergence"]["max"] == 0
    wrong = DumpedPrompt("0", [*prompt.token_ids[:4], prompt.token_ids[4] ^ 1], 5, np.array([4]), fixture.logits)
    with pytest.raises(ContractError, match="the dumps are of other tokens: from index 4"):
        compare_dumps(Dump((fixture,), 23), Dump((wrong,), 23))


def test_a_capture_keeps_the_text_of_its_prompts_and_so_does_its_golden(project: Any) -> None:
    from logitproof.golden.freeze import freeze
    from logitproof.jobs.capture import capture

    project.suite("suite.yaml", "hello there", "another prompt", max_new_tokens=2)
    folder = project.folder / "cap"
    capture("toy", project.model, str(project.folder / "suite.yaml"), folder)
    (project.folder / "suite.yaml").unlink()
    freeze(folder, project.folder / "g.golden", determinism=False)
    for path in (folder, project.folder / "g.golden"):
        assert [prompt.text for prompt in open_dump(path).prompts] == ["hello there", "another prompt"]
