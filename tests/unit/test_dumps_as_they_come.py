"""Dumps in the containers and shapes that people save: read as what they are, told where they are not plain, or refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from logitproof.cli import main
from logitproof.errors import ContractError
from logitproof.golden.compare import compare_dumps
from logitproof.readers import open_dump

T, V = 7, 40
ROWS = np.random.default_rng(2).normal(size=(T, V)).astype(np.float32)
COARSE = (ROWS.view("u4") >> 16 << 16).view(np.float32)
IDS = [3, 17, 5, 9, 21, 2, 30]


def npy(path: Path, rows: np.ndarray, ids: list[int] = IDS) -> None:
    np.save(path, rows)
    path.with_suffix(".json").write_text(json.dumps({"token_ids": ids}))


def line(rows: np.ndarray) -> str:
    return json.dumps({"prompt": "p", "tokens": IDS, "logits": rows.tolist()})


WRITERS: dict[str, tuple[str, Callable[[Path], Any], np.ndarray]] = {
    "x.npz": ("npz", lambda path: np.savez(path, logits=ROWS, tokens=np.array(IDS)), ROWS),
    "batch.npz": ("npz", lambda path: np.savez(path, logits=ROWS[None], input_ids=np.array([IDS])), ROWS),
    "x.pt": ("torch_pt", lambda path: torch.save({"logits": torch.tensor(ROWS), "input_ids": torch.tensor(IDS)}, path), ROWS),
    "bf16.pt": (
        "torch_pt",
        lambda path: torch.save({"logits": torch.tensor(COARSE).bfloat16(), "token_ids": IDS}, path),
        COARSE,
    ),
    "x.jsonl": ("jsonl", lambda path: path.write_text(line(ROWS) + "\n"), ROWS),
    "batch.jsonl": ("jsonl", lambda path: path.write_text(line(ROWS[None])), ROWS),
    "x.safetensors": (
        "safetensors_logits",
        lambda path: save_file({"logits": torch.tensor(ROWS), "input_ids": torch.tensor(IDS)}, path),
        ROWS,
    ),
    "bf16.safetensors": (
        "safetensors_logits",
        lambda path: save_file({"logits": torch.tensor(COARSE).bfloat16(), "token_ids": torch.tensor(IDS)}, path),
        COARSE,
    ),
    "batch.npy": ("npy", lambda path: npy(path, ROWS[None]), ROWS),
    "bits.npy": ("npy", lambda path: npy(path, (COARSE.view("u4") >> 16).astype("u2")), COARSE),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_container_is_recognized_by_its_content_and_read_exactly(name: str, tmp_path: Path) -> None:
    kind, write, right = WRITERS[name]
    write(tmp_path / name)
    dump = open_dump(tmp_path / name)
    assert dump.format == kind and dump.vocab_size == V
    (prompt,) = dump.prompts
    assert prompt.token_ids == IDS and prompt.logits is not None
    assert np.array_equal(np.asarray(prompt.logits[:]), right)


def test_vllms_prompt_logprobs_are_the_best_entries_of_each_position(tmp_path: Path) -> None:
    log_p = ROWS - np.log(np.exp(ROWS.astype(np.float64)).sum(1, keepdims=True))
    entries: list[Any] = [None]
    for at in range(T - 1):
        order = np.argsort(-log_p[at])
        ranks = {int(token): rank + 1 for rank, token in enumerate(order)}
        kept = {*order[:5].tolist(), IDS[at + 1]}  # vLLM adds the prompt's own token, whatever its rank
        entries.append({str(token): {"logprob": float(log_p[at][token]), "rank": ranks[token]} for token in kept})
    (tmp_path / "v.json").write_text(json.dumps({"prompt_token_ids": IDS, "prompt_logprobs": entries}))
    dump = open_dump(tmp_path / "v.json")
    assert dump.format == "vllm_prompt_logprobs"
    (prompt,) = dump.prompts
    assert prompt.positions.tolist() == list(range(T - 1)) and prompt.top is not None and prompt.top.normalized
    assert [row[:5].tolist() for row in prompt.top.ids] == [np.argsort(-row)[:5].tolist() for row in log_p[:-1]]
    np.savez(tmp_path / "r.npz", logits=ROWS, tokens=np.array(IDS))
    found = compare_dumps(open_dump(tmp_path / "r.npz"), dump)
    assert found["positions"] == T - 1 and found["metrics"]["kl_divergence_lower"]["max"] < 1e-6


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(pickle.dumps([{"tokens": IDS, "logits": ROWS}])),
        lambda path: torch.save({"logits": torch.tensor(ROWS)}, path, _use_new_zipfile_serialization=False),
    ],
    ids=["pickle", "an old torch.save"],
)
def test_a_pickle_is_refused_with_the_way_out(write: Callable[[Path], Any], tmp_path: Path) -> None:
    write(tmp_path / "golden.pickle")
    with pytest.raises(ContractError, match=r"(?s)is a pickle.*np\.savez") as raised:
        open_dump(tmp_path / "golden.pickle")
    assert "golden.pickle" in str(raised.value)


def test_code_in_a_pt_file_is_refused_and_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"logits": Evil()}, tmp_path / "x.pt")
    with pytest.raises(ContractError, match="no file of plain tensors"):
        open_dump(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


PAD = ROWS[:1] * 0 + ROWS.mean()
PADDED: dict[str, tuple[np.ndarray, list[int], str]] = {
    "rows behind": (np.concatenate([ROWS, PAD]), [*IDS, 0], "0 before, 1 behind"),
    "rows before": (np.concatenate([PAD, PAD, ROWS]), [0, 0, *IDS], "2 before, 0 behind"),
    "entries of zero": (np.concatenate([ROWS, np.zeros((T, 4), "f4")], 1), IDS, "the last 4 of 44 entries"),
    "entries of -inf": (np.concatenate([ROWS, np.full((T, 4), -np.inf, "f4")], 1), IDS, "the last 4 of 44 entries"),
    "a batch of one": (ROWS[None], IDS, "a batch of one"),
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_is_cut_off_and_told(name: str, tmp_path: Path) -> None:
    rows, ids, told = PADDED[name]
    npy(tmp_path / "ref.npy", ROWS)
    npy(tmp_path / "other.npy", rows, ids)
    for left, right in (("ref.npy", "other.npy"), ("other.npy", "ref.npy")):
        found = compare_dumps(open_dump(tmp_path / left), open_dump(tmp_path / right))
        assert found["positions"] == T and found["metrics"]["kl_divergence"]["max"] < 1e-9
        assert any(told in note for note in found["notes"])
    printed = CliRunner().invoke(main, ["compare", str(tmp_path / "ref.npy"), str(tmp_path / "other.npy")])
    assert printed.exit_code == 0 and told in " ".join(printed.output.split())


@pytest.mark.parametrize(
    ("rows", "ids", "text"),
    [
        (np.concatenate([ROWS, ROWS[:, :4]], 1), IDS, "are no padding"),
        (np.concatenate([PAD, ROWS, ROWS[:1]]), [7, 8, *IDS], "other tokens"),
        (ROWS, [3, 17, 5, 9, 21, 2, 31], "other tokens"),
    ],
)
def test_what_is_no_padding_is_refused(rows: np.ndarray, ids: list[int], text: str, tmp_path: Path) -> None:
    npy(tmp_path / "ref.npy", ROWS)
    npy(tmp_path / "other.npy", rows, ids)
    with pytest.raises(ContractError, match=text):
        compare_dumps(open_dump(tmp_path / "ref.npy"), open_dump(tmp_path / "other.npy"))


@pytest.mark.parametrize(
    ("shift", "text"),
    [
        (np.full((T, 1), 7.0), "the logits differ by a constant, 7:"),
        (np.arange(T, dtype=np.float64)[:, None], f"the logits differ by a constant of each row, from 0 to {T - 1}:"),
        (np.zeros((T, 1)), ""),
        (np.arange(ROWS.shape[1])[None] * 1e-3, ""),
    ],
    ids=["one", "each row's own", "none", "no constant"],
)
def test_logits_that_differ_by_a_constant_are_said_to_be(tmp_path: Path, shift: np.ndarray, text: str) -> None:
    """Softmax does not see it, so that every number that rests on probabilities is that of equal rows."""
    np.savez(tmp_path / "r.npz", logits=ROWS, tokens=np.array(IDS))
    np.savez(tmp_path / "c.npz", logits=(ROWS + shift).astype(np.float32), tokens=np.array(IDS))
    notes = compare_dumps(open_dump(tmp_path / "r.npz"), open_dump(tmp_path / "c.npz"))["notes"]
    said = [note for note in notes if "constant" in note]
    assert (len(said) == 1 and said[0].startswith(text)) if text else not said
