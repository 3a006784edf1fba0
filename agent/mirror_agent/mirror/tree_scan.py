"""Walking a tree by descriptors and single names: for everything below a directory, its names and their attributes.

No path is ever opened, links are not followed, and what vanishes while it is walked is left out. The walk is iterative:
depth costs one descriptor per level, not the interpreter's stack.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

_DIR_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Listing(NamedTuple):
    """One directory: its path relative to the top (b"" = the top), itself, and what is in it."""

    path: bytes
    own: os.stat_result
    entries: list[tuple[bytes, os.stat_result]]


def listing_of(fd: int, path: bytes) -> Listing:
    """What an open directory holds now."""
    entries = []
    with os.scandir(fd) as found:
        for entry in found:
            try:
                entries.append((os.fsencode(entry.name), entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue  # removed between the listing and the look
    return Listing(path, os.fstat(fd), entries)


def walk(top_fd: int) -> Iterator[Listing]:
    """Every directory from the top down; a directory on another file system is not entered."""
    fd = os.open(".", _DIR_FLAGS, dir_fd=top_fd)
    device = os.fstat(fd).st_dev
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
                os.close(parent)
                continue
            try:
                fd = os.open(name, _DIR_FLAGS, dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError):
                continue
            inner = path + b"/" + name if path else name
            levels.append((fd, inner, iter(())))
            listing = listing_of(fd, inner)
            levels[-1] = (fd, inner, _below(listing, device))
            yield listing
    finally:
        for fd, _, _ in levels:
            os.close(fd)


def _below(listing: Listing, device: int) -> Iterator[bytes]:
    return iter([name for name, st in listing.entries if stat.S_ISDIR(st.st_mode) and st.st_dev == device])
