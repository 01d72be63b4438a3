"""Traces at a URL: one run finds what another measured, nothing half is read, and what is forgotten stays forgotten."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError, StoreFailed
from logitproof.runs.workspace import Workspace
from logitproof.traces.store import Store
from logitproof.traces.url_store import UrlStore

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["file", "memory"])
def url(request: Any, tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{uuid.uuid4()}/shared"


def keys(store: Any) -> list[str]:
    return [trace.key for trace in store.every()]


def test_a_second_run_with_the_same_url_measures_nothing_and_has_a_folder_of_its_own(project: Any, url: str) -> None:
    opened = open_contract(project.contract())
    first = Workspace(project.folder / "first").check(opened, store_url=url)
    second = Workspace(project.folder / "second").check(opened, store_url=url)
    assert first.facts["from_store"] == 0 and second.facts["from_store"] == len(first.results) > 2
    assert second.verdict.status == first.verdict.status == "PASS"
    assert keys(Store(project.folder / "first/store")) == keys(Store(project.folder / "second/store"))
    assert Workspace(project.folder / "second").judge_again().verdict.status == "PASS"


def test_a_fresh_run_reads_nothing_that_was_there_and_replaces_it(project: Any, url: str) -> None:
    opened = open_contract(project.contract())
    Workspace(project.folder / "first").check(opened, store_url=url)
    fresh = Workspace(project.folder / "second").check(opened, store_url=url, fresh=True)
    assert fresh.facts["from_store"] == 0
    assert Workspace(project.folder / "third").check(opened, store_url=url).facts["from_store"] == len(fresh.results)


def test_rows_that_a_run_does_not_keep_stay_at_the_url(project: Any, url: str) -> None:
    opened = open_contract(project.contract())
    Workspace(project.folder / "first").check(opened, store_url=url, keep="none")
    again = Workspace(project.folder / "second").check(opened, store_url=url)
    assert again.facts["from_store"] == len(again.results)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["trace.json", "logits.bin"])
def test_what_is_not_whole_at_the_url_is_not_there(project: Any, tmp_path: Path, name: str, damage: bytes) -> None:
    place = tmp_path / "shared"
    Workspace(project.folder / "first").check(open_contract(project.contract()), store_url=f"file://{place}")
    files = sorted(place.glob(f"traces/*/*/{name}"))
    for file in files:
        file.write_bytes(damage)
    store = UrlStore(f"file://{place}", Store(tmp_path / "own"))
    whole = [file for file in files if store.read(file.parent.name) is not None]
    assert files and not [file for file in whole if file.stat().st_size != len(damage)]
    assert all(store.read(file.parent.name).logits.size == 0 for file in whole)  # type: ignore[union-attr]


def test_what_was_forgotten_is_not_read_from_the_url_until_it_is_measured_again(project: Any, url: str) -> None:
    opened = open_contract(project.contract())
    Workspace(project.folder / "first").check(opened, store_url=url)
    store = UrlStore(url, Store(project.folder / "own"))
    key = keys(Store(project.folder / "first/store"))[0]
    assert store.read(key) is not None
    store.forget(key)
    assert store.read(key) is None
    assert store.arrived(key) is not None and store.read(key) is not None


@pytest.mark.parametrize("url", ["nonsense://x/y", "s4://bucket"])
def test_a_url_that_nothing_can_open_is_told_in_one_sentence(tmp_path: Path, url: str) -> None:
    with pytest.raises(ContractError, match="cannot be opened as a store") as caught:
        UrlStore(url, Store(tmp_path))
    assert url in str(caught.value) and caught.value.remedy


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, project: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed, match="cannot write"):
        Workspace(project.folder / "run").check(open_contract(project.contract()), store_url=f"file://{tmp_path}/file/x")


class ServiceError(Exception):
    """An error of some library, which is none of the system's."""


