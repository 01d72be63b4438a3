"""How many processors this process may use."""

from __future__ import annotations

import os


def processors() -> int:
    """Those that the scheduler lets it have; all of the machine where the system does not say, as on macOS and Windows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
