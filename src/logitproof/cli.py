"""The command line: one command a verb; each parses, calls the library, prints and exits.

Nothing but click is imported before a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from logitproof.errors import LogitproofError

OUT = click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Run folder; default runs/CONTRACT.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print verdict.json to stdout instead of a table.")
PARALLEL = click.option("--parallel", type=click.IntRange(1), default=1, show_default=True, help="Engines run at a time.")


class _Command(click.Group):
    """Turns every error that was foreseen into one message and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LogitproofError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("interrupted: what was measured is kept, run the same command to continue", err=True)
            ctx.exit(130)


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="logitproof")
def main() -> None:
    """Does your engine compute the same model as the reference?

    Exit codes: 0 all gates hold · 1 a gate fails · 2 the contract or the command line is wrong ·
    3 an engine or the environment failed, so nothing was proven.
    """


@main.command()
@click.argument("contract", type=click.Path(path_type=Path))
@OUT
@click.option("--only", default="*", metavar="GLOB", help="Cells to run, such as 'mine/*/Q8_0/*'.")
@click.option("--resume/--fresh", default=True, help="Reuse what an earlier run measured, or measure all again.")
@PARALLEL
@JSON
def check(contract: Path, out: Path | None, only: str, resume: bool, parallel: int, as_json: bool) -> None:
    """Run a contract: engines, comparison, verdict, report."""
    from logitproof.contract import open_contract
    from logitproof.progress import shown_progress
    from logitproof.workspace import Workspace

    opened = open_contract(contract)
    space = Workspace(out or Path("runs") / opened.contract.contract)
    with shown_progress(quiet=as_json) as on_progress:
        report = space.check(opened, only=only, fresh=not resume, parallel=parallel, on_progress=on_progress)
    _show(report, space.folder, as_json, next_command=space.next_command(report, contract))


@main.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--contract", type=click.Path(path_type=Path), help="Judge by this contract instead of the run's own.")
@JSON
def judge(run: Path, contract: Path | None, as_json: bool) -> None:
    """Judge a finished run again, without any engine, after bands or gates were changed."""
    from logitproof.workspace import Workspace

    space = Workspace(run)
    report = space.judge_again(contract)
    _show(report, space.folder, as_json, next_command=space.next_command(report, report.opened.path))


@main.command()
@click.argument("engine")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("suite")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write.")
@click.option("--option", "-o", "options", multiple=True, metavar="NAME=VALUE", help="An option of the engine, as YAML.")
@click.option("--mode", type=click.Choice(["prefill", "decode"]), default="prefill", show_default=True)
@click.option("--config", type=click.Path(path_type=Path), help="HF folder of the unquantized model, for a GGUF.")
@click.option(
    "--tokens-from", type=click.Path(path_type=Path), help="A capture whose tokens to score, so both can be compared."
)
def capture(
    engine: str,
    model: Path,
    suite: str,
    out: Path,
    options: tuple[str, ...],
    mode: str,
    config: Path | None,
    tokens_from: Path | None,
) -> None:
    """Run one engine on a suite and keep its logits."""
    from logitproof.capture import capture as run_capture
    from logitproof.capture import parse_options
    from logitproof.progress import shown_progress

    with shown_progress() as on_progress:
        made = run_capture(
            engine,
            model,
            suite,
            out,
            options=parse_options(options),
            mode=mode,
            config=config,
            tokens_from=tokens_from,
            on_progress=on_progress,
        )
    click.echo(f"{len(made.prompts)} prompts, {made.positions} positions in {out}")
    click.echo(f"next: logitproof capture ENGINE MODEL {suite} --out OTHER --tokens-from {out}; logitproof compare {out} OTHER")


@main.command()
@click.argument("reference", type=click.Path(path_type=Path))
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def compare(reference: Path, candidate: Path, as_json: bool) -> None:
    """Compare two captures: metrics only, no verdict (a verdict needs a contract)."""
    from logitproof.capture import compare_captures

    summary = compare_captures(reference, candidate)
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    from rich.console import Console

    from logitproof.reporters.console import summary_table

    Console().print(summary_table(summary))


@main.command()
@JSON
def doctor(as_json: bool) -> None:
    """What this machine can run: engines, versions, instruction sets, and what is missing."""
    from logitproof import doctor as verb

    found = verb.examine()
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        click.echo(found.as_text())
    sys.exit(0 if found.usable else 3)


@main.command("list")
@click.argument("what", type=click.Choice(["engines", "metrics", "mutations", "reporters", "suites"]))
@click.option("--json", "as_json", is_flag=True)
def list_(what: str, as_json: bool) -> None:
    """List the entries of a catalogue with their help and options; imports none of them."""
    from logitproof import listing

    rows = listing.rows(what)
    click.echo(json.dumps(rows, indent=2) if as_json else listing.as_text(rows))


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default="my.parity.yaml")
def new(path: Path) -> None:
    """Write a contract to start from."""
    from logitproof import listing

    listing.write_starter(path)
    click.echo(f"wrote {path}\nnext: set the paths in it, then `logitproof check {path}`")


def _show(report: Any, folder: Path, as_json: bool, *, next_command: str) -> NoReturn:
    if as_json:
        click.echo((folder / "verdict.json").read_text("utf-8"))
    else:
        from rich.console import Console

        from logitproof.reporters.console import renderable

        terminal = Console()
        terminal.print(renderable(report, folder / "report.md", next_command, width=terminal.width))
    sys.exit(report.verdict.exit_code)


if __name__ == "__main__":
    main()
