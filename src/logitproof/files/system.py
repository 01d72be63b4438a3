"""What the operating system refuses, in our own words."""

from __future__ import annotations

import errno
from pathlib import Path

WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your share of the disk is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "you have no right to it",
    errno.EPERM: "the system does not permit it",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOENT: "it is not there",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
    errno.EEXIST: "something is there already",
    errno.EFBIG: "the file is larger than may be written there",
    errno.ENOTEMPTY: "a folder is in the way that is not empty",
    errno.EMFILE: "too many files are open",
    errno.ENOMEM: "there is not enough memory",
    errno.ENOEXEC: "it is no program for this machine",
    errno.EADDRINUSE: "something else listens there",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.ECONNREFUSED: "nothing listens there",
}
"""What the system's errors mean to a person."""


def in_words(error: OSError) -> str:
    """What the system says, without its number."""
    if error.errno == errno.EEXIST and isinstance(error.filename, str) and Path(error.filename).is_file():
        return "a file is there already"
    return WORDS.get(error.errno or 0, (error.strerror or str(error)).lower())


def is_there(path: Path) -> bool:
    """Whether something is at a path; nothing is at one whose name no system takes."""
    try:
        return path.exists()
    except OSError:
        return False


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What the system says where a disk is full or a folder is not ours."""
IN_THE_WAY = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)
NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP)
"""What it says of a path that leads nowhere on any machine: the fault of whoever gave it."""
BAD_PATH = (errno.ENOENT, *NO_PATH)


def remedy_of(error: OSError) -> str:
    """What to do about it."""
    if error.errno in FULL:
        return "free the disk, or name a folder that can be written"
    if error.errno in IN_THE_WAY:
        return "take away what is in the way, or name another path"
    return "correct the path" if error.errno in BAD_PATH else "see what the system says"
