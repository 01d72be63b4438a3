"""What the protocol asks of an engine: each function sends something, looks at what came back and returns what it saw.

A rule judges one thing, so that a fault fails its own row and no other. `Broken` says what was wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from logitproof.conformance.rows import Rows, apart, how_apart, largest_difference, last_of
from logitproof.conformance.session import TOKENS, Broken, NotOffered, Session, truncated
from logitproof.conformance.wire import Answer
from logitproof.files.worded import in_words
from logitproof.jobs.shown import SPLIT
from logitproof.protocol import messages as protocol
from logitproof.rows.transform import by_themselves, bytes_swapped

SAME_MODEL = 1e-2
"""Nats between two of an engine's own ways to compute: float16 and bfloat16 stay far below, another model does not."""
TIE = 0.1
"""Logits by which a token may lie below the best one when both ways to compute are rounded differently."""
NEW = 8
AFTER = "hand over the row that was computed after token t, for every t"


def hello(session: Session) -> str:
    try:
        answer = protocol.HelloResult.received(session.hello_answer)
    except ValidationError as error:
        raise Broken(f"hello → {in_words(error)}, in {session.hello_answer}") from None
    if answer.protocol != protocol.VERSION or not answer.modes:
        raise Broken(f"hello → protocol {answer.protocol} with modes {answer.modes}, version {protocol.VERSION} is spoken here")
    return f"hello → {answer.engine}, protocol {answer.protocol}, {' and '.join(answer.modes)}, versions {answer.versions}"


def unknown_method(session: Session) -> str:
    answer = session.ask("quantum_leap", {})
    _alive("an unknown method", answer)
    if answer.kind != "unsupported":
        raise Broken(f"method quantum_leap → {answer}")
    return f"method quantum_leap → {answer}"


def malformed_line(session: Session) -> str:
    for line in (b'{"id": 7, "method": "hel', b"[1, 2, 3]", b"hello?", b'{"id": 7}'):
        wire = session.wire
        answer = wire.say(line)
        if answer.silence:
            wire.end()
        _alive(f"the line {line.decode()}", answer)
        if answer.error is None:
            raise Broken(f"the line {line.decode()} → {answer}")
    return "four lines that are no requests → an error each, and it goes on"


def unknown_parameter(session: Session) -> str:
    params = {"token_ids": session.ids(2), "mode": (session.modes or ["prefill"])[0], "logits": str(session.target())}
    answer = session.ask("score", {**params, "attention_sinks": 4})
    _alive("a parameter that score has not", answer)
    if answer.kind != "refused":
        raise Broken(f"score with attention_sinks → {answer}")
    return f"score with attention_sinks → {answer}"


def before_load(session: Session) -> str:
    params = {"token_ids": [1], "mode": (session.modes or ["prefill"])[0], "logits": str(session.target())}
    answer = session.ask("score", params)
    _alive("score before load", answer)
    if answer.error is None:
        raise Broken(f"score before load → {answer}")
    return f"score before load → {answer}"


def missing_file(session: Session) -> str:
    path = session.scratch / f"not-there{session.side.model.suffix}"
    return _refused_file(session, path, "a file that is not there")


def truncated_file(session: Session) -> str:
    return _refused_file(session, truncated(session.side.model, session.scratch / "truncated"), "a truncated file")


def load(session: Session) -> str:
    loaded = session.load()
    assert session.load_answer is not None and session.load_answer.result is not None
    if unknown := session.load_answer.result.keys() - protocol.LoadResult.model_fields:
        raise Broken(f"load {session.side.model.name} → fields that the protocol does not have: {', '.join(sorted(unknown))}")
    return f"load {session.side.model.name} → vocabulary of {loaded.vocab_size}, context of {loaded.context_length}"


def shape(session: Session) -> str:
    rows = session.baseline()
    wanted = (TOKENS, session.load().vocab_size)
    right = rows.shape[:1] == wanted[:1] and len(rows.shape) == 2 if rows.ids is not None else rows.shape == wanted
    if not right:
        raise Broken(f"score of {TOKENS} tokens → shape {list(rows.shape)}, {list(wanted)} is (tokens, vocabulary)")
    return f"score of {TOKENS} tokens → shape {list(rows.shape)}"


def size(session: Session) -> str:
    rows = session.baseline()
    if rows.path != rows.asked:
        raise Broken(f"score was to write {rows.asked.name}, and announces {rows.path}")
    if rows.found_bytes != rows.announced_bytes:
        raise Broken(f"score announces {rows.announced_bytes} bytes, its file has {rows.found_bytes} when the answer comes")
    return f"the file that was named has the {rows.announced_bytes} bytes that its shape says"


