"""Paths on the command line: what is not there is told with the name that was meant, a contract stands for its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from logitproof.files.nearest import meant


class _Existing(click.Path):
    """A path that must be there, in words of ours."""

    def __init__(self, kind: str = "") -> None:
        super().__init__(path_type=Path, exists=True, file_okay=kind != "folder", dir_okay=kind != "file")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        expected = "file" if not self.dir_okay else "folder" if not self.file_okay else "file or folder"
        if not path.exists():
            self.fail(f"no such {expected}: {str(path)!r}{meant(path)}", param, ctx)
        if path.is_dir() and not self.dir_okay:
            self.fail(f"{str(path)!r} is a folder, wanted is a file", param, ctx)
        if not path.is_dir() and not self.file_okay:
            self.fail(f"{str(path)!r} is a file, wanted is a folder", param, ctx)
        return path


EXISTING, FOLDER, FILE = _Existing(), _Existing("folder"), _Existing("file")


class _Run(click.Path):
    """The folder of a run; a contract stands for the run that `check` made of it here."""

    name = "run"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from logitproof.runs.place import run_of

        return run_of(Path(value))


RUN = _Run()
