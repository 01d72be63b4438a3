"""What servers make of `/v1/completions` with log-probabilities: found out by asking once, then held to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from logitproof.engines._http import Answer, Server, ServerError, at, count_at, list_at
from logitproof.engines._logprobs import LEAST, Entries, entry
from logitproof.errors import Refusal
from logitproof.gguf.vocabulary import Texts

PATH = "/v1/completions"
PREFIX = "token_id:"
"""How vLLM names a token in a key that others fill with its text, where `return_tokens_as_token_ids` is set."""
PROBE_TEXT = "The quick brown fox"
EXTRAS: dict[str, Any] = {"prompt_logprobs": 5, "return_tokens_as_token_ids": True, "cache_prompt": False, "echo": True}
MASKED = -9998.0
MOST_DIGITS = 10
"""Of a token id."""
Name = Literal["prompt_logprobs", "content", "echo", "new-tokens"]
ABOUT: dict[Name, str] = {
    "prompt_logprobs": "log-probabilities of the prompt by token id, in one pass (vLLM)",
    "content": "log-probabilities of new tokens by token id, one request a position (llama-server)",
    "echo": "log-probabilities of the echoed prompt by the text of tokens, in one pass",
    "new-tokens": "log-probabilities of new tokens by the text of tokens, one request a position; it may use its prefix cache",
}


@dataclass(frozen=True)
class Dialect:
    """`takes_ids`: prompts as token ids, else as text."""

    name: Name
    takes_ids: bool = True

    @property
    def about(self) -> str:
        return ABOUT[self.name] + ("" if self.takes_ids else "; prompts as text, which it tokenizes itself")

    @property
    def scores_prompt(self) -> bool:
        return self.name in ("prompt_logprobs", "echo")

    @property
    def by_text(self) -> bool:
        return self.name in ("echo", "new-tokens")

    @property
    def least(self) -> float:
        """llama.cpp takes the logarithm of a float32 probability; vLLM says -9999 for what is masked."""
        return LEAST if self.name == "content" else MASKED

    def prompt(self, ids: Sequence[int], texts: Texts | None) -> list[int] | str:
        """The prompt as this server takes it."""
        if self.takes_ids:
            return list(ids)
        assert texts is not None
        return texts.text(ids)

    def body(self, model: str, prompt: list[int] | str, new: int, logprobs: int, asked: int, scoring: bool) -> dict[str, Any]:
        """A request for `new` greedy tokens, and for the prompt's own log-probabilities where that is scored."""
        body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": new, "temperature": 0.0}
        ids = self.name == "prompt_logprobs"
        body["logprobs"] = logprobs if ids else asked
        if ids:
            body |= {"return_tokens_as_token_ids": True, **({"prompt_logprobs": logprobs} if scoring else {})}
        if self.name == "content":
            body |= {"cache_prompt": False}
        if self.name == "echo" and scoring:
            body |= {"echo": True}
        return body