def any_path(session: Session) -> str:
    folder = session.scratch / "a folder, with 'quotes' & ünïcödé 文字 😀"
    folder.mkdir(exist_ok=True)
    rows = session.score(session.ids(2), target=folder / "logits.bin")
    if not rows.found_bytes or rows.path != rows.asked:
        raise Broken(f"score into {rows.asked} → it announces {rows.path}, and that file is not there")
    return f"score into {rows.asked.parent.name}/logits.bin → written"


def finite(session: Session) -> str:
    rows = session.baseline()
    if not rows.values.size:
        raise Broken(f"score of {TOKENS} tokens → no rows")
    real = rows.ids is None or not np.isnan(rows.values).all()
    bad = np.argwhere((np.isnan(rows.values) | np.isposinf(rows.values)) & real)
    masked = np.isneginf(rows.values).all(axis=-1)
    if len(bad):
        row, entry = bad[0]
        swapped = bytes_swapped(rows.values) if rows.ids is None else None
        what = f"score of {TOKENS} tokens → {rows.values[row, entry]} at position {row}, entry {entry}"
        raise Broken(f"{what}; {swapped.text}", remedy=swapped.remedy) if swapped else Broken(what)
    if masked.any():
        raise Broken(f"score of {TOKENS} tokens → -inf in the whole row of position {int(np.argmax(masked))}")
    return f"score of {TOKENS} tokens → {rows.values.size} finite numbers, {rows.values.min():.4g} to {rows.values.max():.4g}"


def logits(session: Session) -> str:
    rows = session.baseline()
    if rows.ids is not None:
        return f"score of {TOKENS} tokens → log-probabilities of the best entries"
    if (transform := by_themselves(rows.values)) is not None:
        raise Broken(f"score of {TOKENS} tokens → {transform.text}", remedy=transform.remedy)
    with np.errstate(invalid="ignore"):
        flat = np.flatnonzero(np.ptp(rows.values, axis=-1) == 0) if rows.values.ndim == 2 else np.empty(0, int)
    if len(flat):
        value = f"{rows.values[flat[0], 0]:g}"
        raise Broken(f"score of {TOKENS} tokens → the one value {value} in the whole row of position {flat[0]}")
    if len(rows.values) > 1 and (rows.values == rows.values[:1]).all():
        raise Broken(f"score of {TOKENS} tokens → the same row at all {TOKENS} positions, after different tokens")
    return f"score of {TOKENS} tokens → rows that are neither probabilities nor flat, nor have swapped bytes"


def one_token(session: Session) -> str:
    rows = session.score(session.ids(1))
    if rows.shape[:1] != (1,):
        raise Broken(f"score of 1 token → {list(rows.shape)}")
    return f"score of 1 token → shape {list(rows.shape)}"


def repeatable(session: Session) -> str:
    first, second = (session.score(session.ids(TOKENS)) for _ in range(2))
    if first.shape != second.shape or not np.array_equal(first.values, second.values, equal_nan=True):
        raise Broken(f"the same tokens twice → logits {largest_difference(first, second)} apart")
    return "the same tokens twice → the same bits"


def empty_list(session: Session) -> str:
    session.load()
    return _refused_tokens(session, [], "no tokens")


def outside_vocabulary(session: Session) -> str:
    vocab_size = session.load().vocab_size
    _refused_tokens(session, [1, vocab_size], f"token {vocab_size} of a vocabulary of {vocab_size}")
    return _refused_tokens(session, [2**31 + 5], f"token {2**31 + 5}")


def prefix(session: Session) -> str:
    ids = session.ids(TOKENS)
    longer, shorter = session.score(ids), session.score(ids[:4])
    return _same("4 tokens alone and before 3 others", longer, shorter, 4)


def decode(session: Session) -> str:
    if len(session.modes) < 2:
        raise NotOffered(f"hello offers {' and '.join(session.modes) or 'no mode'} alone")
    ids = session.ids(TOKENS)
    once, stepwise = session.score(ids, "prefill"), session.score(ids, "decode")
    return _same(f"prefill and decode of {TOKENS} tokens", once, stepwise, TOKENS)


def tail(session: Session) -> str:
    if not session.offers("tail"):
        raise NotOffered("hello does not offer `tail`")
    whole, first = session.score(session.ids(TOKENS)), TOKENS - 2
    rows = session.score(session.ids(TOKENS), first=first)
    if rows.shape[:1] != (TOKENS - first,):
        raise Broken(f"score of {TOKENS} tokens from position {first} → rows {list(rows.shape)}")
    distance = apart(last_of(whole, TOKENS - first), rows, TOKENS - first)
    if not distance <= SAME_MODEL:
        raise Broken(f"rows from position {first} are KL {distance:.3g} nats from those of the whole, {SAME_MODEL} at most")
    return f"score of {TOKENS} tokens from position {first} → KL {distance:.2g} nats from those rows of the whole"


