"""The history of runs: an embedded database, or another one by its URL.

LOGITPROOF_HISTORY     a URL of SQLAlchemy, such as postgresql+psycopg://host/name, or `off`; without it a SQLite file in
                       the user's folder of data
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    delete,
    insert,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError, SQLAlchemyError

from logitproof.errors import ContractError
from logitproof.files.system import in_words
from logitproof.runs.recorded import Recorded

VARIABLE = "LOGITPROOF_HISTORY"
OFF = "off"
WAIT = 30
"""Seconds that a writer waits for another."""
_TABLES = MetaData()
RUNS = Table(
    "runs", _TABLES, Column("run_id", String(80), primary_key=True), Column("contract", String(200), index=True),
    Column("contract_version", String(80)), Column("commit", String(80)), Column("status", String(20)),
    Column("exit_code", Integer),
    Column("reason", Text), Column("made_at", String(40), index=True), Column("machine", Text), Column("folder", Text),
    Column("seconds", Float), Column("cells", JSON), Column("pins", JSON), Column("versions", JSON),
)  # fmt: skip
GATES = Table(
    "gates", _TABLES, Column("run_id", ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(500), primary_key=True), Column("id", String(200)), Column("cell", String(300)),
    Column("metric", String(80)), Column("statistic", String(20)), Column("operator", String(10)), Column("status", String(20)),
    Column("observed", Float), Column("bound", Float), Column("control", Boolean),
)  # fmt: skip
LIVE = Table(
    "live", _TABLES, Column("run_id", String(80), primary_key=True), Column("contract", String(200)), Column("done", Integer),
    Column("total", Integer), Column("what", Text), Column("changed_at", String(40)),
)  # fmt: skip


_MEMORY = "sqlite:///:memory:"


def url(environment: Mapping[str, str] = os.environ) -> str:
    """Where the history lies; nothing where it is turned off."""
    given = environment.get(VARIABLE, "")
    if given.lower() == OFF:
        return ""
    return given or f"sqlite:///{platformdirs.user_data_path('logitproof') / 'history.sqlite3'}"


def open_ledger(place: str | None = None) -> Ledger:
    """The history at a URL, or where the environment says; ContractError where it is turned off or cannot be opened."""
    place = url() if place is None else place
    if not place:
        raise ContractError("the history is turned off", where=VARIABLE, remedy=f"unset {VARIABLE}, or give it a URL")
    try:
        return Ledger(_engine(place))
    except (ArgumentError, NoSuchModuleError, ImportError, OSError, SQLAlchemyError) as error:
        why, remedy = _why(error)
        raise ContractError(f"the history cannot be opened: {why}", where=VARIABLE, remedy=remedy) from None


def read_ledger(place: str | None = None) -> Ledger:
    """The history to be read alone: where its file is not there, an empty one, and no file is made. Raises as `open_ledger`."""
    place = url() if place is None else place
    return open_ledger(_MEMORY if place and _is_missing(place) else place)


def _is_missing(place: str) -> bool:
    """Whether a URL names a file of SQLite that is not there."""
    try:
        target = make_url(place)
    except ArgumentError:
        return False
    is_file = target.get_backend_name() == "sqlite" and bool(target.database) and target.database != ":memory:"
    path = Path(str(target.database))
    # where a file stands in the way, the database cannot be opened, and says so
    return is_file and not path.exists() and next((parent.is_dir() for parent in path.parents if parent.exists()), True)


def _why(error: Exception) -> tuple[str, str]:
    """Why a database cannot be opened and what to do; a driver's own words may hold the URL, and its password."""
    if isinstance(error, ArgumentError) and not isinstance(error, NoSuchModuleError):
        return "that is no URL of a database", "write sqlite:///PATH, or postgresql+psycopg://USER@HOST/NAME"
    if isinstance(error, NoSuchModuleError | ImportError):
        driver = f" ({error.name})" if isinstance(error, ImportError) and error.name else ""
        return f"its driver is not installed{driver}", "install the driver, or write sqlite:///PATH"
    if isinstance(error, OSError):
        return in_words(error), "name a file in a folder that can be written"
    if isinstance(error, OperationalError):
        return "it does not answer, or may not be opened", "start it, and look at its path or address and at your rights"
    if isinstance(error, DatabaseError):
        return "what is there is no database of the history", "name another file, or take that one away"
    return f"{type(error).__name__}", "write sqlite:///PATH, or postgresql+psycopg://USER@HOST/NAME"


