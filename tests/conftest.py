"""Whatever a test runs writes its history where the test's own files are, never into that of the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nursery import born, nursery  # noqa: F401 -- fixtures

STARTED = {"test_streamed", "test_isa_pins", "test_clients", "test_ray"}
"""Of the folders below, whose tests look at processes: each engine is started there as it is for a user."""
BORN = {"power", "engines"}
"""Folders whose tests ask engines, over and over."""


@pytest.fixture(autouse=True, scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("history") / "history.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGITPROOF_HISTORY", f"sqlite:///{path}")
        yield path


@pytest.fixture(autouse=True)
def _born(request: pytest.FixtureRequest) -> None:
    """Engines of transformers need no start of their own where the folder or the file says so."""
    if request.path.parent.name in BORN and request.path.stem not in STARTED:
        request.getfixturevalue("born")
