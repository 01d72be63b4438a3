"""The file that was meant, where none is at a path: the nearest name in its folder."""

from __future__ import annotations

import difflib
from pathlib import Path

ENTRIES_LIMIT = 10_000
"""Names of a folder that are looked at."""
NEAR = 0.6
"""Likeness of two names, of 1, from which one is taken for a slip of the other."""


def meant(path: Path) -> str:
    """'; did you mean …?' for the nearest name beside `path`; the folder that is not there, where that is why; or nothing."""
    folder = path.parent
    if not folder.is_dir():
        missing = folder
        while missing.parent != missing and not missing.parent.is_dir():
            missing = missing.parent
        return f"; its folder {str(missing)!r} is not there{_nearest(missing)}"
    return _nearest(path)


def _nearest(path: Path) -> str:
    try:
        names = sorted(entry.name for _, entry in zip(range(ENTRIES_LIMIT), path.parent.iterdir(), strict=False))
    except OSError:
        return ""
    # `toys.yaml` is a slip of `toys.parity.yaml` rather than of `tops.yaml`
    longer = [name for name in names if name.startswith(f"{path.stem}.") and name.endswith(path.suffix)]
    folded = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(path.name.lower(), list(folded), n=1, cutoff=NEAR)
    name = longer[0] if longer else folded[near[0]] if near else ""
    return f"; did you mean {str(path.parent / name)!r}?" if name else ""
