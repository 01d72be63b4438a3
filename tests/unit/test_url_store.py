"""Traces at a URL: one run finds what another measured, nothing half is read, and what is forgotten stays forgotten."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError, StoreFailed
from logitproof.runs.workspace import Workspace
from logitproof.traces.store import Store
from logitproof.traces.url_store import UrlStore

pytest.importorskip("fsspec")


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
