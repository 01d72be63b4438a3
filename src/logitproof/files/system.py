"""What the operating system refuses, in our own words."""

from __future__ import annotations

import errno

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
    return WORDS.get(error.errno or 0, (error.strerror or str(error)).lower())
