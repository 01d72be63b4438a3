"""A dump: what some engine wrote down about some prompts, whatever its file looked like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from logitproof.files.untrusted import refusal
from logitproof.rows.top import row_fault

BLOCK = 1 << 24
"""Numbers that are looked at in one go."""


class Rows(Protocol):
    """Logits [N, V] that may not be in memory: an array, a memory map, or rows that are decoded when read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray: ...


READ_AS = "read as"
"""Key of a dump's provenance: sentences on what its reader made of the file (a batch axis, bits of bfloat16)."""


@dataclass(frozen=True)
class CodedRows:
    """Rows that are decoded when they are read, one at a time, so that a file of many gigabytes can be looked into."""

    shape: tuple[int, int]
    decode: Callable[[int], np.ndarray]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """One row [V] for an integer, an array [n, V] for a slice."""
        if isinstance(rows, slice):
            decoded = [self.decode(row) for row in range(*rows.indices(len(self)))]
            return np.stack(decoded) if decoded else np.empty((0, self.shape[1]), np.float32)
        return self.decode(range(len(self))[rows])


@dataclass(frozen=True)
class TopK:
    """The K best entries of each row: `ids` int64 [N, K], `values` float64 [N, K], both padded with -1 and NaN.

    `normalized`: the values are log-probabilities over the whole vocabulary; otherwise they are logits, of
    which nobody knows the sum. `slack` is how far a value may be off, in nats: what rounding took.
    `log_tail` [N] is the log of the mass of all other entries, where the file states it.
    """

    ids: np.ndarray
    values: np.ndarray
    normalized: bool
    slack: float = 0.0
    log_tail: np.ndarray | None = None


@dataclass(frozen=True)
class DumpedPrompt:
    """One prompt: its tokens and what is known at `positions` int64 [N]; row n predicts token positions[n] + 1.

    `logits` [N, V] or `top`, or neither where the file holds tokens only. Log-probabilities may stand for
    logits: they differ by a constant a row, which no metric but `max_delta_logit` could see and none does.
    """

    id: str
    token_ids: list[int]
    prompt_length: int
    positions: np.ndarray
    logits: Rows | None = None
    top: TopK | None = None
    text: str | None = None
    continuation_text: str = ""
    bucket: str = "default"

    @property
    def is_complete(self) -> bool:
        """Whether there are logits at every token, as an engine would give them."""
        return self.logits is not None and len(self.positions) == len(self.token_ids) > 0


@dataclass(frozen=True)
class Dump:
    """All prompts of one file or folder.

    `vocab_size` is None where the file does not say. `versions` and `provenance` are what the file says of
    its making; `taps` are intermediate tensors by name.
    """

    prompts: tuple[DumpedPrompt, ...]
    vocab_size: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    taps: Mapping[str, np.ndarray] = field(default_factory=dict)
    format: str = ""


