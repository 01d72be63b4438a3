"""Rows are written as they come: no engine holds all of them, and many sequences are answered one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof import serve
from logitproof.engines import Answered, Asked, Engine, Hello, Mode, Scored, Working
from logitproof.engines.toy import Toy
from logitproof.errors import Refusal
from logitproof.protocol.messages import Part, ScoreManyParams, ScoreParams, SequenceParams
from logitproof.protocol.sink import RowSink
from logitproof.rows.top import top_rows


class Counting(RowSink):
    """Remembers how many rows came at a time."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.blocks: list[int] = []

    def write(self, rows: np.ndarray) -> None:
        self.blocks.append(len(rows))
        super().write(rows)


def test_the_toy_writes_a_row_when_it_has_it(tmp_path: Path) -> None:
    toy, model = Toy(noise=1e-3), tmp_path / "toy.json"
    model.write_text('{"vocab_size": 300, "seed": 1}')
    toy.load(model)
    with Counting(tmp_path / "rows") as rows:
        toy.score_rows([5, 6, 7], "prefill", rows)
        assert rows.blocks == [1, 1, 1] and rows.announce()["logits"]["shape"] == [3, 300]
    assert (tmp_path / "rows").read_bytes() == toy.score([5, 6, 7], "prefill").logits.tobytes()


@pytest.mark.parametrize("second", [np.ones((1, 4), np.float32), np.ones((1, 3), np.float64), np.ones(3, np.float32)])
def test_rows_of_another_kind_than_the_first_are_refused(tmp_path: Path, second: np.ndarray) -> None:
    with RowSink(tmp_path / "rows") as rows:
        rows.write(np.ones((2, 3), np.float32))
        with pytest.raises(ValueError, match="rows of"):
            rows.write(second)


def test_best_entries_come_in_blocks_too(tmp_path: Path) -> None:
    whole = top_rows(np.array([[3, 1], [2, 0], [1, 4]]), np.log(np.array([[0.5, 0.2]] * 3)))
    with RowSink(tmp_path / "rows") as rows:
        rows.write(whole[:1])
        rows.write(whole[1:])
        announced = rows.announce()
    part = Part.model_validate({"index": 0, "result": announced})
    assert part.result is not None and np.array_equal(part.result.open(), whole)


@dataclass
class Layered(Engine):
    """Takes every sequence through a layer before the next, so that the last rows of all come at the end, in any order."""

    def hello(self) -> Hello:
        return Hello(versions={})

    def score_many(self, asked: Sequence[Asked], mode: Mode) -> Iterator[Answered | Working]:
        yield Working("layer 1 of 1")
        for index in reversed(range(len(asked))):
            if asked[index].token_ids == [9]:
                yield Answered(index, error=Refusal("nine is not scored", field="token_ids"))
                continue
            for token in asked[index].token_ids:
                asked[index].rows.write(np.full((1, 4), token, np.float32))
            yield Answered(index, {"kernels": "layers"})


def many(engine: Engine, folder: Path, *sequences: list[int]) -> list[Mapping[str, Any]]:
    """What is sent for a request of several sequences."""
    asked = [SequenceParams(token_ids=ids, logits=str(folder / f"{n}.bin")) for n, ids in enumerate(sequences)]
    return list(serve.STREAMS["score_many"](engine, "layered", ScoreManyParams(sequences=asked, mode="prefill")))


def test_an_engine_may_take_all_sequences_through_one_layer_before_the_next(tmp_path: Path) -> None:
    sent = many(Layered(), tmp_path, [1, 2], [], [9], [3])
    assert sent[1] == {"progress": {"at": "layer 1 of 1"}}, "an empty one is answered at once"
    parts = [Part.model_validate(message["part"]) for message in sent if "part" in message]
    assert [part.index for part in parts] == [1, 3, 2, 0]
    assert [part.error.kind if part.error else "" for part in parts] == ["refused", "", "refused", ""]
    assert parts[3].result is not None and parts[3].result.isa == {"kernels": "layers"}
    assert np.array_equal(parts[3].result.open(), np.array([[1.0] * 4, [2.0] * 4]))


@dataclass
class Plain(Engine):
    """Scores one sequence and knows of nothing else; fails at one of them."""

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if token_ids == [9]:
            raise RuntimeError("nine")
        return Scored(np.full((len(token_ids), 4), 1.0, np.float32))


def test_an_engine_that_knows_only_score_takes_many_too(tmp_path: Path) -> None:
    parts = [Part.model_validate(message["part"]) for message in many(Plain(), tmp_path, [1], [9], [2, 3])]
    assert [part.index for part in parts] == [0, 1, 2]
    assert parts[1].error is not None and (parts[1].error.kind, parts[1].error.message) == ("failed", "RuntimeError: nine")
    assert parts[2].result is not None and parts[2].result.open().shape == (2, 4)


@pytest.mark.parametrize("blocks", [[7], [1] * 7, [3, 4], [5, 1, 1]])
def test_rows_before_the_first_that_is_wanted_are_dropped(tmp_path: Path, blocks: list[int]) -> None:
    whole, begin = np.arange(21, dtype=np.float32).reshape(7, 3), 0
    with RowSink(tmp_path / "rows", first=5) as rows:
        for count in blocks:
            rows.write(whole[begin : begin + count])
            begin += count
        assert rows.announce()["logits"]["shape"] == [2, 3]
    assert (tmp_path / "rows").read_bytes() == whole[5:].tobytes()


def test_a_row_that_is_wanted_cannot_be_left_out(tmp_path: Path) -> None:
    with RowSink(tmp_path / "rows", first=5) as rows:
        rows.skip(4)
        rows.write(np.ones((1, 3), np.float32))
        assert rows.count == 0
        rows.write(np.ones((2, 3), np.float32))
        assert rows.count == 2
        with pytest.raises(ValueError, match="row 5 is wanted"):
            rows.skip(1)


def test_every_engine_that_is_served_here_gives_a_tail(tmp_path: Path) -> None:
    model = tmp_path / "toy.json"
    model.write_text('{"vocab_size": 300, "seed": 1}')
    toy = Toy()
    toy.load(model)
    asked = ScoreParams(token_ids=[5, 6, 7, 8], mode="prefill", logits=str(tmp_path / "rows"), first=3)
    assert serve._score(toy, "toy", asked)["logits"]["shape"] == [1, 300]
    assert (tmp_path / "rows").read_bytes() == toy.score([5, 6, 7, 8], "prefill").logits[3:].tobytes()
    with pytest.raises(Refusal, match="row 4 is the first that is asked for, of 4 tokens"):
        serve._score(toy, "toy", asked.model_copy(update={"first": 4}))
