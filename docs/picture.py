"""Draws what `logitproof check` prints as docs/demo.svg: `python docs/picture.py runs/demo`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from logitproof.reporters.console import renderable
from logitproof.runs.workspace import Workspace

WIDTH = 104


def main(run: Path) -> None:
    space = Workspace(run)
    report = space.judge_again()
    with open(os.devnull, "w") as quiet:
        console = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor", file=quiet)
        next_command = space.next_command(report, Path("examples/demo.parity.yaml"))
        console.print(renderable(report, run / "report.md", next_command, width=WIDTH))
    picture = console.export_svg(title="logitproof check examples/demo.parity.yaml", theme=MONOKAI)
    # Its fonts would be fetched from the network by whoever looks at the picture.
    offline = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    Path(__file__).with_name("demo.svg").write_text(offline, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
