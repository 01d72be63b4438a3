"""An engine may do whatever it likes: the harness says what happened, whose fault it is, and goes on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.errors import (
    ContractError,
    EngineDied,
    EngineError,
    EngineGarbage,
    EngineTimeout,
    EnvironmentFailed,
    LogitproofError,
)
from logitproof.jobs.worker import Spec, Worker

IDS = [5, 6, 7]


def worker(project: Any, use: dict[str, Any], timeout: float = 20.0) -> Worker:
    return Worker(Spec(use["engine"], use["options"], timeout=timeout, directory=str(project.folder)), name="mine")


def score(project: Any, use: dict[str, Any], mode: str = "prefill", timeout: float = 20.0) -> np.ndarray:
    with worker(project, use, timeout) as running:
        running.hello()
        running.load(project.model, None)
        return np.array(running.score(IDS, mode, project.folder / "logits.bin").logits.open())  # type: ignore[arg-type]


FAULTS: list[tuple[str, type[LogitproofError], str]] = [
    ("crash-at-load", EngineDied, r"during `load` \(killed by SIGABRT\)"),
    ("crash", EngineDied, r"during `score` \(killed by SIGABRT\)"),
    ("exit-0", EngineDied, r"during `score` \(exit code 0\)"),
    ("hang", EngineTimeout, r"no answer to `score` within 3 s"),
    ("garbage", EngineGarbage, "not the protocol.*llama_model_load"),
    ("nan", EngineGarbage, "nan at position 2, vocabulary entry 3"),
    ("inf", EngineGarbage, "inf at position 2, vocabulary entry 3"),
    ("wrong-vocab", EngineGarbage, r"shape \[3, 299\], expected \[3, 300\]"),
    ("short", EngineGarbage, r"shape \[2, 300\], expected \[3, 300\]"),
    ("raise", EngineError, "RuntimeError: the toy was told to fail"),
]


@pytest.mark.parametrize(("fault", "kind", "text"), FAULTS, ids=[fault for fault, _, _ in FAULTS])
def test_every_fault_has_its_class_its_message_and_exit_code_3(
    project: Any, fault: str, kind: type[LogitproofError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        score(project, project.toy(fault=fault), timeout=3.0 if fault == "hang" else 20.0)
    assert type(caught.value) is kind
    assert caught.value.exit_code == 3
    assert caught.value.where == "mine"


@pytest.mark.parametrize("fault", ["nan", "crash", "hang", "garbage", "wrong-vocab", "raise", "exit-0"])
def test_a_fault_of_one_prompt_leaves_the_other_prompts_and_cells_measured(project: Any, fault: str) -> None:
    project.suite("suite.yaml", "one", "two", "three")
    bad = {**project.toy(fault=fault, fault_at=2, noise=1e-7), "timeout": 5}
    report = project.check(candidates={"bad": bad, "good": project.toy(noise=1e-7)})
    cells = {cell.cell.candidate: cell for cell in report.verdict.cells}
    assert [prompt.status for prompt in cells["bad"].prompts] == ["MATCH", "MATCH", "ENGINE ERROR"]
    assert cells["good"].status == "MATCH"
    assert report.verdict.exit_code == 3


def test_a_dead_engine_is_given_up_after_two_deaths_and_every_prompt_is_counted(project: Any) -> None:
    project.suite("suite.yaml", *"abcdef")
    report = project.check(candidates={"dead": project.toy(fault="crash")})
    (cell,) = report.verdict.cells
    assert len(cell.failures) == 6
    assert [failure.text.startswith("not tried") for failure in cell.failures] == [False, False, True, True, True, True]


def test_the_last_words_of_a_dead_engine_are_told(project: Any) -> None:
    fake = project.engine(
        """
        def score(p):
            print("CUDA error 719: unspecified launch failure", file=sys.stderr, flush=True)
            os._exit(7)
        """
    )
    with pytest.raises(EngineDied, match=r"exit code 7") as caught:
        score(project, fake)
    assert "CUDA error 719" in str(caught.value)


def test_a_traceback_of_an_engine_is_its_last_words(project: Any) -> None:
    with pytest.raises(EngineDied, match="ZeroDivisionError"):
        score(project, project.engine("def score(p):\n    1 / 0\n"))


def test_a_segmentation_fault_is_named(project: Any) -> None:
    with pytest.raises(EngineDied, match="SIGSEGV"):
        score(project, project.engine("def score(p):\n    os.kill(os.getpid(), 11)\n"))


CHILD = """
import subprocess
def load(p):
    child = subprocess.Popen(["sleep", "600"])
    open("child", "w").write(str(child.pid))
    return {"vocab_size": V}
