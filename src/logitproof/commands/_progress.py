"""Progress of a long run on stderr, with the time that is left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from logitproof.commands._say import say
from logitproof.documents.wording import visible
from logitproof.jobs.progress import Progress
from logitproof.traces.trace import Failure

SHOWN_FAILURES = 3


@contextlib.contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """A callback that draws a bar with the time left; plain lines every tenth where there is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        with _bar(console) as draw:
            yield draw
    else:
        yield _lines()


@contextlib.contextmanager
def _bar(console: object) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:  # type: ignore[arg-type]
        task = bar.add_task("starting engines", total=None)
        yield lambda progress: bar.update(task, total=progress.total, completed=progress.done, description=_what(progress))


@contextlib.contextmanager
def counted(*, quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """A callback of how many of how many are done, and which came last; a bar, or lines every tenth."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda done, total, name: None
    elif console.is_terminal:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        what = TextColumn("{task.description}", markup=False)
        columns = (what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task("loading", total=None)
            yield lambda done, total, name: bar.update(task, total=total, completed=done, description=visible(name))
    else:
        yield (
            lambda done, total, name: (
                say(f"{done}/{total} {name}") if 10 * done // total != 10 * (done - 1) // total or done == 1 else None
            )
        )


def _lines() -> Callable[[Progress], None]:
    shown, failures = -1, 0

    def tell(progress: Progress) -> None:
        nonlocal shown, failures
        tenth, failed = 10 * progress.done // progress.total, isinstance(progress.result, Failure)
        failures += failed
        # One broken engine fails every prompt; the report has them all.
        if tenth != shown or (failed and failures <= SHOWN_FAILURES):
            shown = tenth
            say(f"{progress.done}/{progress.total} {_what(progress)}")

    return tell


def _what(progress: Progress) -> str:
    job = progress.job
    failed = "  (from the store)" if progress.is_stored else ""
    if isinstance(progress.result, Failure):
        failed = "  FAILED: " + next(iter(progress.result.text.strip().splitlines()), "")
    return visible(f"{progress.result.engine} {job.model.name} {job.kind} {job.mode} {job.prompt.id}{failed}")
