"""The far end of a group: `python -m logitproof.jobs.cluster.far_end FOLDER` on a node, a task on stdin, answers on stdout.

A process of its own, without Ray: it has the environment that the node has, it is `run_group` as on one machine, and it ends
with its stdin, so that no engine outlives the task that it was started for.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np
from pydantic import TypeAdapter

from logitproof.errors import LogitproofError
from logitproof.files.sources import PACKAGE, sources_sha256
from logitproof.jobs.adapter import adapter_identity
from logitproof.jobs.cluster.messages import Answer, Described, Fault, Source, Task
from logitproof.jobs.cluster.weights import held
from logitproof.jobs.executed import KIND
from logitproof.jobs.group import Group, Outcome, run_group
from logitproof.jobs.job import Job, option_files
from logitproof.jobs.session import Session
from logitproof.protocol.machine import this_machine
from logitproof.traces.store import Store
from logitproof.traces.trace import Trace
from logitproof.traces.url_store import UrlStore


def package_sha256() -> str:
    """sha256 of all source of this package: what two machines must have alike."""
    return sources_sha256(sorted(PACKAGE.rglob("*.py")))


def main() -> None:
    """Do what the first line of stdin asks for; the second says where models lie, by the paths that jobs name."""
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints must not stand between the answers
    task = Task.model_validate_json(sys.stdin.buffer.readline())
    places = TypeAdapter(dict[str, str]).validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_stdin, args=(folder,), daemon=True).start()
    FarEnd(task, folder, places, answers).work()


class FarEnd:
    """One task; `places` are the paths here of models, by the paths that jobs name."""

    def __init__(self, task: Task, folder: Path, places: Mapping[str, str], answers: TextIO) -> None:
        self.task, self.folder, self.places, self._answers = task, folder, places, answers

    def work(self) -> None:
        """Answer the task; what goes wrong is an answer too."""
        try:
            if self.task.action == "describe":
                self.tell(Answer(described=Described(source=package_sha256(), machine=this_machine(), holds=held())))
                return
            group = Group.read(self.task.group)
            if reason := _unfit(self.task, group):
                self.tell(Answer(unfit=reason))
                return
            self._ask(_at_home(group, self.folder, self.places))
        except LogitproofError as error:
            self.tell(Answer(fault=Fault.of(error)))

    def tell(self, answer: Answer) -> None:
        """Write one line."""
        self._answers.write(answer.model_dump_json(exclude_defaults=True) + "\n")
        self._answers.flush()

    def _ask(self, group: Group) -> None:
        with Session(group.spec, group.name) as session:
            if self.task.action == "hello":
                self.tell(Answer(hello=session.hello()))
            elif self.task.action == "spell":
                job = group.jobs[0]
                worker, _ = session.loaded(job.model, job.config)
                self.tell(Answer(texts=[worker.detokenize(stretch) for stretch in self.task.stretches]))
            elif reason := self._says_other(session):
                self.tell(Answer(unfit=reason))
            else:
                self._run(group, session)

    def _says_other(self, session: Session) -> str:
        """Why rows of this engine would not belong under the keys of the jobs; one that dies here fails its jobs instead."""
        try:
            hello = session.hello()
        except LogitproofError:
            return ""
        expected = self.task.hello
        if expected is None or hello == expected:
            return ""
        names = [name for name in type(hello).model_fields if getattr(hello, name) != getattr(expected, name)]
        return f"the engine {session.name} says another {' and '.join(names)} there"

    def _run(self, group: Group, session: Session) -> None:
        store = _Seeded(self.folder / "store", self.task.sources)
        remote = UrlStore(self.task.store, store) if self.task.store else None
        for outcome in run_group(group, store, session):
            self.tell(self._outcome(outcome, store, remote))

    def _outcome(self, outcome: Outcome, store: _Seeded, remote: UrlStore | None) -> Answer:
        if outcome.failure is not None:
            failure = outcome.failure
            text, where, remedy = map(self._named, (failure.text, failure.where, failure.remedy))
            worded = replace(failure, text=text, where=where, remedy=remedy)
            return Answer(outcome=_json(replace(outcome, failure=worded)))
        executed = {}
        if (name := store.seen[outcome.key]) and (content := store.note(KIND, name)):
            executed = content
        if remote is not None:
            remote.publish(outcome.key)
            for path in store.files(outcome.key).values():
                path.unlink()
            return Answer(outcome=_json(outcome), executed=executed)
        files = store.files(outcome.key)
        folder = next(iter(files.values())).parent
        sizes = {name: path.stat().st_size for name, path in files.items()}
        return Answer(outcome=_json(outcome), folder=str(folder), files=sizes, executed=executed)

    def _named(self, text: str) -> str:
        """Words of a failure with the paths that the contract names."""
        for named, here in self.places.items():
            text = text.replace(here, named)
        return text


class _Seeded(Store):
    """A store of a task: of the traces that its jobs continue it has what they read, and no rows."""

    def __init__(self, folder: Path, sources: list[Source]) -> None:
        super().__init__(folder)
        self._sources = {source.key: _bare(source) for source in sources}
        self.seen: dict[str, str] = {}
        """the name of what was executed, by the key of the trace"""

    def read(self, key: str) -> Trace | None:
        return self._sources.get(key) or super().read(key)

    def write(self, folder: Path, trace: Trace) -> Trace:
        kept = super().write(folder, trace)
        self.seen[trace.key] = trace.executed
        # whoever sends the rows away removes them
        self._sources[trace.key] = replace(kept, logits=np.empty((0, 0), np.float32), routing=None, positions=[])
        return kept


def _bare(source: Source) -> Trace:
    empty = np.empty((0, 0), np.float32)
    length = len(source.token_ids)
    return Trace(
        source.key, "generate", source.engine, "greedy", source.token_ids, length, empty, source.new_token_ids,
        details=source.details,
    )  # fmt: skip


def _unfit(task: Task, group: Group) -> str:
    """Why rows made here would stand under a key that does not say so."""
    if task.source != package_sha256():
        return "it has another version of logitproof"
    if task.adapter != adapter_identity(group.spec):
        return f"it has other source of the engine {group.spec.engine}"
    here = option_files(group.spec)
    if odd := sorted(name for name in {*task.files, *here} if task.files.get(name) != here.get(name)):
        return f"the file {odd[0]} that an option names is not there, or another"
    return ""


def _at_home(group: Group, folder: Path, places: Mapping[str, str]) -> Group:
    """The group with the paths of this machine."""
    directory = group.spec.directory
    if directory is not None and not Path(directory).is_dir():
        (folder / "work").mkdir(exist_ok=True)
        directory = str(folder / "work")
    spec = replace(group.spec, directory=directory)

    def moved(job: Job) -> Job:
        config = Path(places.get(str(job.config), job.config)) if job.config else None
        return replace(job, spec=spec, model=Path(places.get(str(job.model), job.model)), config=config)

    return replace(group, spec=spec, jobs=tuple(moved(job) for job in group.jobs))


def _json(outcome: Outcome) -> str:
    return TypeAdapter(Outcome).dump_json(outcome).decode()


def _end_with_stdin(folder: Path) -> None:
    """Whoever asked is gone: end now, and the watchdog ends the engines."""
    # the descriptor itself: nothing waits in Python's buffer behind the last line that is asked for
    while os.read(0, 4096):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(3)


if __name__ == "__main__":
    main()
