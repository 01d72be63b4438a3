"""The engine `command`: any program that speaks the protocol."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logitproof.engines import Engine
from logitproof.errors import Refusal


@dataclass
class Command(Engine):
    """Any program that speaks the engine protocol (docs/protocol.md) on stdin and stdout.

    `argv` is the program and its arguments, run without a shell in the contract's folder; `sha256` pins
    the program's file; `options` are handed to it in `hello`.
    """

    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    sha256: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def replace_process(self) -> tuple[list[str], dict[str, str]]:
        """Check the program and hand over to it."""
        if not self.argv:
            raise Refusal("it is empty", field="argv", remedy="name the program and its arguments")
        if self.cwd is not None:
            if not Path(self.cwd).is_dir():
                raise Refusal(f"no such folder: {self.cwd}", field="cwd")
            os.chdir(self.cwd)
        program = shutil.which(self.argv[0], path=self.environment.get("PATH"))
        if program is None:
            raise Refusal(
                f"{self.argv[0]!r} is no program that can be run",
                field="argv",
                remedy="give a path (relative to the contract) or a name on PATH, and make it executable",
            )
        if self.sha256 is not None:
            with open(program, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != self.sha256.lower():
                raise Refusal(
                    f"{program} has sha256 {digest}, pinned is {self.sha256}",
                    field="argv",
                    remedy="build the pinned version, or pin the new one on purpose",
                )
        return [program, *self.argv[1:]], {**os.environ, **self.environment}
