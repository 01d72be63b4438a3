"""Checks of what an engine gave, before anyone computes with it: shape, size, finite, greedy, proven.

`Untrusted` is raised where an answer is not what was asked for, so that nothing more of its process can be believed;
EngineGarbage where the numbers alone are impossible, and the process may be asked for others.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import ValidationError

from logitproof.errors import EngineGarbage
from logitproof.files.causes import cause_of
from logitproof.files.mapped import in_blocks
from logitproof.files.worded import in_parts
from logitproof.jobs.taken import NotTaken, taken
from logitproof.protocol import messages as protocol
from logitproof.rows.top import best, is_top, top_fault
from logitproof.rows.transform import bytes_swapped

WRITTEN = "write the whole file, close it, and announce its dtype and shape as they are; see `Tensor` in docs/protocol.md"
M = TypeVar("M", bound=protocol.Message)
R = TypeVar("R", bound=protocol.Rows)


class Untrusted(Exception):
    """An answer after which the process cannot be trusted any more: the text and the remedy for the engine's author."""

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text)
        self.text, self.remedy = text, remedy


@dataclass(frozen=True)
class Answers:
    """Checks of the answers of one engine, called `name`, whose vocabulary has `vocab_size` entries if it is known."""

    name: str
    vocab_size: int | None

    def rows(self, result: R, asked: Path, count: int) -> R:
        """The result with its rows in files of ours, once shape, size and finiteness are those of `count` rows in `asked`."""
        if result.whole is not None:
            whole = self._tensor(result.whole, asked, (count, self.vocab_size), ("float32", "float64"))
            result = result.model_copy(update={"whole": whole})
            held = _held(result, count)
            rows = _opened(result)
            for start, block in in_blocks(rows):
                for position, row in enumerate(block, start):
                    if position in held:
                        self._possible(position, row, rows)
                    elif not np.isnan(row).all():
                        text = f"row {position} is not held, and holds numbers"
                        raise Untrusted(text, "fill it with NaN, or name it in `held`")
            return result
        assert result.topk_ids is not None
        wanted = (count, result.topk_ids.shape[-1] if result.topk_ids.shape else 0)
        tensors = {"topk_ids": self._tensor(result.topk_ids, Path(f"{asked}.topk_ids"), wanted, ("int32",))}
        if result.topk_logprobs is not None:
            place = Path(f"{asked}.topk_logprobs")
            tensors["topk_logprobs"] = self._tensor(result.topk_logprobs, place, wanted, ("float32",))
        result = result.model_copy(update=tensors)
        if fault := top_fault(_opened(result), self.vocab_size):
            text = f"its best entries at position {fault[0]} cannot be true: {fault[1]}"
            raise EngineGarbage(text, where=self.name, remedy="give log-probabilities over the whole vocabulary, best first")
        return result

    def end(self, result: protocol.GenerateResult, max_new_tokens: int, stop: Sequence[int]) -> None:
        """Check that a continuation ends where it may."""
        ids = result.token_ids
        if len(ids) > max_new_tokens:
            raise Untrusted(f"{len(ids)} new tokens, {max_new_tokens} were asked for")
        if result.finish == "stop" and not (ids and ids[-1] in stop):
            raise Untrusted("its continuation ends by `stop`, and its last token is none of those")
        if result.finish == "length" and len(ids) < max_new_tokens:
            raise Untrusted(f"ends by `length` after {len(ids)} new tokens, {max_new_tokens} were asked for")

    def greedy(self, result: protocol.GenerateResult) -> None:
        """Check that every new token is the argmax of its row."""
        for position, (token, row) in enumerate(zip(result.token_ids, result.open(), strict=True)):
            if token >= (self.vocab_size or token + 1):
                raise Untrusted(f"token {token} at new position {position} is outside its vocabulary")
            # Of equals any is a right choice; of the best entries only the first is known to be one.
            if (token != best(row)) if is_top(row) else (row[token] != row.max()):
                text = f"token {token} at new position {position} is not the argmax of its logits, which is {best(row)}"
                remedy = "`generate` is greedy: no temperature, no penalty, no other sampler"
                raise EngineGarbage(text, where=self.name, remedy=remedy)

    def drawn(self, continuations: list[list[int]], count: int, max_new_tokens: int) -> None:
        """Check that there are as many continuations as asked for, none longer, all of the vocabulary."""
        if len(continuations) != count or any(len(ids) > max_new_tokens for ids in continuations):
            raise Untrusted(f"{len(continuations)} continuations, {count} of {max_new_tokens} tokens were asked for")
        if any(token >= (self.vocab_size or token + 1) for ids in continuations for token in ids):
            raise Untrusted("it drew a token outside its vocabulary")

    def taps(self, tensors: Mapping[str, protocol.Tensor], folder: Path) -> dict[str, protocol.Tensor]:
        """The taps in files of ours, once every one lies in `folder`, is of its size, and holds no NaN."""
        kept: dict[str, protocol.Tensor] = {}
        for name, tensor in tensors.items():
            if Path(tensor.path).parent != folder:
                raise Untrusted(f"wrote tap {name} to another folder than it was given")
            try:
                kept[name] = taken(tensor)
            except NotTaken as error:
                raise Untrusted(f"the file of tap {name} is not what it says: {error}", WRITTEN) from None
            if np.isnan(kept[name].open()).any():
                raise EngineGarbage(f"tap {name} holds nan", where=self.name, remedy="look at the operation before it")
        return kept

    def _tensor(
        self, tensor: protocol.Tensor, asked: Path, wanted: tuple[int, int | None], dtypes: tuple[str, ...]
    ) -> protocol.Tensor:
        """The tensor in a file of ours, if it is what was asked for."""
        if Path(tensor.path) != asked:
            how = "a relative path" if not Path(tensor.path).is_absolute() else "another file"
            text = f"it announces its rows in {tensor.path!r}, {how}, and was asked to write them to {str(asked)!r}"
            raise Untrusted(text, "write to the very path of the request, and announce it unchanged")
        if tensor.dtype not in dtypes:
            raise Untrusted(f"rows of {tensor.dtype}, {' or '.join(dtypes)} is expected", "see `Tensor` in docs/protocol.md")
        if tensor.shape != wanted:
            turned = len(tensor.shape) == 2 and tensor.shape[::-1] == wanted and wanted[0] != wanted[1]
            how = ": its sides are exchanged" if turned else ""
            text = f"logits of shape {list(tensor.shape)}, expected {list(wanted)} (positions, vocabulary){how}"
            raise Untrusted(text, "one row a token id, one column an entry of the vocabulary that `load` announced")
        try:
            return taken(tensor)
        except NotTaken as error:
            raise Untrusted(f"its logits file is not what it says: {error}", WRITTEN) from None

    def _possible(self, position: int, row: np.ndarray, rows: np.ndarray) -> None:
        """That a row could be logits; where it could not, whether all `rows` could with their bytes swapped."""
        # of NaN the largest is NaN, and of nothing but -inf it is -inf: one pass instead of six
        if not np.isfinite(row.max()):
            bad = int(np.flatnonzero(~np.isfinite(row))[0])
            text = f"logits hold {float(row[bad])} at position {position}, vocabulary entry {bad}"
            if (swapped := bytes_swapped(rows)) is not None:
                raise EngineGarbage(f"{text}; {swapped.text}", where=self.name, remedy=swapped.remedy)
            raise EngineGarbage(text, where=self.name, remedy="look for an overflow or an uninitialised buffer")


