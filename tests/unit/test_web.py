"""The local pages over the history: what they show, whom they answer, and that nothing foreign runs in them."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.runs.ledger import Ledger, open_ledger
from logitproof.runs.recorded import Recorded, recorded_in
from logitproof.runs.workspace import Workspace
from logitproof.web.app import application
from logitproof.web.server import is_loopback, listen

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import _report_browser as chromium

EVIL = "<script>window.__owned = 1</script>"
needs_chromium = pytest.mark.skipif(chromium.PROGRAM is None, reason=chromium.MISSING)


@contextlib.contextmanager
def serving(ledger: Ledger) -> Iterator[str]:
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application(ledger), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def read(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("LOGITPROOF_HISTORY", f"sqlite:///{tmp_path / 'own.sqlite3'}")
    return open_ledger()


@pytest.fixture
def runs(project: Any, ledger: Ledger) -> tuple[Recorded, Recorded]:
    """A run whose folder is there, and an older one whose folder is not, of a contract with a name to be careful of."""
    space = Workspace(project.folder / "run")
    space.check(open_contract(project.contract()))
    here = recorded_in(space.folder)
    gates = {name: {**gate, "observed": 1.0, "status": "FAIL"} for name, gate in here.gates.items()}
    made_at = "2020-01-01T00:00:00+00:00"
    gone = replace(here, run_id="2020-gone", made_at=made_at, folder="/nowhere", status="FAIL", gates=gates, reason=EVIL)
    ledger.record(gone)
    ledger.record(replace(gone, run_id="2020-evil", contract=f"a/b {EVIL}"))
    return here, gone


def test_every_page_is_reached_from_the_first(ledger: Ledger, runs: tuple[Recorded, Recorded]) -> None:
    here, gone = runs
    with serving(ledger) as address:
        code, first = read(address)
        assert code == 200 and f'href="/runs/{here.run_id}"' in first and 'href="/contracts/toys"' in first
        assert EVIL not in first
        code, contract = read(f"{address}/contracts/toys")
        assert code == 200 and contract.count("<svg") >= 1 and f"<option>{gone.run_id}" in contract
        code, page = read(f"{address}/runs/{here.run_id}")
        assert code == 200 and "Prompts, positions and tokens" in page
        code, page = read(f"{address}/runs/{gone.run_id}")
        assert code == 200 and "holds this run no longer" in page and EVIL not in page
        code, page = read(f"{address}/compare?before={gone.run_id}&after={here.run_id}")
        assert code == 200 and "What changed" in page and "PASS" in page
        assert read(f"{address}/contracts/a%2Fb%20%3Cscript%3Ewindow.__owned%20=%201%3C%2Fscript%3E")[0] == 200


@pytest.mark.parametrize("place", ["/runs/nosuch", "/contracts/nosuch", "/compare", "/compare?before=x&after=y", "/../x"])
def test_what_is_not_there_is_said_on_a_page(ledger: Ledger, runs: tuple[Recorded, Recorded], place: str) -> None:
    with serving(ledger) as address:
        code, page = read(address + place)
    assert code == 404 and "Traceback" not in page


def test_another_name_of_the_host_is_not_answered(ledger: Ledger) -> None:
    """A foreign page whose name is made to point here must not read the history."""
    with serving(ledger) as address:
        assert read(address, Host="evil.example")[0] == 400
        assert "no run is recorded" in read(address)[1]


def test_a_run_that_goes_on_is_live(ledger: Ledger) -> None:
    ledger.go_on("run-1", "toys", 3, 10, "toy m p0")
    with serving(ledger) as address:
        assert json.loads(read(f"{address}/live.json")[1])[0]["done"] == 3
        assert "toys: 3 of 10 jobs, last toy m p0" in read(address)[1]


def test_only_loopback_is_taken_for_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.1", "::", "example.org")))
    with contextlib.closing(listen("127.0.0.1", 0)) as taken:
        taken.listen()
        with pytest.raises(ContractError, match="cannot listen there"):
            listen("127.0.0.1", taken.getsockname()[1])


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_in_chromium(ledger: Ledger, runs: tuple[Recorded, Recorded], scheme: Any) -> None:
    with serving(ledger) as address, chromium.browser() as started:
        page = started.new_page(color_scheme=scheme)
        for place in ("/", "/contracts/toys", "/runs/2020-gone", "/compare?before=2020-gone&after=" + runs[0].run_id):
            page.goto(address + place)
            assert chromium.axe_violations(page) == [] and not chromium.xss_executed(page)
        page.goto(address)
        page.get_by_role("link", name="✔ PASS").first.click()
        page.get_by_role("button", name="Compare").click()
        assert "What changed" in page.content()
        page.get_by_role("link", name="All runs").click()
        ledger.go_on("run-9", "toys", 4, 9, "toy m p1")
        page.get_by_text("toys: 4 of 9 jobs").wait_for(timeout=5000)
        ledger.end("run-9")
        page.get_by_text("toys: 4 of 9 jobs").wait_for(state="detached", timeout=5000)
