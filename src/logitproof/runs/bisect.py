"""The first bad commit of an engine: git halves the commits, and the contract is run at each."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from logitproof.contract.contract import open_contract
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
    """One commit: what git calls it, what became of it, and why."""

    commit: str
    subject: str
    step: Step
    reason: str


@dataclass(frozen=True)
class Bisected:
    """Every commit that was tried, in order, and the first bad one; nothing where skipped commits hide it."""

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
    try:
        verdict = Workspace(out).check(open_contract(contract)).verdict
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
