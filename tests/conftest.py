"""Whatever a test runs writes its history where the test's own files are, never into that of the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("history") / "history.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOGITPROOF_HISTORY", f"sqlite:///{path}")
        yield path