def checked(dump: Dump, path: Path) -> Dump:
    """The dump, if it can be true; raises ContractError with file, field and remedy if it cannot.

    Looks at every number once: no NaN, no +inf, no row of nothing but -inf, ids inside the vocabulary.
    """
    if not dump.prompts and not dump.taps:
        raise refusal(path, "prompts", "holds no prompt, so it could prove nothing", "write at least one")
    names = [prompt.id for prompt in dump.prompts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise refusal(path, "prompts", f"the prompt id {twice[0]!r} stands twice", "give every prompt an id of its own")
    for prompt in dump.prompts:
        _check_tokens(prompt, dump.vocab_size, path)
        _check_positions(prompt, path)
        if prompt.logits is not None:
            _check_logits(prompt, prompt.logits, dump.vocab_size, path)
        if prompt.top is not None:
            _check_top(prompt, prompt.top, dump.vocab_size, path)
    for name, tensor in dump.taps.items():
        if not np.isfinite(tensor).all():
            raise refusal(path, f"tap {name}", "holds NaN or infinity", "dump it again; look for an uninitialised buffer")
    return dump


def at_position(dump: Dump, position: int, path: Path) -> Dump:
    """The dump with one row of every prompt: that behind token `position`, counted from the end where it is negative."""
    prompts = []
    for prompt in dump.prompts:
        index = position if position >= 0 else prompt.prompt_length + position
        (rows,) = np.nonzero(prompt.positions == index)
        if not len(rows):
            held = f"{prompt.positions[0]} to {prompt.positions[-1]}" if len(prompt.positions) else "none"
            raise refusal(path, f"prompt {prompt.id}", f"holds no position {index}; it holds {held}", "name one that is held")
        row = slice(int(rows[0]), int(rows[0]) + 1)
        top = prompt.top
        if top is not None:
            tail = None if top.log_tail is None else top.log_tail[row]
            top = replace(top, ids=top.ids[row], values=top.values[row], log_tail=tail)
        logits = None if prompt.logits is None else np.asarray(prompt.logits[row])
        prompts.append(replace(prompt, positions=prompt.positions[row], logits=logits, top=top))
    return replace(dump, prompts=tuple(prompts))


def blocks(rows: Rows) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) in pieces that fit in memory."""
    step = max(1, BLOCK // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        yield start, np.asarray(rows[start : start + step])


def _check_tokens(prompt: DumpedPrompt, vocab_size: int | None, path: Path) -> None:
    place = f"prompt {prompt.id}, token ids"
    for at, token in enumerate(prompt.token_ids):
        if not 0 <= token < 2**31 or (vocab_size is not None and token >= vocab_size):
            known = f"0 to {vocab_size - 1}" if vocab_size is not None else "0 and above"
            raise refusal(path, place, f"id {token} at index {at} is outside {known}", "correct the vocabulary or the ids")
    if not 0 <= prompt.prompt_length <= len(prompt.token_ids):
        text = f"the prompt is {prompt.prompt_length} of {len(prompt.token_ids)} tokens"
        raise refusal(path, f"prompt {prompt.id}, prompt length", text, "it cannot be longer than the tokens")


def _check_positions(prompt: DumpedPrompt, path: Path) -> None:
    place, positions = f"prompt {prompt.id}, positions", prompt.positions
    if len(positions) and (positions[0] < 0 or (np.diff(positions) <= 0).any()):
        raise refusal(path, place, "they do not rise", "one row a position, in order, none twice")
    if len(positions) and prompt.token_ids and positions[-1] >= len(prompt.token_ids):
        text = f"position {positions[-1]} is beyond the {len(prompt.token_ids)} tokens"
        raise refusal(path, place, text, "logits at position t follow token t")
    for rows, name in ((prompt.logits, "logits"), (prompt.top.ids if prompt.top else None, "top-k ids")):
        if rows is not None and len(rows) != len(positions):
            raise refusal(
                path, f"prompt {prompt.id}, {name}", f"{len(rows)} rows for {len(positions)} positions", "one row each"
            )


def _check_logits(prompt: DumpedPrompt, logits: Rows, vocab_size: int | None, path: Path) -> None:
    place = f"prompt {prompt.id}, logits"
    if len(logits.shape) != 2 or logits.shape[1] < 2:
        raise refusal(path, place, f"their shape is {list(logits.shape)}", "give [positions, vocabulary]")
    if vocab_size is not None and logits.shape[1] != vocab_size:
        text = f"{logits.shape[1]} a row, the vocabulary is {vocab_size}"
        raise refusal(path, place, text, "correct the vocabulary size, or dump whole rows")
    for start, rows in blocks(logits):
        bad = np.isnan(rows) | np.isposinf(rows)
        bad |= np.isneginf(rows).all(axis=1, keepdims=True)
        if bad.any():
            row, entry = (int(index[0]) for index in np.nonzero(bad))
            text = f"{rows[row, entry]} at position {prompt.positions[start + row]}, vocabulary entry {entry}"
            raise refusal(path, place, text, "dump it again; look for an overflow or an uninitialised buffer")


def _check_top(prompt: DumpedPrompt, top: TopK, vocab_size: int | None, path: Path) -> None:
    for row, (ids, values) in enumerate(zip(top.ids, top.values, strict=True)):
        place, known = f"prompt {prompt.id}, top-k at position {prompt.positions[row]}", ids >= 0
        again = "write the K best entries of the row, largest first: log-probabilities over the whole vocabulary, or logits"
        if text := row_fault(ids[known], values[known], vocab_size, top.normalized, top.slack):
            raise refusal(path, place, text, again)