"""


@pytest.mark.parametrize(
    ("ending", "timeout"), [("time.sleep(600)", 2.0), ("os._exit(1)", 20.0), ('print("x", flush=True); time.sleep(600)', 20.0)]
)
def test_nothing_of_a_broken_engine_outlives_it(
    project: Any, is_gone: Callable[[int], bool], ending: str, timeout: float
) -> None:
    fake = project.engine(CHILD + f"def score(p):\n    {ending}\n")
    running = worker(project, fake, timeout)
    running.load(project.model, None)
    child = int((project.folder / "child").read_text())
    with pytest.raises(EngineError):
        running.score(IDS, "prefill", project.folder / "logits.bin")
    assert is_gone(running._process.pid)
    assert _soon(lambda: is_gone(child))
    running.close()


def test_a_closed_engine_is_gone(project: Any, is_gone: Callable[[int], bool]) -> None:
    with worker(project, project.toy()) as running:
        running.hello()
        assert not is_gone(running._process.pid)
    assert is_gone(running._process.pid)
    assert not running.alive


def test_an_engine_that_does_not_close_is_killed(project: Any, is_gone: Callable[[int], bool]) -> None:
    fake = project.engine("import signal\nsignal.signal(15, signal.SIG_IGN)\ndef close(p):\n    time.sleep(600)\n")
    begin = time.monotonic()
    with worker(project, fake) as running:
        running.hello()
    assert is_gone(running._process.pid)
    assert time.monotonic() - begin < 15


def test_a_grandchild_that_keeps_the_pipes_open_does_not_hold_the_harness(project: Any) -> None:
    """Closing a pipe that another thread reads from blocks until the last writer is gone."""
    fake = project.engine(
        """
        import subprocess
        def score(p):
            child = subprocess.Popen(["sleep", "30"], start_new_session=True)
            open("child", "w").write(str(child.pid))
            os._exit(1)
        """
    )
    begin = time.monotonic()
    with pytest.raises(EngineError):
        score(project, fake, timeout=4.0)
    os.kill(int((project.folder / "child").read_text()), signal.SIGKILL)
    assert time.monotonic() - begin < 15


def test_an_engine_that_does_not_read_its_requests_is_timed_out(project: Any) -> None:
    """A request that is larger than the pipe's buffer blocks its writer."""
    fake = project.engine("def load(p):\n    send({'id': number, 'result': {'vocab_size': V}})\n    time.sleep(600)\n")
    begin = time.monotonic()
    with worker(project, fake, timeout=3.0) as running:
        running.load(project.model, None)
        with pytest.raises(EngineTimeout, match="`score`"):
            running.score([7] * 200_000, "prefill", project.folder / "logits.bin")
    assert time.monotonic() - begin < 20


def test_progress_restarts_the_time_limit(project: Any) -> None:
    fake = project.engine(
        """
        plain = score
        def score(p):
            for n in range(8):
                time.sleep(0.4)
                send({"id": number, "progress": {"done": n}})
            return plain(p)
        """
    )
    assert score(project, fake, timeout=2.0).shape == (3, 300)


def test_garbage_on_stdout_before_a_request_is_seen(project: Any) -> None:
    with pytest.raises(EngineGarbage, match="not the protocol.*Loading model") as caught:
        score(project, project.engine('print("Loading model...", flush=True)\n'))
    assert "stderr" in caught.value.remedy


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{}", "not the protocol"),
        ("[]", "not the protocol"),
        ("null", "not the protocol"),
        ('{"id": 1}', "neither result nor error"),
        ('{"id": 99, "result": {}}', "answered request 99, request 1"),
        ('{"id": 1, "result": {}, "extra": 1}', "breaks the protocol: `extra` is not known here"),
        ('{"id": 1, "result": {"engine": "x"}}', "at `protocol`: is missing"),
        ('{"id": 1, "result": {"protocol": 1, "engine": "x", "mode": []}}', "at `mode`"),
        ('{"id": 1, "result": {"protocol": 2, "engine": "x"}}', "speaks protocol 2, this harness speaks 1"),
        ('{"id": 1, "error": {"kind": "sad", "message": "x"}}', "breaks the protocol: `error.kind` must be"),
        ("\\udcff", "not the protocol"),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_garbage(project: Any, line: str, text: str) -> None:
    fake = project.engine(
        f"def hello(p):\n    sys.stdout.buffer.write({line!r}.encode('utf-8', 'surrogateescape') + b'\\n')\n"
        "    sys.stdout.buffer.flush()\n    time.sleep(600)\n"
    )
    with worker(project, fake) as running, pytest.raises(EngineGarbage, match=text):
        running.hello()
    assert not running.alive


