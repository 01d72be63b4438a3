"""What a program wrote before it ended: its first lines, those with which it gave up, and its last, however many came."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

FIRST, LAST = 4, 20
"""Lines that are kept from the beginning and from the end."""
BEHIND = 3
"""Lines that are kept behind the one that a runtime begins with when it gives up."""
GIVES_UP = re.compile(
    r"^(panic:|thread .* panicked|thread \d+ panic:|[Ff]atal [Ee]rror\b|fatal:|runtime error|terminate called|libc\+\+abi: "
    r"|Unhandled exception|Exception in thread|[Aa]ssertion|Segmentation fault|ERROR: LoadError"
    r"|.*Assertion .*failed|.*GGML_ASSERT|.*(Address|Thread|Memory|UndefinedBehavior)Sanitizer|.*: CUDA error|CUDA error"
    r"|SIG[A-Z]+:|[^:\s]+:\d+(:\d+)?: runtime error)"
)
"""The line that a runtime begins with when it gives up: what counts in a panic of forty lines."""
TRACEBACK = re.compile(r"^Traceback \(most recent call last")
EXCEPTION = re.compile(
    r"^((Uncaught )?[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)(: |:?$)|error(\[\w+\])?: "
    r"|[^\s:]+:\d+(:\d+)?: (fatal )?error: )"
)
"""A line that names an exception: a traceback's last, and elsewhere, as of a compiler's errors, the first."""
GOES_ON = re.compile(r"(panicked at .*:|terminate called after throwing an instance of .*)$")
"""Where the message stands on the next line."""
GAP = "… {} lines …"


class Words:
    """Lines of which those that count are kept."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._first: list[tuple[int, str]] = []
        self._telling: list[tuple[int, str]] = []
        self._last: deque[tuple[int, str]] = deque(maxlen=LAST)
        self._count = 0
        self._until = 0
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        """Take one line more."""
        self._count += 1
        # the first of its kind begins the end: what follows are frames, and further threads
        begins = _ends_all(line) and not any(_ends_all(kept) for _, kept in self._telling)
        if begins or (not self._telling and EXCEPTION.match(line)):
            self._telling, self._until = [], self._count + BEHIND
        kept = (self._count, line)
        if len(self._first) < FIRST:
            self._first.append(kept)
        if self._count <= self._until:
            self._telling.append(kept)
        self._last.append(kept)

    def kept(self) -> list[str]:
        """What is kept, in its order, with how many lines are left out in between."""
        lines: list[str] = []
        before = 0
        for number, line in sorted({*self._first, *self._telling, *self._last}):
            if number > before + 1:
                lines.append(GAP.format(number - before - 1))
            lines.append(line)
            before = number
        return lines


def last_words(text: str) -> list[str]:
    """The lines of a whole text that count, without those that are empty."""
    return Words(line for line in text.splitlines() if line.strip()).kept()


def cause(lines: Sequence[str]) -> str:
    """The line with which a program gave up, or nothing where no line says so.

    Of a traceback that is its last line, since the first ones are where and not why.
    """
    if (at := _cause(lines)) is None:
        return ""
    line = lines[at].strip()
    goes_on = GOES_ON.search(line) and at + 1 < len(lines)
    return f"{line} {lines[at + 1].strip()}" if goes_on else line


def shortened(lines: Sequence[str], most: int) -> list[str]:
    """At most `most` lines and marks of gaps: the first, the one with which a program gave up and its next, and the last."""
    if len(lines) <= most:
        return list(lines)
    wanted = {0}
    if (at := _cause(lines)) is not None:
        wanted |= {at, min(at + 1, len(lines) - 1)}
    for number in reversed(range(len(lines))):
        if len(wanted) + _gaps(wanted | {number}) >= most:
            break
        wanted.add(number)
    shown: list[str] = []
    before = -1
    for number in sorted(wanted):
        if number > before + 1:
            shown.append("…")
        shown.append(lines[number])
        before = number
    return shown


def _ends_all(line: str) -> bool:
    return bool(GIVES_UP.match(line) or TRACEBACK.match(line))


def _gaps(wanted: set[int]) -> int:
    return sum(later > earlier + 1 for earlier, later in pairwise(sorted(wanted)))


def _cause(lines: Sequence[str]) -> int | None:
    """Where the line stands with which a program gave up."""
    exceptions = [number for number, line in enumerate(lines) if EXCEPTION.match(line)]
    for number, line in enumerate(lines):
        if TRACEBACK.match(line):
            return next((at for at in reversed(exceptions) if at > number), number)
        if GIVES_UP.match(line):
            return number
    return exceptions[0] if exceptions else None