def many(session: Session) -> str:
    sequences = [session.ids(TOKENS), session.ids(3, begin=2), session.ids(5, begin=4)]
    rows, errors = session.score_many(sequences)
    if errors:
        raise Broken(f"score_many of {len(sequences)} sequences → an error of kind {next(iter(errors.values()))}")
    for index, ids in enumerate(sequences):
        alone = session.score(ids)
        if rows[index].shape[:1] != (len(ids),):
            raise Broken(f"score_many → sequence {index} of {len(ids)} tokens has rows {list(rows[index].shape)}")
        _same(f"sequence {index} of score_many and the same alone", alone, rows[index], len(ids))
    return f"score_many of {len(sequences)} sequences → a part each, with the rows of `score`"


def one_of_many(session: Session) -> str:
    good, bad = session.ids(3), [1, session.load().vocab_size]
    rows, errors = session.score_many([good, bad, good])
    if errors != {1: "refused"} or sorted(rows) != [0, 2]:
        raise Broken(f"score_many with one token outside the vocabulary → rows of {sorted(rows)}, errors {errors}")
    return "score_many with one token outside the vocabulary → that sequence is refused, the others are scored"


def state(session: Session) -> str:
    others, first, wire = session.ids(2 * TOKENS, begin=3), session.baseline(), session.wire
    if session.offers("generate"):
        session.generate(others, 3)
    session.ask("score", {"token_ids": [session.load().vocab_size], "mode": "prefill", "logits": str(session.target())})
    for mode in session.modes:
        session.score(others, mode)
    again = session.score(session.ids(TOKENS))
    if session.wire is not wire:
        raise Broken("between two scores of the same tokens its process ended")
    return _same("the same tokens before and after other requests", first, again, TOKENS)


def greedy(session: Session) -> str:
    ids = session.ids(4)
    made = session.generate(ids, NEW)
    new = list(made.token_ids)
    if len(new) != NEW or made.shape[:1] != (NEW,) or made.finish != "length":
        raise Broken(f"generate of {NEW} → {len(new)} ids, rows {list(made.shape)}, finish {made.finish}")
    scored = session.score([*ids, *new[:-1]])
    for n, token in enumerate(new):
        row = len(ids) - 1 + n
        if token != made.best(n):
            raise Broken(f"generate → new token {n} is {token}, the argmax of the row it comes with is {made.best(n)}")
        if not scored.value(row, token) >= scored.value(row, scored.best(row)) - TIE:
            text = f"generate → new token {n} is {token}, score of the same tokens puts {scored.best(row)} first"
            shift = _shift(scored, new, len(ids) - 1)
            raise Broken(text + shift, remedy=AFTER if shift else "")
    return f"generate of {NEW} → {new}, each the argmax of its row and of score's"


def _shift(scored: Rows, new: list[int], begin: int) -> str:
    """Whether the rows of `score` stand one place off: each new token is the argmax of a neighbour of its row."""
    for by in (1, -1):
        places = [begin + n + by for n in range(len(new))]
        if all(scored.best(place) == token for place, token in zip(places, new, strict=True) if place < len(scored.values)):
            return f"; row t{by:+d} has each of them: the rows of score are shifted by one"
    return ""


def no_new_tokens(session: Session) -> str:
    made = session.generate(session.ids(4), 0)
    if made.token_ids or made.finish != "length" or made.found_bytes:
        raise Broken(f"generate of 0 → {list(made.token_ids)}, {made.found_bytes} bytes, finish {made.finish}")
    return "generate of 0 → no ids, no rows, finish length"