@pytest.mark.parametrize(
    ("kind", "raised", "code"),
    [
        ("refused", ContractError, 2),
        ("unsupported", ContractError, 2),
        ("failed", EngineError, 3),
        ("environment", EnvironmentFailed, 3),
    ],
)
def test_an_error_says_whose_fault_it_is(project: Any, kind: str, raised: type[LogitproofError], code: int) -> None:
    fault = {"kind": kind, "message": "no such thing", "field": "model", "remedy": "fetch it"}
    fake = project.engine(f"def load(p):\n    send({{'id': number, 'error': {fault!r}}})\n")
    with worker(project, fake) as running:
        with pytest.raises(raised, match="mine: model: no such thing\n  remedy: fetch it") as caught:
            running.load(project.model, None)
        assert caught.value.exit_code == code
        assert running.alive


ROWS = """
def score(p):
    rows = [row(t) for t in p["token_ids"]]
    change(rows, p)
    return {"logits": write(p["logits"], rows)}
"""


def test_a_file_that_is_too_short_is_garbage(project: Any) -> None:
    fake = project.engine(
        """
        def score(p):
            write(p["logits"], [row(1)])
            return {"logits": {"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}
        """
    )
    with pytest.raises(EngineGarbage, match=r"\[3, 300\] of float32 is 3600 bytes, the file has 1200"):
        score(project, fake)


def test_a_file_in_another_place_is_garbage(project: Any) -> None:
    fake = project.engine(
        "def score(p):\n    return {'logits': write(p['logits'] + '.mine', [row(t) for t in p['token_ids']])}\n"
    )
    with pytest.raises(EngineGarbage):
        score(project, fake)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("rows[1][9] = float('nan')", "nan at position 1, vocabulary entry 9"),
        ("rows[0][0] = float('inf')", "inf at position 0, vocabulary entry 0"),
        ("rows[2] = [float('-inf')] * V", "-inf at position 2"),
        ("rows.pop()", r"shape \[2, 300\]"),
        ("rows.append(rows[0])", r"shape \[4, 300\]"),
        ("rows[:] = [r[:-1] for r in rows]", r"shape \[3, 299\]"),
        ("rows.clear()", r"shape \[0, 0\]"),
    ],
)
def test_logits_that_no_model_gives_are_garbage(project: Any, change: str, text: str) -> None:
    with pytest.raises(EngineGarbage, match=text):
        score(project, project.engine(ROWS + f"def change(rows, p):\n    {change}\n"))


def test_a_masked_vocabulary_entry_is_allowed(project: Any) -> None:
    logits = score(project, project.engine(ROWS + "def change(rows, p):\n    for r in rows: r[9] = float('-inf')\n"))
    assert np.isneginf(logits[:, 9]).all()


def test_an_entry_that_only_one_engine_masks_is_an_engine_error(project: Any) -> None:
    masking = project.engine(ROWS + "def change(rows, p):\n    rows[1][9] = float('-inf')\n", name="masking.py")
    report = project.check(reference=project.engine(), candidates={"masking": masking})
    (cell,) = report.verdict.cells
    assert cell.status == "ENGINE ERROR" and "infinite where the other is not" in cell.reason


GENERATED = """
def generate(p):
    rows = [row(p["token_ids"][-1]) for _ in range(4)]
    ids = [rows[0].index(max(rows[0]))] * 4
    finish = "length"
    {change}
    return {{"token_ids": ids, "logits": write(p["logits"], rows), "finish": finish}}
"""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("ids.append(1); rows.append(rows[0])", "5 new tokens, 4 were asked for"),
        ("ids.pop(); rows.pop()", "`length` after 3 new tokens, 4 were asked for"),
        ("ids[2] = 3", "token 3 at new position 2 is not the argmax"),
        ("ids[2] = 300", "token 300 at new position 2 is outside"),
        ("rows[1][5] = float('nan')", "nan at position 1"),
        ("finish = 'stop'", "`stop`, and its last token is none"),
    ],
)
def test_a_continuation_that_is_not_greedy_is_garbage(project: Any, change: str, text: str) -> None:
    with worker(project, project.engine(GENERATED.format(change=change))) as running:
        running.load(project.model, None)
        with pytest.raises(EngineGarbage, match=text):
            running.generate(IDS, 4, [1], project.folder / "logits.bin")


def test_an_honest_continuation_is_taken(project: Any) -> None:
    with worker(project, project.toy()) as running:
        running.load(project.model, None)
        made = running.generate(IDS, 4, [], project.folder / "logits.bin")
        assert len(made.token_ids) == 4 and made.finish == "length"


