"""A real HTTP server in a thread, in front of a real model: `llama-server`'s dialect, vLLM's and the classic one.

The model is a zoo folder computed by the engine `plain`. A test may plant one fault.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np

from logitproof.engines.plain import Plain
from logitproof.gguf.vocabulary import Texts, token_texts

Kind = Literal["llama-server", "vllm", "classic"]
Body = dict[str, Any]
CONTEXT = 64


@dataclass
class Zoo:
    """A server's state: the model, its dialect, what goes wrong, and every request that it was sent."""

    folder: Path
    kind: Kind
    fault: Callable[[Zoo, str, Body], Any] | None = None
    key: str = ""
    model_path: str = ""
    vocab_size: int = 0
    requests: list[tuple[str, Body, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    cached: list[int] = field(default_factory=list)
    text_only: bool = False

    def __post_init__(self) -> None:
        self.engine, self.vocab_size, self.texts = opened(self.folder)
        self.lock = threading.Lock()

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        """float64 [T, V]."""
        with self.lock:
            logits = self.engine.score(ids, "prefill").logits.astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def answer(self, path: str, body: Body) -> tuple[int, Any]:
        """HTTP code and JSON."""
        routes = {
            "/health": lambda: {"status": "ok"},
            "/version": lambda: {"version": "0.32.0"},
            "/props": self._props,
            "/v1/models": self._models,
            "/completion": lambda: self._native(body),
            "/v1/completions": lambda: self._vllm(body) if self.kind == "vllm" else self._classic(body),
            "/tokenize": lambda: {"tokens": [1 + byte for byte in body["content"].encode()]},
            "/detokenize": lambda: {"content": "".join(f"<{token}>" for token in body["tokens"])},
        }
        native = {"/health", "/props", "/completion", "/tokenize", "/detokenize"}
        hidden = native if self.kind != "llama-server" else set()
        if path not in routes or path in hidden or (path == "/version" and self.kind != "vllm"):
            return 404, {"error": {"message": "File Not Found"}}
        if len(body.get("prompt", [])) > CONTEXT:
            return 400, {
                "error": {"message": f"request ({len(body['prompt'])} tokens) exceeds the context size ({CONTEXT} tokens)"}
            }
        try:
            return 200, routes[path]()
        except BadRequest as error:
            return 400, {"error": {"message": str(error)}}

    def _props(self) -> Body:
        return {"build_info": "b1-test", "model_path": self.model_path, "default_generation_settings": {"n_ctx": CONTEXT}}

    def _models(self) -> Body:
        meta = {"n_vocab": self.vocab_size, "n_params": 1, "size": 4, "ftype": "all F32", "n_ctx": CONTEXT}
        one: Body = {"id": "zoo", "owned_by": "llamacpp" if self.kind == "llama-server" else self.kind}
        return {"data": [{**one, "meta": meta} if self.kind == "llama-server" else one]}

    def _native(self, body: Body) -> Body:
        ids, new, listed = list(body["prompt"]), [], []
        shared = next(
            (n for n, (a, b) in enumerate(zip(ids, self.cached, strict=False)) if a != b), min(len(ids), len(self.cached))
        )
        reused = min(shared, len(ids) - 1) if body["cache_prompt"] else 0
        self.cached = ids
        for _ in range(body["n_predict"]):
            row = self.log_probabilities([*ids, *new])[-1]
            best = np.argsort(-row, kind="stable")[: body["n_probs"]]
            new.append(int(best[0]))
            listed.append(
                {"id": new[-1], "logprob": row[best[0]], "top_logprobs": [{"id": int(i), "logprob": row[i]} for i in best]}
            )
        return {
            "content": "…", "tokens": new, "tokens_evaluated": len(ids), "truncated": False,
            "timings": {"cache_n": reused}, "completion_probabilities": listed,
        }  # fmt: skip

    def _vllm(self, body: Body) -> Body:
        ids, count = list(body["prompt"]), body.get("prompt_logprobs")
        choice: Body = {"index": 0, "text": "…", "finish_reason": "length"}
        if count is not None:
            rows = self.log_probabilities(ids)
            choice["prompt_logprobs"] = [
                None,
                *(_by_id(row, count, label) for row, label in zip(rows[:-1], ids[1:], strict=True)),
            ]
        new: list[int] = []
        tops: list[Body] = []
        for _ in range(body["max_tokens"]):
            row = self.log_probabilities([*ids, *new])[-1]
            best = np.argsort(-row, kind="stable")[: len(row) if body["logprobs"] == -1 else body["logprobs"]]
            new.append(int(best[0]))
            tops.append({f"token_id:{i}": row[i] for i in best})
        choice["logprobs"] = {"tokens": [f"token_id:{token}" for token in new], "top_logprobs": tops}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids)}}

    def _classic(self, body: Body) -> Body:
        """Token ids or text in, texts out; the prompt's own where `echo` asks for them."""
        if isinstance(body["prompt"], str):
            ids = [self.texts.ids[char] for char in body["prompt"]]
        elif self.text_only:
            raise BadRequest("prompt: Input should be a valid string")
        else:
            ids = list(body["prompt"])
        new = [int(self.log_probabilities(ids)[-1].argmax())]
        while len(new) < body["max_tokens"]:
            new.append(int(self.log_probabilities([*ids, *new])[-1].argmax()))
        rows = self.log_probabilities([*ids, *new])
        begin = 0 if body.get("echo") else len(ids)
        tops = [
            _by_text(rows[at - 1], body["logprobs"], self.texts.bytes) if at else None
            for at in range(begin, len(ids) + len(new))
        ]
        names = [self.texts.bytes[token].decode("utf-8", "replace") for token in [*ids, *new]][begin:]
        choice = {"index": 0, "text": "".join(names), "logprobs": {"tokens": names, "top_logprobs": tops}}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids)}}