class Ledger:
    """Every run that was recorded, and those that go on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def record(self, run: Recorded) -> None:
        """Write a run, in place of what was written of it before; it goes on no longer."""
        row = {key: value for key, value in asdict(run).items() if key != "gates"}
        with self.engine.begin() as connection:
            connection.execute(delete(GATES).where(GATES.c.run_id == run.run_id))
            connection.execute(delete(RUNS).where(RUNS.c.run_id == run.run_id))
            connection.execute(delete(LIVE).where(LIVE.c.run_id == run.run_id))
            connection.execute(insert(RUNS).values(**row))
            for name, gate in run.gates.items():
                connection.execute(insert(GATES).values(run_id=run.run_id, name=name, **gate))

    def runs(self, contract: str = "", limit: int = 100) -> list[Recorded]:
        """The latest runs, newest first; of one contract, or of all."""
        query = select(RUNS).order_by(RUNS.c.made_at.desc(), RUNS.c.run_id.desc()).limit(limit)
        if contract:
            query = query.where(RUNS.c.contract == contract)
        with self.engine.connect() as connection:
            return [self._run(connection, row) for row in connection.execute(query).mappings()]

    def find(self, run_id: str) -> Recorded:
        """The run whose id begins so; ContractError where there is none, or more than one."""
        with self.engine.connect() as connection:
            query = select(RUNS).where(RUNS.c.run_id.startswith(run_id, autoescape=True)).limit(2)
            runs = [self._run(connection, row) for row in connection.execute(query).mappings()]
        if len(runs) != 1:
            text = "no run is recorded whose id begins so" if not runs else "more than one run's id begins so"
            raise ContractError(
                text, where=run_id, remedy="`logitproof history` lists the runs; a run folder may be named, too"
            )
        return runs[0]

    def last_green(self, contract: str, before: str = "") -> Recorded | None:
        """The latest run of a contract that passed, other than the run `before`."""
        query = select(RUNS).where(RUNS.c.contract == contract, RUNS.c.status == "PASS", RUNS.c.run_id != before)
        with self.engine.connect() as connection:
            row = connection.execute(query.order_by(RUNS.c.made_at.desc()).limit(1)).mappings().first()
            return self._run(connection, row) if row else None

    def contracts(self) -> list[str]:
        """Every contract that has a run, by name."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(RUNS.c.contract).distinct().order_by(RUNS.c.contract)).scalars())

    def go_on(self, run_id: str, contract: str, done: int, total: int, what: str) -> None:
        """How far a run has come."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.engine.begin() as connection:
            connection.execute(delete(LIVE).where(LIVE.c.run_id == run_id))
            row = {"run_id": run_id, "contract": contract, "done": done, "total": total, "what": what, "changed_at": now}
            connection.execute(insert(LIVE).values(**row))

    def end(self, run_id: str) -> None:
        """A run goes on no longer, however it ended."""
        with self.engine.begin() as connection:
            connection.execute(delete(LIVE).where(LIVE.c.run_id == run_id))

    def live(self) -> list[dict[str, Any]]:
        """Runs that go on, newest first."""
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(select(LIVE).order_by(LIVE.c.run_id.desc())).mappings()]

    def _run(self, connection: Any, row: Mapping[Any, Any]) -> Recorded:
        gates = connection.execute(select(GATES).where(GATES.c.run_id == row["run_id"]).order_by(GATES.c.name)).mappings()
        named = {gate["name"]: {key: gate[key] for key in gate if key not in ("run_id", "name")} for gate in gates}
        return Recorded(**{field.name: row[field.name] for field in fields(Recorded) if field.name != "gates"}, gates=named)


def quietly(act: Callable[[Ledger], None]) -> str:
    """Do something with the history where there is one; what went wrong, in one line: no run fails for it."""
    if not url():
        return ""
    try:
        act(open_ledger())
    except (ContractError, SQLAlchemyError, OSError) as error:
        why = error.text if isinstance(error, ContractError) else _why(error)[0]
        return f"this run is not in the history: {why}"
    return ""


def commit_of(folder: Path) -> str:
    """The commit of the project that holds a folder, with `+` where files were changed since; nothing outside of git."""
    commit = _git(folder, "rev-parse", "HEAD")
    return commit + "+" * bool(commit and _git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *words: str) -> str:
    try:
        argv = [shutil.which("git") or "git", "-C", str(folder), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def _engine(place: str) -> Engine:
    """One engine a URL; the tables are made where they are missing."""
    target = make_url(place)
    options: dict[str, Any] = {}
    if target.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": WAIT}
        if target.database and target.database != ":memory:":
            Path(target.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(target, **options)
    _TABLES.create_all(engine)
    return engine