@pytest.fixture
def failing() -> Callable[..., str]:
    """Register a kind of URL whose files lie in memory and whose named methods fail; gives the URL."""
    kind = f"kind-{uuid.uuid4().hex[:8]}"

    def register(error: Exception, *names: str, after: int = 0) -> str:
        calls = iter(range(after))

        def fail(self: Any, *arguments: Any, **options: Any) -> Any:
            if next(calls, None) is None:
                raise error
            return memory.put_file(self, *arguments, **options)

        memory = fsspec.get_filesystem_class("memory")
        broken = type("Broken", (memory,), {"protocol": kind, "store": {}, "pseudo_dirs": [""], **dict.fromkeys(names, fail)})
        fsspec.register_implementation(kind, broken)
        return f"{kind}://place/traces"

    return register


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("get_file", ServiceError("the key has expired\nlong trace")),
        ("get_file", TimeoutError()),
        ("put_file", ConnectionRefusedError(111, "refused")),
        ("makedirs", ServiceError("the key has expired\nlong trace")),
        ("pipe_file", PermissionError(13, "no")),
    ],
)
def test_a_place_that_does_not_answer_is_one_clear_error(
    project: Any, failing: Callable[..., str], method: str, error: Exception
) -> None:
    url = failing(error, method)
    out = CliRunner().invoke(main, ["check", str(project.contract()), "--out", str(project.folder / "run"), "--store", url])
    assert out.exit_code == 3 and isinstance(out.exception, SystemExit)
    assert out.output.count(url) == 1 and "remedy: look at the place" in out.output
    assert f"cannot {'read' if method == 'get_file' else 'write'}: " in out.output and "long trace" not in out.output
    assert not (project.folder / "run/run.json").exists()


def test_a_copy_that_was_cut_off_half_way_is_found_by_nobody(project: Any, failing: Callable[..., str]) -> None:
    opened = open_contract(project.contract())
    url = failing(ServiceError("gone"), "put_file", after=1)
    with pytest.raises(StoreFailed, match="cannot write: gone"):
        Workspace(project.folder / "first").check(opened, store_url=url)
    key = keys(Store(project.folder / "first/store"))[0]
    store = UrlStore(url, Store(project.folder / "second"))
    assert store._files.glob(f"{store._root}/traces/*/*/logits.bin") and store.read(key) is None


@pytest.mark.parametrize("which", ["a bit", "of another key", "cut"])
def test_a_trace_that_is_not_what_its_key_names_is_measured_again_and_replaced(
    project: Any, tmp_path: Path, which: str
) -> None:
    opened, place = open_contract(project.contract()), tmp_path / "shared"
    url = f"file://{place}"
    first = Workspace(project.folder / "first").check(opened, store_url=url)
    folders = sorted(path.parent for path in place.glob("traces/*/*/trace.json") if (path.parent / "logits.bin").stat().st_size)
    whole = {name: (folders[0] / name).read_bytes() for name in ("logits.bin", "trace.json")}
    for name, content in whole.items():
        damaged = content[:-1] + bytes([content[-1] ^ 1]) if which == "a bit" else content[: len(content) // 2]
        replaced = (folders[1] / name).read_bytes() if which == "of another key" else damaged
        (folders[0] / name).write_bytes(replaced if name == "logits.bin" or which == "of another key" else content)
    again = Workspace(project.folder / "again").check(opened, store_url=url)
    assert again.facts["from_store"] == len(first.results) - 1 and again.verdict.status == "PASS"
    assert UrlStore(url, Store(tmp_path / "own")).read(folders[0].name) is not None, "what was measured lies in its place"


def test_a_host_where_nobody_listens_is_told_as_that(project: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ftp://me:a-secret@127.0.0.1:{free.getsockname()[1]}/traces"
    out = CliRunner().invoke(main, ["check", str(project.contract()), "--out", str(project.folder / "run"), "--store", url])
    assert out.exit_code == 3 and "cannot be reached: nothing listens there" in out.output
    assert "a-secret" not in out.output and "127.0.0.1" in out.output
