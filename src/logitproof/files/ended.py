"""How a process ended, by its exit status, and what to look at first."""

from __future__ import annotations

import signal

SHELL = 128
"""A shell gives this and the signal's number for a program of its that a signal ended."""
REMEDIES = {
    signal.SIGKILL: "nothing here kills an engine that is asked: most often the system does when memory runs out (`dmesg` says "
    "so); give it a smaller model, a shorter context or fewer engines at a time",
    signal.SIGILL: "it was built for instructions that this processor does not have: build it for this machine",
    signal.SIGBUS: "a file that it had mapped was cut or its disk is full: see that its weights are whole",
    signal.SIGXCPU: "its limit of processor time (`ulimit -t`) is reached: raise it",
}


def signal_name(code: int | None) -> str:
    """`SIGSEGV` of -11; empty of a status that is no signal's."""
    if code is None or code >= 0:
        return ""
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"


def in_words(code: int) -> str:
    """How a process ended that ought to end with 0: `by SIGSEGV`, `with exit code 3`."""
    return f"by {name}" if (name := signal_name(code)) else f"with exit code {code}"


def remedy_of(code: int | None) -> str:
    """What to look at first for an exit status, negative for a signal or 128 more in a shell; empty where it says nothing."""
    if code is None or (number := -code if code < 0 else code - SHELL) not in set(signal.Signals):
        return ""
    return REMEDIES.get(signal.Signals(number), "")


def advice(code: int | None) -> str:
    """The remedy in brackets, for a sentence that has no place for one of its own; empty where there is none."""
    remedy = remedy_of(code)
    return f" ({remedy})" if remedy else ""
