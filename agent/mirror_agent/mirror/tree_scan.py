"""Walking a tree by descriptors and single names: for everything below a directory, its names and their attributes.

No path is ever opened, links are not followed, and what vanishes while it is walked is left out. The walk is iterative:
depth costs one descriptor per level, not the interpreter's stack.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from mirror_agent.mirror import files

_DIR_FLAGS: Final = files.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC


class Listing(NamedTuple):
    """One directory: its path relative to the top (b"" = the top), itself, and what is in it."""

    path: bytes
    own: os.stat_result
    entries: list[tuple[bytes, os.stat_result]]


def listing_of(fd: int, path: bytes) -> Listing:
    """What an open directory holds now."""
    return Listing(path, files.fstat(fd), files.entries(fd))


def walk(top_fd: int) -> Iterator[Listing]:
    """Every directory from the top down; a directory on another file system is not entered."""
    fd = files.open(".", _DIR_FLAGS, dir_fd=top_fd)
    device = files.fstat(fd).st_dev
    levels: list[tuple[int, bytes, Iterator[bytes]]] = []
    try:
        listing = listing_of(fd, b"")
        levels.append((fd, b"", _below(listing, device)))
        yield listing
        while levels:
            parent, path, children = levels[-1]
            name = next(children, None)
            if name is None:
                levels.pop()
                files.close(parent)
                continue
            try:
                fd = files.open(name, _DIR_FLAGS, dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError):
                continue
            inner = path + b"/" + name if path else name
            levels.append((fd, inner, iter(())))
            listing = listing_of(fd, inner)
            levels[-1] = (fd, inner, _below(listing, device))
            yield listing
    finally:
        for fd, _, _ in levels:
            files.close(fd)


def _below(listing: Listing, device: int) -> Iterator[bytes]:
    return iter([name for name, st in listing.entries if stat.S_ISDIR(st.st_mode) and st.st_dev == device])
