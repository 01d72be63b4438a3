"""The engine `openai`: a server with an OpenAI-compatible `/v1/completions` (vLLM, llama-server, llama-cpp-python …)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logitproof.engines import Finish, Generated, Hello, Loaded, Mode, Scored
from logitproof.engines._completions import PATH, Completion, Dialect, identify, probe
from logitproof.engines._http import RETRY_ON, HttpEngine, Server, ServerError, at
from logitproof.engines._logprobs import Entries, as_rows, best_entries, chosen_first
from logitproof.errors import Refusal
from logitproof.gguf.vocabulary import Texts, token_texts, vocabulary_size

PROBE = [1, 2, 3, 4, 5, 6, 7, 8]
"""Token ids whose row tells a server that was restarted with other weights under the same name."""


@dataclass
class Openai(HttpEngine):
    """A running server by its base URL (without /v1), over `/v1/completions` with `logprobs`.

    What a server can do is asked, not assumed: whether it takes token ids, gives log-probabilities of a
    prompt (`prompt_logprobs`, `echo`) or of new tokens only, and names tokens by id or by text. `logprobs` is
    how many are asked a position; -1 is the whole vocabulary, where the server allows that. `model` is the
    name to ask for, else the first that the server lists. The key stands in the variable that `api_key_env`
    names. `retry_on` are HTTP codes that are tried again, as connection errors are.
    """

    url: str
    model: str | None = None
    logprobs: int = 20
    timeout_s: float = 120.0
    concurrency: int = 1
    retries: int = 3
    retry_on: list[int] = field(default_factory=lambda: list(RETRY_ON))
    api_key_env: str | None = None
    _server: Server = field(init=False, repr=False)
    _dialect: Dialect | None = field(default=None, init=False, repr=False)
    _texts: Texts | None = field(default=None, init=False, repr=False)
    _name: str = field(default="", init=False)
    _vocab: int = field(default=0, init=False)

    def hello(self) -> Hello:
        facts, self._name = identify(self._server, self.model)
        self._dialect, answer = probe(self._server, self._name, PROBE)
        text = json.dumps(answer, sort_keys=True)
        fingerprint = hashlib.sha256(text.encode()).hexdigest()
        versions = {**facts, "model": self._name, "dialect": self._dialect.name, "fingerprint": fingerprint}
        return Hello(versions, ("prefill",), generate=True, tokenize=False, machine=self._server.machine)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        if self._dialect is None:
            self.hello()
        self._vocab = vocabulary_size(model)
        if self._spoken().by_text:
            self._texts = token_texts(model if model.is_file() or config is None else config)
        details = {"dialect": self._spoken().about, "weights": f"not proven: the server names its model {self._name!r}"}
        return Loaded(self._vocab, details=details)

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if mode != "prefill":
            raise Refusal("a completions server has no decode of given tokens", field="mode", remedy="only: {mode: prefill}")
        ids, spoken = list(token_ids), self._spoken()
        if spoken.scores_prompt:
            # By id, one token more, so that the row behind the last is a prompt's too; an echo holds it anyway.
            fed = ids if spoken.by_text else [*ids, ids[-1]]
            rows = self._completion(self._server.post(PATH, self._body(fed, 1)).body, len(fed)).prompt_rows(ids)
        else:
            bodies = [self._body(ids[: n + 1], 1) for n in range(len(ids))]
            answers = self._server.post_all(PATH, bodies)
            rows = [self._completion(answer.body, n + 1).new_rows()[0] for n, answer in enumerate(answers)]
        return Scored(as_rows([self._kept(row, f"position {n}") for n, row in enumerate(rows)], self._vocab))

    def generate(self, token_ids: Sequence[int], max_new_tokens: int, stop: Sequence[int]) -> Generated:
        ids, new, rows = list(token_ids), list[int](), list[Entries]()
        while len(new) < max_new_tokens and not (new and new[-1] in stop):
            body = self._body(ids + new, max_new_tokens - len(new), prompt=False)
            completion = self._completion(self._server.post(PATH, body).body, len(ids + new))
            made = completion.new_rows()
            if not made:
                raise ServerError(f"the server generated nothing: {json.dumps(completion.choice)[:300]}")
            # A server ends at its own end-of-text tokens, whether the contract stops there or not.
            for row, taken in zip(made, completion.new_tokens(), strict=True):
                where = f"new position {len(rows)}"
                kept = self._kept(row, where)
                rows.append(kept if taken is None else chosen_first(kept, taken, where))
                new.append(rows[-1][0][0])
                if new[-1] in stop:
                    break
        finish: Finish = "stop" if new and new[-1] in stop else "length"
        return Generated(new, as_rows(rows, self._vocab), finish)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return "".join(f"⟨{token}⟩" for token in token_ids)

    def _spoken(self) -> Dialect:
        if self._dialect is None:
            raise Refusal("nothing was loaded", remedy="send load first")
        return self._dialect

    def _body(self, ids: list[int], new: int, *, prompt: bool = True) -> dict[str, Any]:
        spoken = self._spoken()
        return spoken.body(self._name, spoken.prompt(ids, self._texts), new, self.logprobs, self._asked(), prompt)

    def _completion(self, answer: Any, fed: int) -> Completion:
        completion = Completion(self._spoken(), at(answer, "choices", 0, where=PATH), self._texts, self._asked())
        used = at(answer, "usage", "prompt_tokens", where=PATH)
        if used != fed:
            raise ServerError(f"the server fed {used} tokens, {fed} were sent: it adds a BOS, or tokenizes otherwise")
        return completion

    def _kept(self, row: Entries, where: str) -> Entries:
        spoken = self._spoken()
        if spoken.by_text:
            return row[: self._asked()]
        return best_entries(row, self._asked(), self._vocab, where, least=spoken.least)
