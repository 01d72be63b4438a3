"""The engine `llama_server`: llama.cpp's own server, over its native API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logitproof.engines import Finish, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines._http import RETRY_ON, Answer, HttpEngine, Server, ServerError, at, count_at, list_at
from logitproof.engines._logprobs import LEAST, Entries, as_rows, best_entries, chosen_first, entry
from logitproof.errors import Refusal
from logitproof.files.hashes import file_sha256
from logitproof.gguf.vocabulary import vocabulary_size
from logitproof.weights.model import files_of

PROBE = [1, 2, 3, 4, 5, 6, 7, 8]
"""Token ids whose row tells a server that was restarted with other weights under the same name."""
NEUTRAL = {
    "temperature": 0.0, "samplers": ["top_k", "temperature"], "top_k": 1, "repeat_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "dry_multiplier": 0.0, "mirostat": 0, "post_sampling_probs": False, "return_tokens": True,
    "stream": False,
}  # fmt: skip


@dataclass
class LlamaServer(HttpEngine):
    """A running llama-server, by its URL, over `/completion` with token ids.

    The server has no log-probabilities of a prompt, so every position is one request that ends there:
    `prefill` sends each prefix anew (`cache_prompt` off), `decode` sends them in order and demands that the
    server took all but the last token from its KV cache. `logprobs` is how many are asked a position; -1 is
    the whole vocabulary, which makes verdicts and not only bounds possible. The key stands in the variable
    that `api_key_env` names. `retry_on` are HTTP codes that are tried again, as connection errors are.
    """

    url: str
    logprobs: int = -1
    timeout_s: float = 120.0
    concurrency: int = 1
    retries: int = 3
    retry_on: list[int] = field(default_factory=lambda: list(RETRY_ON))
    api_key_env: str | None = None
    _server: Server = field(init=False, repr=False)
    _vocab: int = field(default=0, init=False)

    def hello(self) -> Hello:
        self._server.get("/health")
        props, meta = self._props(), self._meta()
        facts = {name: str(meta.get(name, "")) for name in ("n_vocab", "n_params", "size", "ftype", "n_ctx")}
        versions = {"llama.cpp": str(props.get("build_info", "unknown")), "weights": str(props.get("model_path", "unknown"))}
        probe = json.dumps(self._row(self._completion(PROBE, cached=False), 16, "fingerprint"))
        versions = {**versions, **facts, "fingerprint": hashlib.sha256(probe.encode()).hexdigest()}
        return Hello(versions, machine=self._server.machine)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        props, meta = self._props(), self._meta()
        self._vocab = count_at(meta, "n_vocab", where="/v1/models")
        if (expected := vocabulary_size(model)) != self._vocab:
            raise Refusal(
                f"the server's vocabulary has {self._vocab} tokens, {model.name} has {expected}: it has loaded another model",
                field="url",
                remedy=f"start it with -m {model.name}",
            )
        weights = _same_weights(str(props.get("model_path", "")), model)
        context = count_at(props, "default_generation_settings", "n_ctx", where="/props")
        details = {"server": str(props.get("build_info", "")), "weights": weights, "n_ctx": context, "ftype": meta.get("ftype")}
        return Loaded(self._vocab, context, details=details)

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        ids = list(token_ids)
        prefixes = [ids[: n + 1] for n in range(len(ids))]
        if mode == "prefill":
            bodies = [self._completion(prefix, cached=False) for prefix in prefixes]
            answers = self._server.post_all("/completion", bodies)
        else:
            answers = [
                self._server.post("/completion", {**self._completion(prefix, cached=len(prefix) > 1), "id_slot": 0})
                for prefix in prefixes
            ]
        rows = []
        for position, (prefix, answer) in enumerate(zip(prefixes, answers, strict=True)):
            where = f"position {position}"
            self._check_fed(answer, prefix, mode, where)
            rows.append(self._entries(answer, 0, where))
        return Scored(as_rows(rows, self._vocab))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        ids, new, rows = list(token_ids), list[int](), list[Entries]()
        while len(new) < max_new_tokens and not (new and new[-1] in stop):
            body = {**self._completion(ids + new, cached=False), "n_predict": max_new_tokens - len(new)}
            answer = self._server.post("/completion", body)
            self._check_fed(answer, ids + new, "prefill", "generate")
            made = list_at(answer.body, "completion_probabilities", where="generate")
            # The server ends at its own end-of-text tokens, whether the contract stops there or not.
            for n in range(len(made)):
                where = f"new position {len(rows)}"
                new.append(count_at(made, n, "id", where="generate"))
                rows.append(chosen_first(self._entries(answer, n, where), new[-1], where))
                if new[-1] in stop:
                    break
            if not made:
                raise ServerError(f"the server generated nothing: {json.dumps(answer.body)[:300]}")
        finish: Finish = "stop" if new and new[-1] in stop else "length"
        return Generated(new, as_rows(rows, self._vocab), finish)

    def tokenize(self, text: str) -> list[int]:
        answer = self._server.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        tokens = list_at(answer.body, "tokens", where="/tokenize")
        return [count_at(tokens, n, where="/tokenize") for n in range(len(tokens))]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        answer = self._server.post("/detokenize", {"tokens": list(token_ids)})
        return str(at(answer.body, "content", where="/detokenize"))

    def _props(self) -> dict[str, Any]:
        props = self._server.get("/props").body
        if not isinstance(props, dict):
            raise ServerError(f"/props: its answer is {json.dumps(props)[:80]}, an object is expected")
        return props

    def _meta(self) -> dict[str, Any]:
        meta = at(self._server.get("/v1/models").body, "data", 0, "meta", where="/v1/models")
        if not isinstance(meta, dict) or "n_vocab" not in meta:
            raise Refusal("the server names no n_vocab in /v1/models: it is no llama-server", field="url")
        self._vocab = count_at(meta, "n_vocab", where="/v1/models")
        return meta

    def _completion(self, ids: Sequence[int], *, cached: bool) -> dict[str, Any]:
        return {**NEUTRAL, "prompt": list(ids), "n_predict": 1, "n_probs": self._asked(), "cache_prompt": cached}

    def _row(self, body: dict[str, Any], count: int, where: str) -> Entries:
        return self._entries(self._server.post("/completion", {**body, "n_probs": count}), 0, where, count)

    def _entries(self, answer: Answer, n: int, where: str, asked: int | None = None) -> Entries:
        listed = list_at(answer.body, "completion_probabilities", n, "top_logprobs", where=where)
        pairs = [entry(at(token, "id", where=where), at(token, "logprob", where=where), where) for token in listed]
        return best_entries(pairs, asked or self._asked(), self._vocab, where, least=LEAST)

    def _check_fed(self, answer: Answer, prefix: list[int], mode: Mode, where: str) -> None:
        """The server's own account of what it computed, against what it was asked for."""
        fed = at(answer.body, "tokens_evaluated", where=where)
        if fed != len(prefix) or answer.body.get("truncated"):
            raise ServerError(f"{where}: the server fed {fed} tokens, {len(prefix)} were sent (truncated, or a BOS added?)")
        reused = at(answer.body, "timings", "cache_n", where=where)
        if mode == "decode" and reused != len(prefix) - 1:
            raise ServerError(f"{where}: decode needs {len(prefix) - 1} tokens from the KV cache, the server took {reused}")
        if mode == "prefill" and reused != 0:
            raise ServerError(f"{where}: prefill needs an empty KV cache, the server took {reused} tokens from it")


def _same_weights(loaded: str, model: Path) -> str:
    """How sure it is that the server computes with `model`; refuses where it is sure that it does not."""
    named = Path(loaded)
    if named.is_file() and model.is_file():
        if [file_sha256(file) for file in files_of(named)] != [file_sha256(file) for file in files_of(model)]:
            raise Refusal(
                f"the server has loaded {loaded}, the contract names {model}: another file",
                field="url",
                remedy="restart the server with the contract's file, or name the server's in the contract",
            )
        return f"proven: {loaded} has the sha256 of {model.name}"
    if named.name != model.name:
        raise Refusal(f"the server has loaded {loaded or 'nothing it names'}, the contract names {model.name}", field="url")
    return f"not proven: the server says {loaded}, which is not on this machine"
