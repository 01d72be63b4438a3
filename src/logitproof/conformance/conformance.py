"""Does an engine keep the protocol? `logitproof protocol test` asks it what a harness may ask, rightly and wrongly.

Nothing is said about whether its numbers are those of the model: that is `logitproof check`. To add a rule, write its
function in `conformance_rules` and enter it in `RULES`, from which `docs/clients.md` has its table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from logitproof.conformance import rules
from logitproof.conformance.session import Broken, NotOffered, Session
from logitproof.files.last_words import cause
from logitproof.jobs.spec import Side

Status = Literal["PASS", "FAIL", "NOT-OFFERED"]


@dataclass(frozen=True)
class Rule:
    """`name` in reports, what it `asks` of an engine, and the `remedy` for its author."""

    name: str
    asks: str
    check: Callable[[Session], str]
    remedy: str


# What needs no weights comes first; what speaks of the whole traffic comes after it; what ends the process last.
RULES: tuple[Rule, ...] = (
    Rule(
        "hello",
        "`hello` is answered with protocol 1, a name and at least one mode",
        rules.hello,
        "see `hello` in docs/protocol.md",
    ),
    Rule(
        "unknown method",
        "A method that does not exist is answered with an error of kind `unsupported`",
        rules.unknown_method,
        'answer {"kind": "unsupported"} and read the next line',
    ),
    Rule(
        "malformed line",
        "A line that is no request is answered with an error (id −1 where it has none), and the engine goes on",
        rules.malformed_line,
        "catch what the JSON parser raises, around the whole of one line",
    ),
    Rule(
        "before load",
        "`score` before `load` is answered with an error",
        rules.before_load,
        "refuse it: there is no model",
    ),
    Rule(
        "missing file",
        "`load` of a file that is not there is `refused`, and the message names the file",
        rules.missing_file,
        "answer kind `refused`, with the path in the message",
    ),
    Rule(
        "truncated file",
        "`load` of weights whose end is missing is `refused`, and the message names the file",
        rules.truncated_file,
        "compare the sizes in the header with the file's before you compute with what is behind it",
    ),
    Rule("load", "`load` is answered with the size of the vocabulary", rules.load, "see `load` in docs/protocol.md"),
    Rule(
        "shape",
        "`score` of T tokens gives T rows of the whole vocabulary (or of the best entries)",
        rules.shape,
        "one row a token id, one column an entry of the vocabulary that `load` announced",
    ),
    Rule(
        "size",
        "The file that the request names has exactly the bytes that the shape says, when the answer comes",
        rules.size,
        "write raw little-endian numbers without a header, and close the file before you answer",
    ),
    Rule("finite", "No logit is NaN or +Inf, no row is −Inf throughout", rules.finite, "look for an overflow or unset memory"),
    Rule(
        "logits",
        "Rows are logits: not probabilities, not flat, not byte-swapped, another one after another token",
        rules.logits,
        "give the output of the last matrix product, as little-endian numbers, a row a token",
    ),
    Rule("one token", "One token can be scored", rules.one_token, "a prompt may be one token long"),
    Rule(
        "any path",
        "A path with spaces, quotes and letters of any script is written to",
        rules.any_path,
        "read JSON strings with their escapes (\\uXXXX, pairs of surrogates), and open files by UTF-8 names",
    ),
    Rule(
        "unknown parameter",
        "A parameter that a method does not have is `refused`: it could change a logit",
        rules.unknown_parameter,
        "compare the names of the parameters with those that you read",
    ),
    Rule("empty list", "`score` of no tokens is `refused`", rules.empty_list, "there is nothing to score: refuse it"),
    Rule(
        "outside vocabulary",
        "A token id that is not below the size of the vocabulary is `refused`",
        rules.outside_vocabulary,
        "compare every id with the size of the vocabulary before it is an index",
    ),
    Rule(
        "repeatable",
        "The same tokens twice give the same bits",
        rules.repeatable,
        "fix the number of threads and the order of sums; look for memory that is read before it is written",
    ),
    Rule(
        "prefix",
        "What follows a token does not change its row",
        rules.prefix,
        "look at the causal mask, and at padding",
    ),
    Rule(
        "decode",
        "`decode` gives what `prefill` gives",
        rules.decode,
        "look at the positions and the order of what is in the KV cache",
    ),
    Rule(
        "state",
        "What was asked before does not change a row",
        rules.state,
        "empty the KV cache at the start of every request",
    ),
    Rule(
        "tail",
        "`score` with `first` gives the rows from that position on, and they are those of `score` without it",
        rules.tail,
        "leave rows out of the file, never tokens out of the pass; or do not offer `tail`",
    ),
    Rule(
        "many",
        "`score_many` answers every sequence with one part, and with the rows of `score`",
        rules.many,
        "one part a sequence, with its index; an empty cache for each; see `score_many` in docs/protocol.md",
    ),
    Rule(
        "one of many",
        "A sequence of `score_many` that cannot be scored is `refused` in its part, and the others are scored",
        rules.one_of_many,
        "answer its part with `error`, and go on",
    ),
    Rule(
        "greedy",
        "`generate` gives as many tokens as asked for, each the argmax of its row and of `score`'s",
        rules.greedy,
        "greedy: no temperature, no penalty, ties to the lowest id",
    ),
    Rule(
        "no new tokens", "`generate` of 0 tokens gives none", rules.no_new_tokens, "answer no ids, shape [0, V], an empty file"
    ),
    Rule(
        "stop",
        "`generate` ends with the first token of `stop`, which is the last of its ids",
        rules.stop,
        "keep the stop token, and say finish `stop`",
    ),
    Rule("tokenize", "`tokenize` gives ids of the vocabulary, `detokenize` a text", rules.tokenize, "offer both or neither"),
    Rule("sample", "`sample` draws as many as asked for, the same with the same seed", rules.sample, "seed every continuation"),
    Rule("progress", "Messages of progress carry the id of the request that runs", rules.progress, "send the request's own id"),
    Rule(
        "ids", "Every answer carries the id of its request, once", rules.answer_ids, "send the request's own id, and one answer"
    ),
    Rule(
        "messages",
        "Answers have the fields of the protocol and no others",
        rules.messages,
        "what else there is goes into `details`",
    ),
    Rule(
        "stdout",
        "Nothing but answers is written to stdout",
        rules.stdout,
        "log to stderr; give libraries stderr as their stdout",
    ),
    Rule("close", "`close` is answered and ends the process with status 0", rules.close, "answer, then leave the loop"),
    Rule(
        "end of input",
        "The end of stdin ends the process",
        rules.end_of_input,
        "leave the loop when reading gives nothing more",
    ),
)

RESTED_ON = ("hello", "stdout", "ids", "load", "shape", "size", "finite", "logits", "prefix", "decode", "state", "greedy")
"""Rules in the order in which they are mended, those that others rest on first."""


@dataclass(frozen=True)
class Row:
    """One rule: what was sent and what came back, and the remedy where that was wrong."""

    rule: str
    status: Status
    said: str
    remedy: str = ""
    words: tuple[str, ...] = ()
    """what the process wrote before it ended, where no rule before this one has the same"""


@dataclass(frozen=True)
class Conformance:
    """What one engine did with every rule."""

    engine: str
    rows: tuple[Row, ...]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.status == "FAIL"]

    @property
    def first_to_mend(self) -> Row | None:
        """The broken rule that others rest on: what `score` gives comes before what is refused, and before the end."""
        order = {name: number for number, name in enumerate(RESTED_ON)}
        return min(self.failed, key=lambda row: order.get(row.rule, len(order)), default=None)

    @property
    def exit_code(self) -> int:
        """0 every rule that applies is kept · 1 one is not · 3 nothing was asked."""
        if not any(row.status == "PASS" for row in self.rows):
            return 3
        return 1 if self.failed else 0

    def as_json(self) -> dict[str, Any]:
        return {"engine": self.engine, "exit_code": self.exit_code, "rows": [asdict(row) for row in self.rows]}


def conformance(side: Side, *, timeout: float = 60.0, on_row: Callable[[Row], None] = lambda row: None) -> Conformance:
    """Ask an engine everything; raises EngineError where it does not even answer `hello`, ContractError where it refuses to."""
    spec = replace(side.spec, timeout=timeout)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="logitproof-") as scratch, Session(spec, side, Path(scratch)) as session:
        session.open()
        for rule in RULES:
            rows.append(_without_repeated(_row(rule, session), rows))
            on_row(rows[-1])
    return Conformance(side.name, tuple(rows))


def _without_repeated(row: Row, before: list[Row]) -> Row:
    """The row, without words that a row before has: one panic breaks ten rules, and is read once."""
    same = next((earlier for earlier in before if earlier.words and _end(earlier) == _end(row)), None)
    return replace(row, words=(), said=f"{row.said}, as in `{same.rule}`") if same else row


def _end(row: Row) -> str:
    return cause(row.words) or "\n".join(row.words)


def _row(rule: Rule, session: Session) -> Row:
    session.noted.ended = []
    try:
        # whatever the engine wrote is computed with
        with np.errstate(all="ignore"):
            return Row(rule.name, "PASS", rule.check(session))
    except NotOffered as reason:
        return Row(rule.name, "NOT-OFFERED", str(reason))
    except Broken as reason:
        return Row(rule.name, "FAIL", str(reason), reason.remedy or rule.remedy, tuple(session.noted.ended))
