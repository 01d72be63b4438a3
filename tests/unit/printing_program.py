"""A program that knows nothing of logitproof: computes the toy of a JSON file for token ids, and prints or dumps logits.

`printing_program.py HOW MODEL TOKENS [FILE]`; what it does wrong is in the variable WRONG.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import time

WIDTH = 16
WRONG = os.environ.get("WRONG", "")


def mix(x: int) -> int:
    x = ((x ^ x >> 16) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ x >> 15) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ x >> 16


def rows_of(model: str, ids: list[int]) -> list[list[float]]:
    with open(model, encoding="utf-8") as file:
        record = json.load(file)
    size, begin = record["vocab_size"], mix(record["seed"])
    weights = [(mix((begin + n) & 0xFFFFFFFF) / 2**32 - 0.5) * math.sqrt(12) for n in range(2 * size * WIDTH)]
    embedding, head = weights[: size * WIDTH], weights[size * WIDTH :]
    state, rows = [0.0] * WIDTH, []
    for token in ids:
        state = [math.tanh(0.6 * state[i] + embedding[token * WIDTH + i]) for i in range(WIDTH)]
        rows.append([sum(state[i] * head[i * size + n] for i in range(WIDTH)) for n in range(size)])
    return rows


def log_sum_exp(row: list[float]) -> float:
    return max(row) + math.log(sum(math.exp(value - max(row)) for value in row))


def show(how: str, rows: list[list[float]]) -> None:
    for t, row in enumerate(rows):
        best = sorted(range(len(row)), key=lambda n: -row[n])
        total = log_sum_exp(row)
        if how == "events":
            print("@logits " + json.dumps({"position": t, "logits": row[1:] if WRONG == "narrow" else row}))
        elif how == "top":
            print("@logits " + json.dumps({"position": t, "top": [[n, row[n] - total] for n in best[:5]]}))
        elif how == "top-logits":
            print("@logits " + json.dumps({"position": t, "top_logits": [[n, row[n]] for n in best[:5]], "logsumexp": total}))
        elif how == "text":
            print(f"pos={t} tok={best[0]} p={row[best[0]] - total:.9f} ({'x' * t})")
        elif how == "numbers":
            print("row: " + " ".join(f"{value:.9g}" for value in row))


def main(how: str, model: str, tokens: str, out: str = "") -> int:
    print("loading weights... 100%", flush=True)
    if WRONG == "crash":
        os.abort()
    if WRONG == "status":
        print("CUDA error 719: unspecified launch failure", file=sys.stderr)
        return 3
    if WRONG == "hang":
        print("> ", flush=True)
        time.sleep(60)
    if os.path.exists(tokens):
        with open(tokens, "rb") as file:
            data = file.read()
        ids = list(struct.unpack(f"<{len(data) // 4}i", data)) if how == "dump-int32" else json.loads(data)
    else:
        ids = [int(word) for word in tokens.split(",")]
    rows = rows_of(model, ids)
    if os.environ.get("LAST"):
        rows = rows[-1:]
    if WRONG == "row-lost":
        del rows[1]
    if WRONG != "no-file" and how.startswith("dump"):
        with open(out or os.environ["LOGITS_OUT"], "wb") as file:
            for row in rows:
                file.write(struct.pack(f"<{len(row)}f", *row))
    if WRONG == "garbled":
        print('@logits {"position": 0, "logits": [1.0, ')
    show(how, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