@functools.cache
def opened(folder: Path) -> tuple[Plain, int, Texts]:
    engine = Plain()
    return engine, engine.load(folder).vocab_size, token_texts(folder)


class BadRequest(Exception):
    """Becomes HTTP 400 with these words."""


def _by_text(row: np.ndarray, count: int, known: list[bytes]) -> Body:
    return {known[i].decode("utf-8", "replace"): row[i] for i in np.argsort(-row, kind="stable")[:count]}


def _by_id(row: np.ndarray, count: int, label: int) -> Body:
    """vLLM's: the best ones, and the token that follows whatever its rank."""
    order = np.argsort(-row, kind="stable")
    best = order[: len(row) if count == -1 else count]
    ranks = {int(token): rank + 1 for rank, token in enumerate(order)}
    return {str(i): {"logprob": row[i], "rank": ranks[i]} for i in [*best.tolist(), *([label] if label not in best else [])]}


@contextmanager
def served(zoo: Zoo) -> Iterator[Zoo]:
    """The server, listening on a port of its own until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve({})

        def do_POST(self) -> None:
            self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def _serve(self, body: Body) -> None:
            zoo.requests.append((self.path, body, {name.lower(): value for name, value in self.headers.items()}))
            if zoo.key and self.headers.get("Authorization") != f"Bearer {zoo.key}":
                return self._send(401, {"error": {"message": f"Invalid API Key {self.headers.get('Authorization')}"}})
            code, said = zoo.answer(self.path, body)
            changed = zoo.fault(zoo, self.path, said) if zoo.fault and code == 200 else None
            if changed == "close":
                self.close_connection = True
                return self.connection.close()
            if changed == "hang":
                time.sleep(6)
            code, said = changed if isinstance(changed, tuple) else (code, said)
            return self._send(code, said)

        def _send(self, code: int, said: Any) -> None:
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    zoo.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield zoo
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