@dataclass(frozen=True)
class Completion:
    """One choice of an answer. Rows are lists of (id, log-probability), not yet checked for number and order."""

    dialect: Dialect
    choice: dict[str, Any]
    texts: Texts | None
    asked: int

    def prompt_rows(self, ids: Sequence[int]) -> list[Entries]:
        """One row for each of `ids`: what it predicts."""
        if self.dialect.name == "prompt_logprobs":
            listed = list_at(self.choice, "prompt_logprobs", where=PATH)
            return [self._by_id(at(listed, n + 1, where=PATH), f"position {n}") for n in range(len(ids))]
        self._check_echo(ids)
        tops = list_at(self.choice, "logprobs", "top_logprobs", where=PATH)
        return [self._by_text(at(tops, n + 1, where=PATH), f"position {n}") for n in range(len(ids))]

    def new_rows(self) -> list[Entries]:
        """One row for each new token: what it was chosen from."""
        logprobs = at(self.choice, "logprobs", where=PATH)
        if self.dialect.name == "content":
            listed = [list_at(position, "top_logprobs", where=PATH) for position in list_at(logprobs, "content", where=PATH)]
            return [
                [entry(at(token, "id", where=PATH), at(token, "logprob", where=PATH), PATH) for token in row] for row in listed
            ]
        tops = list_at(logprobs, "top_logprobs", where=PATH)
        if self.dialect.by_text:
            return [self._by_text(row, f"new position {n}") for n, row in enumerate(tops)]
        return [self._by_id(row, PATH) for row in tops]

    def new_tokens(self) -> list[int | None]:
        """The tokens that the server took; None where their text does not tell."""
        logprobs = at(self.choice, "logprobs", where=PATH)
        if self.dialect.name == "content":
            return [count_at(token, "id", where=PATH) for token in list_at(logprobs, "content", where=PATH)]
        names = [str(name) for name in list_at(logprobs, "tokens", where=PATH)]
        if self.dialect.by_text:
            assert self.texts is not None
            return [self.texts.ids.get(name) for name in names]
        return [_id_of(name) for name in names]

    def _by_id(self, row: Any, where: str) -> Entries:
        if not isinstance(row, dict):
            raise ServerError(f"{where}: the log-probabilities are {row!r}")
        pairs = []
        for key, content in row.items():
            value = content.get("logprob") if isinstance(content, dict) else content
            token = _id_of(key)
            pairs.append(entry(key if token is None else token, value, where))
        return pairs

    def _by_text(self, row: Any, where: str) -> Entries:
        """As many of the best entries as their texts tell apart: below one that they do not, nothing is known."""
        if not isinstance(row, dict) or not row:
            raise ServerError(f"{where}: the log-probabilities are {row!r}")
        assert self.texts is not None
        pairs: Entries = []
        known = [(text, entry(0, value, f"{where}, token {text!r}")[1]) for text, value in row.items()]
        for text, value in sorted(known, key=lambda pair: -pair[1])[: self.asked]:
            if (token := self.texts.ids.get(text)) is None:
                if not pairs:
                    raise ServerError(f"{where}: its best token is named {text!r}, which is not the text of exactly one token")
                return pairs
            pairs.append((token, value))
        if len(pairs) < min(self.asked, len(self.texts.bytes)):
            raise ServerError(f"{where}: {len(pairs)} log-probabilities, {self.asked} were asked for")
        return pairs

    def _check_echo(self, ids: Sequence[int]) -> None:
        """Compare the server's own words for the prompt's tokens with those that were asked for."""
        assert self.texts is not None
        words = list_at(self.choice, "logprobs", "tokens", where=PATH)
        for n, token in enumerate(ids):
            known = self.texts.bytes[token].decode("utf-8", "replace")
            heard = at(words, n, where=PATH)
            if heard != known and "�" not in known and "�" not in str(heard):
                raise ServerError(f"the server tokenizes otherwise: at index {n} it has {heard!r}, sent was {known!r}")


def _id_of(name: str) -> int | None:
    """The token that a key or a word names by its id, with vLLM's prefix or without; None where it names none."""
    digits = name.removeprefix(PREFIX)
    return int(digits) if digits.isdecimal() and len(digits) <= MOST_DIGITS else None


def identify(server: Server, model: str | None) -> tuple[dict[str, str], str]:
    """What the server says it is, and the model to ask for."""
    listed = server.get("/v1/models")
    models = list_at(listed.body, "data", where="/v1/models")
    names = [str(at(card, "id", where="/v1/models")) for card in models]
    if not names or (model is not None and model not in names):
        lacks = f"the server does not serve {model!r}: " if model is not None else ""
        raise Refusal(f"{lacks}it serves {', '.join(names) or 'no model'}", field="model", remedy="name one that it serves")
    chosen = models[names.index(model)] if model is not None else models[0]
    facts = {"owned_by": str(chosen.get("owned_by", "")), "server": listed.headers.get("server", "")}
    for path, key in (("/version", "version"), ("/api/version", "version"), ("/props", "build_info")):
        answer = server.offers(path)
        if answer is not None and isinstance(answer.body, dict) and key in answer.body:
            facts[path] = str(answer.body[key])
    return {name: value for name, value in facts.items() if value}, model or names[0]


def probe(server: Server, model: str, ids: list[int]) -> tuple[Dialect, Any]:
    """The dialect that the server speaks, from one request's answer, and the numbers of that answer."""
    plain = {"model": model, "max_tokens": 1, "temperature": 0.0, "logprobs": 5}
    refused: Refusal | None = None
    for prompt in (ids, PROBE_TEXT):
        for extras in (EXTRAS, {"echo": True}, {}):
            try:
                answer = server.post(PATH, {**plain, **extras, "prompt": prompt})
            except Refusal as error:
                if error.field != "request":
                    raise
                refused = refused or error
                continue
            choice = at(answer.body, "choices", 0, where=PATH)
            name = _spoken(choice, answer)
            return Dialect(name, isinstance(prompt, list)), [choice.get("prompt_logprobs"), choice["logprobs"]]
    raise refused or AssertionError("every way was refused")


def _spoken(choice: dict[str, Any], answer: Answer) -> Name:
    logprobs = choice.get("logprobs")
    if isinstance(choice.get("prompt_logprobs"), list):
        return "prompt_logprobs"
    if isinstance(logprobs, dict) and logprobs.get("content"):
        return "content"
    if isinstance(logprobs, dict) and logprobs.get("top_logprobs"):
        fed = count_at(answer.body, "usage", "prompt_tokens", where=PATH)
        return "echo" if len(logprobs["top_logprobs"]) > fed else "new-tokens"
    raise Refusal(
        "the server gives no log-probabilities for `logprobs`, so there is nothing to compare",
        field="url",
        remedy="switch them on at the server, or use its native API",
    )
