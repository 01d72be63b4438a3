"""Models on the command line: a path, or an id of the Hugging Face hub; and who may fetch one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from logitproof.commands._paths import FILE, FOLDER
from logitproof.commands._say import say


class Model(click.ParamType[Path]):
    """A path, or `org/name@revision:file.gguf`, which is looked up in the hub's cache; `kind` is what it must be."""

    name = "model"

    def __init__(self, kind: str = "") -> None:
        self.kind = kind

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As for every path."""
        return "PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Where it lies; raises ModelError of an id that is not there, and what click says of a path that is not."""
        from logitproof.weights.hub import asking, located

        if ctx is not None and ASKS not in ctx.meta:
            _ask(ctx, False)
        elif ctx is None:
            with asking(False, say):
                return located(str(value))
        path = located(str(value), where=param.human_readable_name if param else "")
        return {"folder": FOLDER, "file": FILE}[self.kind].convert(path, param, ctx) if self.kind else path


ASKS = "logitproof.asks"


def _ask(ctx: click.Context, download: bool) -> None:
    """Ids are fetched from now on until the command ends, or only looked up; what they came to is told on stderr."""
    from logitproof.weights.hub import asking

    ctx.meta[ASKS] = True
    # the root ends even where the arguments of a command cannot be read
    ctx.find_root().with_resource(asking(download, say))


def _callback(ctx: click.Context, param: click.Parameter, download: bool) -> None:
    if not ctx.resilient_parsing:
        _ask(ctx, download)


DOWNLOAD = click.option(
    "--download",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_callback,
    help="Fetch models of the hub (org/name@revision) that are not in its cache.",
)