def stop(session: Session) -> str:
    ids = session.ids(4)
    free = list(session.generate(ids, NEW).token_ids)
    if not free:
        raise Broken(f"generate of {NEW} → no ids")
    new = [n for n in range(len(free)) if free[n] not in free[:n]]
    at = new[len(new) // 2]
    made = session.generate(ids, NEW, [free[at]])
    if list(made.token_ids) != free[: at + 1] or made.finish != "stop":
        raise Broken(
            f"generate until {free[at]} → {list(made.token_ids)}, finish {made.finish}; {free[: at + 1]}, stop is right"
        )
    return f"generate until {free[at]} → ends with it after {at + 1} tokens, finish stop"


def tokenize(session: Session) -> str:
    if not session.offers("tokenize"):
        raise NotOffered("hello does not offer `tokenize`")
    vocab_size = session.load().vocab_size
    answer = session.ask("tokenize", {"text": "Hello, wörld 😀"})
    ids = (answer.result or {}).get("token_ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(token, int) and 0 <= token < vocab_size for token in ids):
        raise Broken(f"tokenize → {answer}, ids of the vocabulary of {vocab_size} are asked for")
    back = session.ask("detokenize", {"token_ids": ids})
    if not isinstance((back.result or {}).get("text"), str):
        raise Broken(f"detokenize of {ids} → {back}")
    return f"tokenize → {len(ids)} ids of the vocabulary, detokenize → a text"


def sample(session: Session) -> str:
    if not session.offers("sample"):
        raise NotOffered("hello does not offer `sample`")
    params = {"token_ids": session.ids(4), "count": 3, "max_new_tokens": 4, "seed": 5}
    first, second = (session.ask("sample", params) for _ in range(2))
    drawn = (first.result or {}).get("token_ids")
    if not isinstance(drawn, list) or len(drawn) != 3 or any(len(row) > 4 for row in drawn):
        raise Broken(f"sample of 3 continuations of 4 → {first}")
    if first.result != second.result:
        raise Broken(f"sample with seed 5 twice → {first}, then {second}")
    return "sample of 3 continuations with one seed twice → the same"


def progress(session: Session) -> str:
    if session.noted.wrong_progress:
        raise Broken(session.noted.wrong_progress[0])
    if not session.noted.progress:
        raise NotOffered("it sent no progress, and need not")
    return f"{session.noted.progress} messages of progress, each with the id of the request that ran"


def answer_ids(session: Session) -> str:
    if session.noted.wrong_ids:
        raise Broken(session.noted.wrong_ids[0])
    return "every answer carried the id of its request"


def messages(session: Session) -> str:
    if session.noted.malformed:
        raise Broken(session.noted.malformed[0])
    return "every answer had the fields of the protocol and no others"


def stdout(session: Session) -> str:
    if session.noted.stray:
        text = f"{len(session.noted.stray)} lines on stdout are not the protocol, the first: {session.noted.stray[0]}"
        raise Broken(text, remedy=SPLIT if session.noted.is_split else "")
    return "nothing on stdout but answers"


def close(session: Session) -> str:
    wire = session.wire
    answer = wire.ask("close", {})
    status = wire.wait(2.0)
    if answer.result is None or status != 0:
        ended = "it runs on after 2 s" if status is None else f"status {status}"
        raise Broken(f"close → {answer}, {ended}")
    return "close → answered, ended with status 0"


def end_of_input(session: Session) -> str:
    wire = session.fresh()
    wire.ask("hello", session.hello_params)
    if wire.hang_up() is None:
        raise Broken("end of stdin → it runs on after 5 s")
    return "end of stdin → ended"


def _same(what: str, first: Rows, second: Rows, count: int) -> str:
    """That the first `count` rows of two answers are of one model; Broken says what the second's are instead."""
    distance = apart(first, second, count)
    if distance <= SAME_MODEL:
        return f"{what} → KL {distance:.2g} nats between their rows"
    instead, remedy = how_apart(first, second, count)
    by = f"KL {distance:.3g} nats between their rows, {SAME_MODEL} at most" if np.isfinite(distance) or not instead else ""
    raise Broken(f"{what} → {'; '.join(filter(None, (by, instead)))}", remedy=remedy)


def _alive(what: str, answer: Answer) -> None:
    if answer.silence:
        raise Broken(f"{what} → {answer}")


def _refused_file(session: Session, path: Path, what: str) -> str:
    """Loading `path` must be refused, by name."""
    session.forget_model()
    answer = session.ask("load", {"model": str(path), "config": str(session.side.config) if session.side.config else None})
    _alive(f"load of {what}", answer)
    if answer.kind != "refused":
        raise Broken(f"load of {what} → {answer}")
    error = answer.error or {}
    if path.name not in f"{error.get('message')} {error.get('field')} {error.get('remedy')}":
        raise Broken(f"load of {what} → {answer}; it does not name {path.name}")
    return f"load of {what} → {answer}"


def _refused_tokens(session: Session, ids: list[int], what: str) -> str:
    params = {"token_ids": ids, "mode": (session.modes or ["prefill"])[0], "logits": str(session.target())}
    answer = session.ask("score", params)
    _alive(f"score of {what}", answer)
    if answer.kind != "refused":
        raise Broken(f"score of {what} → {answer}")
    return f"score of {what} → {answer}"
