"""A server that answers compressed, unasked: a few bytes may unpack to more than there is memory, and nothing is unpacked."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from logitproof.engines._http import Server, ServerError

BOMB = 256 << 20


@contextmanager
def serving(coding: str, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers everything so, and what it was asked to encode by."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Accept-Encoding", ""))
            self.send_response(200)
            if coding:
                self.send_header("Content-Encoding", coding)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, form: str, *values: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def client(url: str) -> Server:
    return Server(url, timeout_s=20.0, retries=0, concurrency=1, retry_on=(), key_variable=None)


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress), ("gzip, gzip", gzip.compress)],
)
def test_what_is_compressed_is_refused_and_not_unpacked(coding: str, pack: Callable[[bytes], bytes]) -> None:
    with serving(coding, pack(b" " * BOMB)) as (url, asked), pytest.raises(ServerError, match="answers compressed"):
        client(url).get("/v1/models")
    assert asked == ["identity"]


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_what_is_plain_is_read(coding: str) -> None:
    with serving(coding, b'{"data": []}') as (url, asked):
        assert client(url).get("/v1/models").body == {"data": []}
    assert asked == ["identity"]
