"""The first bad commit or setting of an engine: the contract is run at each that halves what is left.

git halves commits, `halved` settings that stand in an order.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from logitproof.contract.opened import OpenContract, open_contract, with_options
from logitproof.errors import ContractError, LogitproofError
from logitproof.files.last_words import last_words, shortened
from logitproof.files.system import in_words
from logitproof.runs.workspace import Workspace

Step = Literal["good", "bad", "skip"]
STEPS: dict[str, Step] = {"PASS": "good", "FAIL": "bad"}
FOUND = "is the first bad commit"
LINES = 6
"""Lines of a failed build that are quoted."""


@dataclass(frozen=True)
class Tried:
    """One commit or setting: what it is called, what became of it, and why."""

    commit: str
    subject: str
    step: Step
    reason: str


@dataclass(frozen=True)
class Bisected:
    """Everything that was tried, in order, and the first that is bad; nothing where what was skipped hides it."""

    tried: tuple[Tried, ...]
    first: str
    subject: str


def bisect(
    contract: Path,
    repository: Path,
    revisions: tuple[str, str],
    build: Sequence[str],
    *,
    out: Path,
    say: Callable[[str], None],
) -> Bisected:
    """Run `build` and the contract at commits between a good and a bad revision of the engine's repository.

    The repository is checked out at each commit and, at the end, as it was. A commit that cannot be built, or at which
    the contract comes to no verdict, is skipped. ContractError where files were changed, or a revision is unknown.
    """
    good, bad = revisions
    if _git(repository, "status", "--porcelain", "--untracked-files=no"):
        remedy = "commit or stash them: other commits are checked out here"
        raise ContractError("has files that were changed", where=str(repository), remedy=remedy)
    _git(repository, "bisect", "start", bad, good, "--")
    tried: list[Tried] = []
    try:
        while True:
            commit, _, subject = _git(repository, "log", "-1", "--format=%H %s").partition(" ")
            say(f"{commit[:12]} {subject}")
            step, reason = _try(contract, repository, build, out / commit[:12])
            say(f"  {step}: {reason}")
            tried.append(Tried(commit, subject, step, reason))
            answer = _git(repository, "bisect", step, checked=False)
            if FOUND in answer:
                first = answer.split(FOUND)[0].split()[-1]
                return Bisected(tuple(tried), first, _git(repository, "log", "-1", "--format=%s", first))
            if "only 'skip'ped commits left" in answer or "cannot bisect more" in answer.lower():
                return Bisected(tuple(tried), "", "")
    finally:
        _git(repository, "bisect", "reset", checked=False)


@dataclass(frozen=True)
class Setting:
    """What an engine is started with: options over those of the contract, and what the last step to them changed."""

    name: str
    options: Mapping[str, Any]
    change: str


def one_after_another(pairs: Mapping[str, Any]) -> list[Setting]:
    """The contract's own options, then one more of these at a time."""
    settings = [Setting("as in the contract", {}, "nothing")]
    for number, (key, value) in enumerate(pairs.items(), 1):
        settings.append(Setting(f"{number} of {len(pairs)} options", dict([*pairs.items()][:number]), f"{key} = {value}"))
    return settings


def values_of(key: str, values: Sequence[Any]) -> list[Setting]:
    """One option with one value after another."""
    return [Setting(f"{key} = {value}", {key: value}, f"{key} = {value}") for value in values]


def layers_of(key: str, count: int) -> list[Setting]:
    """All layers in float32 by the option `key`, then one fewer of the first at a time, until none is."""
    settings = [Setting(f"all {count} layers in float32", {key: list(range(count))}, "nothing")]
    for layer in range(count):
        change = f"layer {layer} is not computed in float32"
        settings.append(Setting(f"layers from {layer + 1} on in float32", {key: list(range(layer + 1, count))}, change))
    return settings


def bisect_settings(
    contract: Path, candidate: str, settings: Sequence[Setting], *, out: Path, say: Callable[[str], None]
) -> Bisected:
    """The first setting of a candidate at which the contract fails; the first must be good and the last bad.

    A setting without a verdict is skipped. Raises ContractError of an unknown candidate or option, and where the ends are not
    good and bad.
    """
    tried: dict[int, Tried] = {}

    def step_of(place: int) -> Step:
        if place not in tried:
            setting = settings[place]
            say(setting.name)
            opened = with_options(open_contract(contract), candidate, setting.options)
            step, reason = _judged(lambda: opened, out / str(place), f"{candidate}/*")
            say(f"  {step}: {reason}")
            tried[place] = Tried(setting.name, setting.change, step, reason)
        return tried[place].step

    for place, wanted in ((0, "good"), (len(settings) - 1, "bad")):
        if step_of(place) != wanted:
            text = f"is not {wanted} with {settings[place].name}: {tried[place].reason}"
            raise ContractError(text, where=candidate, remedy="begin with settings that pass, and end with some that fail")
    first = halved(len(settings), step_of)
    every = tuple(tried[place] for place in sorted(tried))
    return Bisected(every, "", "") if first is None else Bisected(every, settings[first].name, settings[first].change)


def halved(count: int, step_of: Callable[[int], Step]) -> int | None:
    """The first bad of `count` places in order, of which the first is good, the last bad; None where skipped ones hide it."""
    good, bad = 0, count - 1
    while bad - good > 1:
        middle = (good + bad) // 2
        nearest = sorted(range(good + 1, bad), key=lambda place: (abs(place - middle), place))
        place = next((place for place in nearest if step_of(place) != "skip"), None)
        if place is None:
            return None
        good, bad = (place, bad) if step_of(place) == "good" else (good, place)
    return bad


def _try(contract: Path, repository: Path, build: Sequence[str], out: Path) -> tuple[Step, str]:
    """Whether the commit that is checked out is good."""
    try:
        done = subprocess.run(list(build), cwd=repository, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ContractError(
            f"cannot be started: {in_words(error)}", where=build[0], remedy="name a command that builds"
        ) from None
    if done.returncode != 0:
        words = " / ".join(shortened(last_words(done.stderr.strip() or done.stdout), LINES))
        return "skip", f"the build ends with {done.returncode}: {words}"
    return _judged(lambda: open_contract(contract), out)


def _judged(opening: Callable[[], OpenContract], out: Path, only: str = "*") -> tuple[Step, str]:
    """Whether the contract passes; without a verdict it is skipped."""
    try:
        verdict = Workspace(out).check(opening(), only=only).verdict
    except LogitproofError as error:
        return "skip", str(error).splitlines()[0]
    return STEPS.get(
        verdict.status, "skip"
    ), f"{verdict.status}: {verdict.reason.splitlines()[0] if verdict.reason else 'all holds'}"


def _git(repository: Path, *words: str, checked: bool = True) -> str:
    try:
        argv = [shutil.which("git") or "git", "-C", str(repository), *words]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ContractError(f"git cannot be started: {in_words(error)}", where="git", remedy="install git") from None
    if checked and done.returncode != 0:
        text = next(iter(done.stderr.strip().splitlines()), f"git {words[0]} ends with {done.returncode}")
        raise ContractError(
            text, where=str(repository), remedy="name a git repository and two of its revisions, good before bad"
        )
    return f"{done.stdout}\n{done.stderr}" if not checked else done.stdout.strip()
