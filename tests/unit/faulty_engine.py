"""An engine that keeps the protocol, and breaks one rule of it on purpose: `faulty_engine.py FAULT`."""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import time
from typing import Any

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
V = 300
METHODS = {
    "hello": {"protocol", "options"},
    "load": {"model", "config"},
    "score": {"token_ids", "mode", "logits", "first"},
    "score_many": {"sequences", "mode"},
    "generate": {"token_ids", "max_new_tokens", "stop", "logits"},
    "tokenize": {"text"},
    "detokenize": {"token_ids"},
    "sample": {"token_ids", "count", "max_new_tokens", "seed"},
    "close": set(),
}


class Refused(Exception):
    kind = "refused"


class State:
    loaded = leftover = 0
    scored = 0


def row(context: list[int]) -> list[float]:
    """A row that depends on every token before it; far from flat, so that another context is another row."""
    state = 0.0
    for token in context:
        state = 0.5 * state + math.sin(token + 1)
    return [6 * math.sin(n * (0.7 + 0.1 * state) + 3 * state) for n in range(V)]


def transformed(one: list[float]) -> list[float]:
    """A row as an engine hands it over that does something to its logits."""
    top = max(one)
    log_sum = top + math.log(sum(math.exp(value - top) for value in one))
    logs = [value - log_sum for value in one]
    return {
        "probabilities": [math.exp(value) for value in logs],
        "percentages": [100 * math.exp(value) for value in logs],
        "base-2": [value / math.log(2) for value in logs],
        "surprisals": [-value for value in logs],
        "log-probabilities": logs,
        "flat": [0.5] * len(one),
    }.get(FAULT, one)


def write(path: str, rows: list[list[float]]) -> dict[str, Any]:
    width = V
    if FAULT == "narrow-rows":
        rows, width = [one[:-1] for one in rows], V - 1
    if FAULT == "other-path":
        path += ".f32"
    rows = [transformed(one) for one in rows]
    if FAULT == "transposed" and rows:
        flat = [one[entry] for entry in range(width) for one in rows]
        rows_written = [flat]
    else:
        rows_written = rows
    order = ">" if FAULT == "big-endian" else "<"
    data = b"".join(struct.pack(f"{order}{len(one)}f", *one) for one in rows_written)
    if FAULT == "header-in-file" and rows:
        data += b"1234"
    if FAULT == "ascii-paths":
        path = path.encode("ascii", "replace").decode()
    with open(path, "wb") as file:
        file.write(data)
    return {"path": path, "dtype": "float32", "shape": [len(rows), width]}


def hello(p: dict[str, Any]) -> dict[str, Any]:
    extras = {"colour": "blue"} if FAULT == "extra-field-of-hello" else {}
    return {
        "protocol": 2 if FAULT == "version-2" else 1,
        "engine": "faulty",
        "generate": FAULT != "offers-nothing",
        "tokenize": FAULT != "offers-nothing",
        "sample": FAULT != "offers-nothing",
        "tail": FAULT != "offers-nothing",
        "batch": FAULT != "offers-nothing",
        "modes": ["prefill"] if FAULT == "offers-nothing" else ["prefill", "decode"],
        **extras,
    }


def load(p: dict[str, Any]) -> dict[str, Any]:
    path = p["model"]
    if not os.path.exists(path):
        if FAULT == "missing-file-taken":
            return {"vocab_size": V}
        raise Refused("it cannot be opened" if FAULT == "file-not-named" else f"{path}: not there")
    try:
        with open(path, encoding="utf-8") as file:
            json.load(file)
    except ValueError:
        if FAULT != "truncated-file-taken":
            raise Refused(f"{path} is truncated") from None
    State.loaded = 1
    return {"vocab_size": V, "size": 4} if FAULT == "extra-field-of-load" else {"vocab_size": V}


def check(ids: list[int]) -> list[int]:
    if not State.loaded:
        if FAULT == "dies-before-load":
            sys.exit(4)
        raise Refused("nothing is loaded")
    if not ids and FAULT != "nothing-scored":
        raise Refused("no tokens")
    if FAULT == "wraps-ids":
        return [one % V for one in ids]
    if any(one >= V for one in ids):
        raise Refused("outside the vocabulary")
    return ids


def score(p: dict[str, Any]) -> dict[str, Any]:
    ids = check(p["token_ids"])
    State.scored += 1
    if FAULT == "one-token-dies" and len(ids) == 1:
        os.abort()
    start = [9, 9] if FAULT == "cache-not-emptied" and State.leftover else []
    State.leftover = int(p["mode"] == "decode")
    rows = [row(start + ids[: n + 1]) for n in range(len(ids))]
    if FAULT == "sees-the-end" and len(ids) < 7:
        rows = [row([ids[-1], *ids[: n + 1]]) for n in range(len(ids))]
    if FAULT == "decode-late" and p["mode"] == "decode":
        rows = [row(ids[: max(n, 1)]) for n in range(len(ids))]
    if FAULT == "noise":
        rows = [[value + 1e-4 * (State.scored % 5) for value in one] for one in rows]
    if FAULT == "nan" and len(rows) > 2:
        rows[2][5] = math.nan
    if FAULT == "shifted":
        rows = [*rows[1:], rows[-1]]
    if FAULT == "same-row":
        rows = rows[:1] * len(rows)
    if FAULT == "last-row-only":
        rows = rows[-1:]
    first = p.get("first", 0)
    if FAULT == "tail-alone" and first:
        rows = [row(ids[first : n + 1]) for n in range(len(ids))]
    return {"logits": write(p["logits"], rows[first:])}


