"""Traces at a URL that many machines see, through a folder of this one: any file system that fsspec speaks.

URL/traces/ab/abcdef…/{logits.bin, trace.json}    as in the folder; the record is written last
URL/KIND/abcdef….json                             what is remembered beside them
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, StoreFailed
from logitproof.files.system import in_words
from logitproof.files.untrusted import read_object
from logitproof.traces.store import FILES, RECORD, Store
from logitproof.traces.trace import Trace, read_trace

INSTALL = "pip install 'logitproof[ray]', and what fsspec needs for this kind of URL (s3fs, gcsfs, adlfs ...)"
LOOK = "look at the place and its credentials, or run without --store"


class UrlStore:
    """A store at a URL: whatever a run reads or writes lies in its own folder too, so that the run is judged without it.

    What is forgotten is forgotten by this run: others may use it, and what is measured in its place replaces it there.
    """

    def __init__(self, url: str, folder: Store) -> None:
        self.url, self.folder = url, folder
        self._files, self._root = _opened(url)
        self._ignored: set[str] = set()
        self._ignores_all = False

    def read(self, key: str) -> Trace | None:
        """The trace with this key from the folder, else from the URL."""
        trace = self.folder.read(key)
        if trace is not None or self._ignores_all or key in self._ignored:
            return trace
        return self.fetch(key)

    def write(self, folder: Path, trace: Trace) -> Trace:
        """Keep it here and there."""
        kept = self.folder.write(folder, trace)
        self.publish(trace.key)
        return kept

    def fetch(self, key: str) -> Trace | None:
        """Bring a trace into the folder; None for what is not there or not whole."""
        with self.partial() as folder:
            for name in reversed(FILES):
                if not self._got(self._place(key, name), folder / name) and name == RECORD:
                    return None
            try:
                trace = read_trace(folder)
            except (ContractError, OSError, ValueError):
                return None
            return self.folder.write(folder, trace) if trace.key == key else None

    def publish(self, key: str) -> None:
        """Copy a trace of the folder to the URL, in place of one that is there."""
        with self._failures("write"):
            self._files.makedirs(self._place(key), exist_ok=True)
            for name, path in self.folder.files(key).items():
                self._files.put_file(str(path), self._place(key, name))
        self._ignored.discard(key)

    def arrived(self, key: str) -> Trace | None:
        """What another machine has put there for this run."""
        self._ignored.discard(key)
        return self.fetch(key)

    def partial(self) -> AbstractContextManager[Path]:
        return self.folder.partial()

    def forget(self, key: str) -> None:
        self.folder.forget(key)
        self._ignored.add(key)

    def sweep(self) -> None:
        self.folder.sweep()

    def clear(self) -> None:
        """Read nothing that was there before."""
        self.folder.clear()
        self._ignores_all = True

    def every(self) -> Iterator[Trace]:
        """Those of this run."""
        return self.folder.every()

    def note(self, kind: str, key: str) -> dict[str, Any]:
        """The record of the folder, else of the URL."""
        if content := self.folder.note(kind, key):
            return content
        with self.partial() as folder, contextlib.suppress(ContractError):
            if not self._got(f"{self._root}/{kind}/{key}.json", folder / "note.json"):
                return {}
            content = read_object(folder / "note.json")
            self.folder.remember(kind, key, content)
        return content

    def remember(self, kind: str, key: str, content: dict[str, Any]) -> None:
        self.folder.remember(kind, key, content)
        with self._failures("write"):
            self._files.makedirs(f"{self._root}/{kind}", exist_ok=True)
            self._files.pipe_file(f"{self._root}/{kind}/{key}.json", json.dumps(content).encode())

    def _place(self, key: str, name: str = "") -> str:
        return "/".join(filter(None, (self._root, "traces", key[:2], key, name)))

    def _got(self, place: str, path: Path) -> bool:
        """Whether a file was there, and is now at `path`."""
        with self._failures("read"):
            try:
                self._files.get_file(place, str(path))
            except FileNotFoundError:
                path.unlink(missing_ok=True)
                return False
        return True

    @contextlib.contextmanager
    def _failures(self, verb: str) -> Iterator[None]:
        """Whatever keeps the place from being used is one error, which no job bears."""
        try:
            yield
        except Exception as error:  # each kind of URL is another library, with errors of its own
            raise StoreFailed(f"cannot {verb}: {_words(error)}", where=shown(self.url), remedy=LOOK) from None


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it.

    Raises ContractError for what nothing here can open, StoreFailed where what it names does not answer.
    """
    try:
        import fsspec

        files, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        text = f"needs a library that is not installed: {error.name or error}"
        raise ContractError(text, where=shown(url), remedy=INSTALL) from None
    except ValueError as error:
        remedy = "give a URL such as file:///shared/traces or s3://bucket/traces"
        raise ContractError(f"cannot be opened as a store: {_words(error)}", where=shown(url), remedy=remedy) from None
    except Exception as error:
        raise StoreFailed(f"cannot be reached: {_words(error)}", where=shown(url), remedy=LOOK) from None
    return files, str(root).rstrip("/")


def shown(url: str) -> str:
    """The URL as people may see it: without its password."""
    return re.sub("(?<=://)([^/@:]*):[^/@]*@", r"\1:…@", url)


def _words(error: Exception) -> str:
    """What the system or a library says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return in_words(error)
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
