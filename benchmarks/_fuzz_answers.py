"""What engines and servers answer, as targets: lines of the protocol, completions over HTTP, lines of a program."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _fuzz_damage import Target, each
from pydantic import ValidationError

from logitproof.contract.kernel_rows import KernelRows, linked
from logitproof.engines._completions import Completion, Dialect
from logitproof.engines._logprobs import as_rows, best_entries
from logitproof.engines._program import Run
from logitproof.engines.stdout import Stdout
from logitproof.jobs.answers import Answers, valid, valid_part
from logitproof.protocol import messages as protocol

V = 5
HELLO = {"protocol": 1, "engine": "x", "versions": {"x": "1"}, "modes": ["prefill"]}


def answers(folder: Path) -> Iterator[Target]:
    """Every border to an engine, each with sound answers in a file; what cannot be believed is refused."""
    yield from _protocol(folder)
    yield from _completions(folder)
    yield from _programs(folder)
    place = folder / "kernels"
    place.mkdir()
    row = {"engine": "ggml", "precision": "Q8_0", "kind": "matrix", "name": "q", "rms": 1e-3, "assumed": 1e-3}
    (place / "kernels.json").write_text(json.dumps({"kernels": [row, {**row, "name": "k"}]}))
    wanted = KernelRows(baseline="kernels.json", rows=["ggml Q8_0 matrix *"])
    yield Target("kernel baseline", place, ("kernels.json",), lambda at: linked(wanted, ["Q8_0"], at))


def _protocol(folder: Path) -> Iterator[Target]:
    place = folder / "protocol"
    place.mkdir()
    rows = np.random.default_rng(0).normal(size=(3, V)).astype("<f4")
    tensor = {"path": "rows.bin", "dtype": "float32", "shape": [3, V]}
    score = {"logits": tensor}
    results: dict[str, list[Any]] = {
        "hello": [HELLO], "load": [{"vocab_size": V}], "tokenize": [{"token_ids": [1, 2]}], "detokenize": [{"text": "a"}],
        "score": [score], "generate": [{**score, "token_ids": rows.argmax(axis=1).tolist(), "finish": "length"}],
        "sample": [{"token_ids": [[1, 2]]}],
    }  # fmt: skip
    lines = [{"id": n, "result": result} for n, result in enumerate(itertools.chain(*results.values()))]
    methods = [method for method, kept in results.items() for _ in kept]
    (place / "answers.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (place / "rows.bin").write_bytes(rows.tobytes())

    def read(at: Path) -> None:
        lines = (at / "answers.jsonl").read_bytes().split(b"\n")
        each(partial(_believed, method, line, at / "rows.bin") for method, line in zip(methods, lines, strict=False))

    yield Target("protocol", place, ("answers.jsonl", "rows.bin"), read)


def _believed(method: str, line: bytes, rows: Path) -> None:
    """What the harness does with one line, whose rows it asked for in a file, and takes away from there."""
    checks = Answers("fuzzed", V)
    try:
        response = protocol.Response.model_validate_json(line)
    except ValidationError:
        return  # the worker says that this is not the protocol
    if response.part is not None:
        valid_part(method, response.part)
    result = valid(method, response.result)
    if isinstance(result, protocol.SampleResult):
        checks.drawn(result.token_ids, 1, 2)
    if not isinstance(result, protocol.Rows):
        return
    with tempfile.TemporaryDirectory(dir=rows.parent) as folder:
        asked = Path(shutil.copy(rows, folder))
        if result.whole is not None and result.whole.path == rows.name:
            result = result.model_copy(update={"whole": result.whole.model_copy(update={"path": str(asked)})})
        result = checks.rows(result, asked, 3)
        if isinstance(result, protocol.GenerateResult):
            checks.end(result, 3, [])
            checks.greedy(result)


def _completions(folder: Path) -> Iterator[Target]:
    place = folder / "completions"
    place.mkdir()
    by_id = {str(token): {"logprob": -1.0 - token} for token in range(V)}
    content = [{"id": n, "logprob": -1.0, "top_logprobs": [{"id": t, "logprob": -1.0 - t} for t in range(V)]} for n in range(2)]
    spoken = {"tokens": ["token_id:1"], "top_logprobs": [{f"token_id:{token}": -1.0 - token for token in range(V)}] * 2}
    choices = {
        "prompt_logprobs": {"prompt_logprobs": [None, by_id, by_id], "logprobs": spoken},
        "content": {"logprobs": {"content": content}},
    }
    for name, choice in choices.items():
        (place / f"{name}.json").write_text(json.dumps(choice))

    def read(at: Path) -> None:
        each(partial(_completed, name, at / f"{name}.json") for name in choices)

    yield Target("completions", place, tuple(f"{name}.json" for name in choices), read)


def _completed(name: str, path: Path) -> None:
    try:
        choice = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # the HTTP library says so
    completion = Completion(Dialect(name), choice, None, V)  # type: ignore[arg-type]
    rows = completion.prompt_rows([1, 2]) if name == "prompt_logprobs" else completion.new_rows()
    as_rows([best_entries(row, 2, V, "fuzzed") for row in rows], V)
    completion.new_tokens()


def _programs(folder: Path) -> Iterator[Target]:
    place = folder / "printed"
    place.mkdir()
    logits = np.random.default_rng(0).normal(size=(2, V)).tolist()
    events = [
        [{"position": n, "logits": row} for n, row in enumerate(logits)],
        [{"position": n, "top": [[t, -1.0 - t] for t in range(V)]} for n in range(2)],
        [{"top_logits": [[t, 1.0 - t] for t in range(V)], "logsumexp": 2.0} for _ in range(2)],
        [{"id": 1}, {"id": 2}],
    ]
    for number, printed in enumerate(events):
        (place / f"{number}.txt").write_text("noise\n" + "".join(f"@logits {json.dumps(event)}\n" for event in printed))
    (place / "match.txt").write_text("pos 0 id 1 lp -0.5\npos 1 id 2 lp -0.25\n")
    engines = {f"{number}.txt": Stdout(["x"], prefix="@logits ", vocab_size=V) for number in range(len(events))}
    pattern = r"pos (?P<position>\S+) id (?P<id>\S+) lp (?P<logprob>\S+)"
    engines["match.txt"] = Stdout(["x"], pattern=pattern, vocab_size=V)

    def read(at: Path) -> None:
        each(partial(_printed, engine, at / name) for name, engine in engines.items())

    yield Target("printed", place, tuple(engines), read)


def _printed(engine: Stdout, path: Path) -> None:
    engine._size = V
    engine.read(Run(path.read_bytes().decode("utf-8", "replace"), "", path), 2)