def valid(method: str, result: object) -> protocol.Message:
    """The result of a method as a message; raises Untrusted where it breaks the protocol."""
    return _valid(protocol.METHODS[method][1], method, result)


def valid_part(method: str, part: object) -> protocol.Part:
    """A part of an answer as a message; raises Untrusted where it breaks the protocol."""
    return _valid(protocol.Part, method, part)


def _valid(kind: type[M], method: str, content: object) -> M:
    try:
        return kind.received(content)
    except ValidationError as error:
        place, text = in_parts(error)
        raise Untrusted(f"its answer to `{method}` breaks the protocol at `{place}`: {text}", "see docs/protocol.md") from None


def _held(result: protocol.Rows, count: int) -> Container[int]:
    """The rows that are there; all, where the answer does not say."""
    named = result.held if isinstance(result, protocol.ScoreResult) else None
    if named is None:
        return range(count)
    if named != sorted(set(named)) or named[-1] >= count:
        raise Untrusted(f"`held` is {named[:8]} of {count} rows", "name each row that is there once, from 0 and rising")
    return frozenset(named)


def _opened(result: protocol.Rows) -> np.ndarray:
    try:
        return result.open()
    except (OSError, ValueError) as error:
        raise Untrusted(f"its logits file is not what it says: {cause_of(error)}", WRITTEN) from None
