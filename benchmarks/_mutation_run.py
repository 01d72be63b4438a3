"""Tries changes of one module: COPY MODULE SECONDS TEST..., changes as lines of JSON on stdin, outcomes as lines on stdout.

Interpreter and libraries are loaded once; every change has a process of its own, forked from there, which loads the package
anew from COPY, where the module is changed, and so do the processes that its tests start. The first try changes nothing and
must pass. Tries begin until SECONDS are over.
"""

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import hypothesis  # noqa: F401  (loaded here once, for every try)
import numba  # noqa: F401
import numpy  # noqa: F401
import pyarrow  # noqa: F401
import pydantic  # noqa: F401
import pytest
import scipy.special  # noqa: F401
import yaml  # noqa: F401

PATIENCE = 240.0
WORDS = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0"]


def main() -> int:
    copy, module, seconds, tests = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:]
    end = time.monotonic() + seconds
    file = copy / "src/logitproof" / module
    original = file.read_text("utf-8")
    os.environ["PYTHONPATH"], os.environ["PYTHONDONTWRITEBYTECODE"] = f"{copy}/src", "1"
    if (outcome := _tried(copy, tests)) != "survived":
        sys.exit(f"{module}: its tests do not pass as it is: {outcome}\n{(copy / 'output').read_text('utf-8')[-3000:]}")
    for line in sys.stdin:
        if time.monotonic() > end:
            return 0
        change = json.loads(line)
        file.write_text(change.pop("source"), "utf-8")
        print(json.dumps({**change, "outcome": _tried(copy, tests)}), flush=True)
        file.write_text(original, "utf-8")
    return 0


def _tried(copy: Path, tests: list[str]) -> str:
    """killed, or survived; a change that never ends or cannot be loaded is killed."""
    shutil.rmtree(copy / ".hypothesis", ignore_errors=True)
    process = os.fork()
    if process == 0:
        _child(copy, tests)
    signal.signal(signal.SIGTERM, lambda number, frame: _ended(process))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            if code in (4, 5):
                raise RuntimeError(f"pytest ran no test: {(copy / 'output').read_text('utf-8')[-2000:]}")
            return "survived" if code == 0 else "killed"
        time.sleep(0.02)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "killed"


def _ended(process: int) -> None:
    """The try is over, undecided, and so is this process."""
    os.killpg(process, signal.SIGKILL)
    os._exit(0)


def _child(copy: Path, tests: list[str]) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(copy)
    output = os.open(copy / "output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.dont_write_bytecode = True
    sys.path[:] = [str(copy / "src"), *(entry for entry in sys.path if not entry.endswith(("/benchmarks", "/src")))]
    code = 3
    try:
        # a folder of its own: runs of pytest that end at the same time sweep the one that they share
        code = int(pytest.main([*WORDS, f"--basetemp={copy.parent / 'pytest'}", *tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