def test_a_continuation_of_nothing_needs_no_file(project: Any) -> None:
    """Its tensor may point anywhere; nobody opens it."""
    fake = project.engine(
        """
        def generate(p):
            nowhere = {"path": "/nowhere", "dtype": "float32", "shape": [0, V]}
            return {"token_ids": [], "logits": nowhere, "finish": "stop"}
        """
    )
    report = project.check(
        reference=fake, candidates={"mine": project.engine(name="other.py")}, matrix={"mode": ["prefill", "greedy"]}
    )
    cells = {cell.cell.mode: cell for cell in report.verdict.cells}
    assert cells["prefill"].status == "ENGINE ERROR" or cells["prefill"].positions > 0
    assert report.verdict.status == "ERROR"


def test_an_option_of_a_wrong_type_is_the_contracts_fault(project: Any) -> None:
    with worker(project, project.toy(noise="loud")) as running, pytest.raises(ContractError, match="noise.*number"):
        running.hello()


def test_an_interpreter_that_is_not_there_is_the_contracts_fault(project: Any) -> None:
    with pytest.raises(ContractError, match="cannot start /no/python"):
        Worker(Spec("toy", python="/no/python"), name="mine")


def test_a_program_that_is_not_there_is_the_contracts_fault(project: Any) -> None:
    fake = {"engine": "command", "options": {"argv": ["./no-such-program"]}}
    with worker(project, fake) as running, pytest.raises(ContractError, match="no-such-program") as caught:
        running.hello()
    assert caught.value.exit_code == 2


def test_a_program_that_cannot_be_executed_is_an_error_and_no_hang(project: Any) -> None:
    program = project.folder / "broken"
    program.write_bytes(b"\x7fELF this is no program")
    program.chmod(0o755)
    with worker(project, {"engine": "command", "options": {"argv": ["./broken"]}}) as running, pytest.raises(LogitproofError):
        running.hello()


def test_the_environment_is_set_before_the_engine_starts(project: Any) -> None:
    fake = project.engine(
        "def hello(p):\n    return {'protocol': 1, 'engine': 'x', 'versions': {'isa': os.environ['ONEDNN_MAX_CPU_ISA']}}\n"
    )
    spec = Spec(fake["engine"], fake["options"], {"ONEDNN_MAX_CPU_ISA": "AVX2"}, directory=str(project.folder))
    with Worker(spec, name="mine") as running:
        assert running.hello().versions == {"isa": "AVX2"}


def test_a_broken_engine_stays_broken_and_says_the_same(project: Any) -> None:
    with worker(project, project.toy(fault="crash")) as running:
        running.load(project.model, None)
        for _ in range(2):
            with pytest.raises(EngineDied, match="SIGABRT"):
                running.score(IDS, "prefill", project.folder / "logits.bin")


def test_an_engine_that_is_closed_while_it_works_lets_everyone_go(project: Any) -> None:
    """An interrupted run closes its workers from another thread."""
    running = worker(project, project.engine("def score(p):\n    time.sleep(600)\n"), timeout=600.0)
    running.load(project.model, None)
    ended = []

    def work() -> None:
        try:
            running.score(IDS, "prefill", project.folder / "logits.bin")
        except LogitproofError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    running.close()
    thread.join(timeout=10)
    assert not thread.is_alive() and len(ended) == 1


def test_a_disk_that_is_full_is_the_machines_fault(project: Any) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with worker(project, project.toy()) as running:
        running.load(project.model, None)
        with pytest.raises(EnvironmentFailed, match="disk|space|writ") as caught:
            running.score(list(range(1, 200)), "prefill", Path("/dev/full"))
        assert "--out" in caught.value.remedy


def _soon(question: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end and not question():
        time.sleep(0.05)
    return question()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ('def load(p): return {"vocab_size": "300"}', "vocab_size"),
        ('def load(p): return {"vocab_size": True}', "vocab_size"),
        ('def load(p): return {"vocab_size": 300, "eos_token_ids": ["17"]}', "eos_token_ids.0"),
        ('def load(p): return {"vocab_size": 300.0}', "vocab_size"),
        ('def hello(p): return {"protocol": "1", "engine": "fake", "versions": {}}', "protocol"),
        ('def hello(p): return {"protocol": 1, "engine": "fake", "versions": {}, "generate": "yes"}', "generate"),
    ],
)
def test_no_text_and_no_truth_counts_as_a_number(project: Any, changes: str, place: str) -> None:
    with pytest.raises(EngineGarbage, match=f"breaks the protocol at `{place}`"):
        score(project, project.engine(changes))


def test_an_id_that_is_text_answers_nothing(project: Any) -> None:
    spoiled = """
    def load(p):
        send({"id": str(number), "result": {"vocab_size": V}})
    """
    with pytest.raises(EngineGarbage, match="`id`"):
        score(project, project.engine(spoiled))