def score_many(p: dict[str, Any], number: int) -> dict[str, Any]:
    sequences = list(enumerate(p["sequences"]))
    if FAULT == "one-spoils-all":
        for _, sequence in sequences:
            check(sequence["token_ids"])
    # the last comes first: parts may come in any order
    for index, sequence in sequences[::-1][: len(sequences) - (FAULT == "one-forgotten")]:
        ids = sequence["token_ids"]
        try:
            if any(token >= V for token in ids):
                raise Refused("outside the vocabulary")
            result = score({"token_ids": ids, "mode": p["mode"], "logits": sequence["logits"]})
            if FAULT == "batch-state" and index < len(sequences) - 1:
                result = {"logits": write(sequence["logits"], [row([9, *ids[: n + 1]]) for n in range(len(ids))])}
            part = {"index": index, "result": result}
        except Refused as error:
            part = {"index": index, "error": {"kind": error.kind, "message": str(error)}}
        for _ in range(1 + (FAULT == "part-twice")):
            send({"id": number, "part": part})
    return {"answered": len(sequences)}


def generate(p: dict[str, Any]) -> dict[str, Any]:
    ids, rows, finish = list(check(p["token_ids"])), [], "length"
    most = max(p["max_new_tokens"], 1) if FAULT == "one-at-least" else p["max_new_tokens"]
    while len(rows) < most and finish == "length":
        one = row(ids)
        rows.append(one)
        order = sorted(range(V), key=lambda n: -one[n])
        ids.append(order[1 if FAULT == "second-best" and len(rows) == 3 else 0])
        if ids[-1] in p.get("stop", []) and FAULT != "stop-ignored":
            finish = "stop"
    new = ids[len(p["token_ids"]) :]
    if FAULT == "stop-token-dropped" and finish == "stop":
        new, rows = new[:-1], rows[:-1]
    return {"token_ids": new, "logits": write(p["logits"], rows), "finish": finish}


def tokenize(p: dict[str, Any]) -> dict[str, Any]:
    shift = 200 if FAULT == "tokens-outside" else 0
    return {"token_ids": [shift + 1 + byte for byte in p["text"].encode()]}


def detokenize(p: dict[str, Any]) -> dict[str, Any]:
    return {"text": bytes(one - 1 for one in p["token_ids"]).decode()}


def sample(p: dict[str, Any]) -> dict[str, Any]:
    seed = time.monotonic_ns() if FAULT == "seed-ignored" else p["seed"]
    return {"token_ids": [[(seed + n * 7 + k) % V for k in range(p["max_new_tokens"])] for n in range(p["count"])]}


def close(p: dict[str, Any]) -> dict[str, Any]:
    return {}


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(line: str) -> bool:
    """Answers one line; False once it was `close`."""
    number = -1
    try:
        request = json.loads(line)
        number, method = request["id"], request["method"]
        params = request.get("params", {})
        if method not in METHODS:
            if FAULT == "dies-of-a-method":
                sys.exit(3)
            error = {"kind": "failed" if FAULT == "unknown-method-failed" else "unsupported", "message": method}
            send({"id": number, "error": error})
            return True
        if not set(params) <= METHODS[method] and FAULT != "parameter-ignored":
            raise Refused(f"{method} does not know all of {sorted(params)}")
        if method == "score" and FAULT in ("progress", "progress-of-another"):
            send({"id": number + (FAULT != "progress"), "progress": {"done": 0.5}})
        if method == "load" and FAULT == "prints":
            print("loading weights... 100%", flush=True)
        result = score_many(params, number) if method == "score_many" else globals()[method](params)
        shift = 100 if FAULT == "wrong-id" and method == "detokenize" else 0
        extras = {"jsonrpc": "2.0"} if FAULT == "extra-field-of-answers" else {}
        send({"id": number + shift, "result": result, **extras})
        if FAULT == "answers-twice" and method == "detokenize":
            send({"id": number, "result": result})
        return method != "close" or FAULT == "close-ignored"
    except Refused as error:
        send({"id": number, "error": {"kind": error.kind, "message": str(error)}})
    except (ValueError, KeyError, TypeError) as error:
        if FAULT == "dies-of-a-line":
            raise
        send({"id": number, "error": {"kind": "failed", "message": repr(error)}})
    return True


def main() -> int:
    for line in sys.stdin:
        if not answer(line):
            return 5 if FAULT == "status-5" else 0
    if FAULT == "end-ignored":
        time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
