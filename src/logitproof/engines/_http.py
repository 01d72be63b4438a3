"""The client's side of an HTTP server that computes logits: one request in, JSON or one clear error out."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from logitproof.engines import Engine
from logitproof.errors import Refusal
from logitproof.protocol.messages import Machine

try:
    import httpx2
except ImportError as error:
    raise ImportError("HTTP engines need httpx2: pip install 'logitproof[http]'") from error

RETRY_ON = (429, 503)
"""A server that says so is busy or still loading. A 500 is a fault of the engine, which a retry would hide."""
PAUSE = 0.25
"""Seconds before the first retry; every further one waits twice as long."""
BODY_LIMIT = 1 << 30
"""Bytes of one answer: the log-probabilities of a whole vocabulary over thousands of positions."""
OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are of how a body was sent, not of the body."""
WORDS = 600
"""Characters of an answer that are quoted in an error."""


class ServerError(RuntimeError):
    """The server failed, or answered what it must not; quotes its own words."""


@dataclass(frozen=True)
class Answer:
    """What the server said: JSON of any shape, and its headers in lower case."""

    body: Any
    headers: dict[str, str]


class Server:
    """One server by its base URL. Every failure is a `Refusal` (the set-up's fault) or a `ServerError`.

    `key_variable` names an environment variable with the API key: it goes into a header and nowhere else.
    Connection errors and the codes of `retry_on` are tried `retries` times again; a time-out is not.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        retries: int,
        concurrency: int,
        retry_on: Sequence[int],
        key_variable: str | None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise Refusal(f"{url!r} is no http:// or https:// address", field="url")
        if timeout_s <= 0 or retries < 0 or concurrency < 1:
            wrong = "timeout_s" if timeout_s <= 0 else "retries" if retries < 0 else "concurrency"
            raise Refusal("must be above 0" if wrong != "retries" else "must not be negative", field=wrong)
        self.url = url.rstrip("/")
        self._retries, self._retry_on, self._concurrency, self._timeout = retries, retry_on, concurrency, timeout_s
        self._key_variable, self._key = key_variable, _key(key_variable)
        headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {self._key}"} if self._key else {})}
        self._client = httpx2.Client(headers=headers, timeout=timeout_s)

    @property
    def machine(self) -> Machine:
        """What is known of the machine that computes: that it is the server's, whatever machine asks it."""
        return Machine(processor=f"unknown, behind {self.url}")

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        return self._ask("POST", path, body)

    def post_all(self, path: str, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        """Answers in the order of the bodies; the first failure is raised."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            futures = [pool.submit(self.post, path, body) for body in bodies]
            try:
                return [future.result() for future in futures]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def offers(self, path: str) -> Answer | None:
        """What a GET gives; None where the server does not know the path."""
        try:
            return self.get(path)
        except Refusal as error:
            if error.field == "url":
                return None
            raise

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Answer:
        for left in range(self._retries, -1, -1):
            try:
                response = self._within(method, self.url + path, body)
            except httpx2.TimeoutException:
                raise ServerError(f"{self.url}{path} did not answer within {self._timeout:g} s (timeout_s)") from None
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                if not left and isinstance(error, httpx2.ConnectError) and "refused" in str(error).lower():
                    raise ServerError(f"nothing listens at {self.url}: the connection was refused; start the server") from None
                if not left:
                    raise ServerError(f"{self.url}{path}: {type(error).__name__}: {self._clean(str(error))}") from None
            else:
                if response.status_code not in self._retry_on or not left:
                    return self._read(response, path)
            time.sleep(PAUSE * 2 ** (self._retries - left))
        raise AssertionError("the last turn returns or raises")

    def _within(self, method: str, url: str, body: dict[str, Any] | None) -> Any:
        """The whole response in `timeout_s`, headers and body: the client's own limit begins again with every byte."""
        answered: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                with self._client.stream(method, url, json=body) as response:
                    if (coding := response.headers.get("content-encoding", "identity").strip().lower()) != "identity":
                        # a few bytes of it may unpack to more than there is memory
                        raise ServerError(f"{url} answers compressed ({coding[:40]}), which was not asked for")
                    size, parts = 0, []
                    for part in response.iter_bytes():
                        parts.append(part)
                        size += len(part)
                        if size > BODY_LIMIT or given_up.is_set():
                            raise ServerError(f"{url} answers with more than {BODY_LIMIT >> 20} MiB")
                    kept = {name: text for name, text in response.headers.items() if name.lower() not in OF_THE_WIRE}
                answered.put(httpx2.Response(response.status_code, headers=kept, content=b"".join(parts)))
            except Exception as error:
                answered.put(error)

        given_up = threading.Event()
        threading.Thread(target=ask, daemon=True).start()
        try:
            outcome = answered.get(timeout=self._timeout)
        except queue.Empty:
            given_up.set()
            raise httpx2.ReadTimeout(f"no whole answer within {self._timeout:g} s") from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _read(self, response: Any, path: str) -> Answer:
        place, code = f"{self.url}{path}", response.status_code
        words = self._clean(response.text)
        if code in (401, 403):
            named = f"the key in {self._key_variable}" if self._key_variable else "no key"
            remedy = "name the environment variable that holds the key in api_key_env" if not self._key else "correct the key"
            raise Refusal(f"{place} refuses {named} (HTTP {code}): {words}", field="api_key_env", remedy=remedy)
        if code in (404, 405):
            raise Refusal(f"{place} is not offered (HTTP {code}): {words}", field="url", remedy="name the server's base URL")
        if 400 <= code < 500:
            raise Refusal(f"{place} refuses the request (HTTP {code}): {words}", field="request")
        if code != 200:
            raise ServerError(f"{place} answers HTTP {code}: {words}")
        try:
            body = json.loads(response.content)
        except (ValueError, RecursionError):
            raise ServerError(f"{place} answers with something that is not JSON: {words[:WORDS]!r}") from None
        return Answer(body, {name.lower(): value for name, value in response.headers.items()})

    def _clean(self, text: str) -> str:
        """The server's words without the key, should it repeat it."""
        text = text.replace(self._key, "***") if self._key else text
        try:
            content = json.loads(text)
            content = content.get("error", content.get("detail", content)) if isinstance(content, dict) else content
            text = str(content.get("message", content)) if isinstance(content, dict) else str(content)
        except (ValueError, RecursionError):
            pass
        return text.strip()[:WORDS] or "nothing"


class HttpEngine(Engine):
    """What engines that ask a server have in common. Subclasses are dataclasses that declare these fields as their options."""

    url: str
    logprobs: int
    timeout_s: float
    concurrency: int
    retries: int
    retry_on: list[int]
    api_key_env: str | None
    _server: Server
    _vocab: int

    def __post_init__(self) -> None:
        if self.logprobs == 0 or self.logprobs < -1:
            raise Refusal(f"{self.logprobs} log-probabilities prove nothing", field="logprobs", remedy="1 or more, or -1: all")
        self._server = Server(
            self.url,
            timeout_s=self.timeout_s,
            retries=self.retries,
            concurrency=self.concurrency,
            retry_on=self.retry_on,
            key_variable=self.api_key_env,
        )

    def _asked(self) -> int:
        """How many log-probabilities a position are asked for."""
        return self._vocab if self.logprobs == -1 else self.logprobs


def _key(variable: str | None) -> str:
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise Refusal(f"the environment variable {variable} is not set", field="api_key_env", remedy=f"export {variable}=…")
    return key


def at(value: Any, *path: str | int, where: str) -> Any:
    """`value[path[0]][path[1]]…`; a ServerError that says where the answer lacks it."""
    for n, key in enumerate(path):
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            place = ".".join(str(part) for part in path[: n + 1])
            raise ServerError(f"{where}: its answer has no {place}: {json.dumps(value)[:WORDS]}") from None
    return value


def count_at(value: Any, *path: str | int, where: str) -> int:
    """As `at`, a whole number of at most 31 bits, as ids and counts are."""
    count = at(value, *path, where=where)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 2**31:
        raise ServerError(f"{where}: {'.'.join(str(part) for part in path)} is {json.dumps(count)[:80]}, a count is expected")
    return count


def list_at(value: Any, *path: str | int, where: str) -> list[Any]:
    """As `at`, a list."""
    listed = at(value, *path, where=where)
    if not isinstance(listed, list):
        raise ServerError(f"{where}: {'.'.join(str(part) for part in path)} is {json.dumps(listed)[:80]}, a list is expected")
    return listed
