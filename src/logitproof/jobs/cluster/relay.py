"""What Ray runs on a node: brings the weights there, starts the far end, and hands its answers back as text and bytes.

Nothing that a task is given or gives back is an object of this package: Ray packs and unpacks strings, bytes and the handle
of the `Library` alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from logitproof.errors import ContractError, LogitproofError
from logitproof.jobs.cluster.messages import Answer, Fault, Task
from logitproof.jobs.cluster.weights import PIECE, local, scratch

LAST = 2000
"""Characters of a far end's stderr that are quoted where it died."""
ENDING = 30.0
"""Seconds in which a far end ends once all is answered; its engines are told to close."""


class Library:
    """Contents by sha256 that a run has offered to its nodes, read where the run was started: an actor of Ray."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}

    def offer(self, paths: str) -> None:
        """JSON of files by sha256."""
        self._paths.update(TypeAdapter(dict[str, str]).validate_json(paths))

    def read(self, sha256: str, offset: int, count: int) -> bytes:
        """A piece of a content that was offered; nothing else can be asked for."""
        with open(self._paths[sha256], "rb") as file:
            file.seek(offset)
            return file.read(count)


def relay(text: str, library: Any) -> Iterator[str | bytes]:
    """Answers of a task, each a text; the files that an answer announces follow it, in pieces."""
    import ray

    task = Task.model_validate_json(text)
    yield Answer(begun=ray.get_runtime_context().get_node_id()).model_dump_json(exclude_defaults=True)
    try:
        places, fetched = {}, 0
        for weights in task.weights:
            path, count = local(weights, lambda sha256, at, size: ray.get(library.read.remote(sha256, at, size)))
            places[weights.path], fetched = str(path), fetched + count
        if fetched:
            yield Answer(fetched=fetched).model_dump_json(exclude_defaults=True)
        with scratch() as folder:
            yield from _run(text, places, folder, _environment(task.gpus))
    except LogitproofError as error:
        yield Answer(fault=Fault.of(error)).model_dump_json(exclude_defaults=True)


def _run(task: str, places: Mapping[str, str], folder: Path, environment: Mapping[str, str]) -> Iterator[str | bytes]:
    """The far end's lines and files."""
    argv = [sys.executable, "-P", "-m", "logitproof.jobs.cluster.far_end", str(folder)]
    words = folder / "stderr.txt"
    with words.open("wb") as stderr:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment, cwd=folder
        )
    try:
        stdin: IO[bytes] = process.stdin  # type: ignore[assignment]
        stdout: IO[bytes] = process.stdout  # type: ignore[assignment]
        stdin.write(f"{task}\n{TypeAdapter(dict[str, str]).dump_json(dict(places)).decode()}\n".encode())
        stdin.flush()
        for line in stdout:
            yield line.decode()
            yield from _files(line)
        if process.wait(ENDING):
            last = words.read_text("utf-8", "replace")[-LAST:].strip()
            yield Answer(unfit=f"the far end ended with exit code {process.returncode}: {last}").model_dump_json()
    finally:
        process.kill()
        process.wait()


def _files(line: bytes) -> Iterator[bytes]:
    """The files that an answer announces, each gone when it is sent."""
    try:
        answer = Answer.model_validate_json(line)
    except ValidationError as error:
        raise ContractError(f"the far end wrote no answer: {error.error_count()} faults") from None
    for name, size in answer.files.items():
        path = Path(answer.folder, name)
        with path.open("rb") as file:
            for offset in range(0, size, PIECE):
                yield file.read(min(PIECE, size - offset))
        path.unlink()


def _environment(gpus: bool) -> dict[str, str]:
    """The variables that the node was started with, so that an engine computes as it would there without Ray.

    Ray sets some for its workers, the number of OpenMP's threads among them, which can change a logit. Cards that it gives
    to this task stay.
    """
    given = {name: text for name, text in os.environ.items() if gpus and name.endswith("_VISIBLE_DEVICES")}
    return {**{name: text for name, text in _outer().items() if not name.startswith("RAY_")}, **given}


def _outer() -> dict[str, str]:
    """The environment of the node's own process; where the system does not say it, of this one."""
    try:
        content = Path(f"/proc/{int(os.environ['RAY_RAYLET_PID'])}/environ").read_bytes()
    except (KeyError, ValueError, OSError):
        return {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"}
    pairs = (entry.partition(b"=") for entry in content.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(text) for name, _, text in pairs}
