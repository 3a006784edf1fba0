"""Names that vanish at once where NT cannot do it: some file systems, and Wine.

There a name stays until the last handle of its file is closed. So it becomes a hidden one (`_HIDDEN`), which no listing
here shows and which goes with the last handle, or at the latest when its node starts anew (`purge`). Until then it does
not count among the links of its file (`hidden_links`).

And the lock of a folder, which Windows has for files only: a named event that exists as long as its owner.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import sys
from typing import Final

from mirror_agent.mirror import files_nt

if sys.platform != "win32":
    raise ImportError("mirror_agent.mirror.files_gone is for Windows")

_HIDDEN: Final = ".mirrorplane-gone-".encode("utf-16-le")
_ATTRIBUTES: Final = files_nt.READ_ATTRIBUTES | files_nt.WRITE_ATTRIBUTES
_DIRECTORY, _REPARSE = 0x10, 0x400
_ALREADY_EXISTS: Final = 183

_numbers: Final = itertools.count(1)
# By file id: the paths of its hidden names.
_hidden: Final[dict[int, list[str]]] = {}
_locks: Final[dict[int, int]] = {}


def _fresh_name() -> bytes:
    return _HIDDEN + f"{os.getpid():x}-{next(_numbers):x}".encode("utf-16-le")


def is_seen(name: bytes) -> bool:
    return not name.startswith(_HIDDEN)


def hidden_links(ident: int) -> int:
    """Of the names of a file, those that only wait for its last handle."""
    if ident not in _hidden:
        return 0
    _hidden[ident] = left = [path for path in _hidden[ident] if os.path.lexists(path)]
    return len(left)


def made(handle: int) -> None:
    """Something new exists: its number may be that of something gone."""
    if _hidden:
        _hidden.pop(files_nt.information(handle)[10], None)


def remove(directory: int, handle: int) -> None:
    """Removes the name that `handle` (with the right to delete, and for a directory to list) was opened by."""
    facts = files_nt.information(handle)
    if facts[9] and not facts[4] & _REPARSE and any(is_seen(name) for name, _, _ in _listing(handle)):
        raise OSError(errno.ENOTEMPTY, "the directory is not empty")
    name = _fresh_name()
    files_nt.rename(handle, directory, name, replace=False)
    _hidden.setdefault(facts[10], []).append(os.path.join(files_nt.path_of(directory), name.decode("utf-16-le")))
    try:
        files_nt.delete(handle)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:  # of hidden names: it stays with them
            raise


def rename(handle: int, directory: int, name: bytes, *, respelled: bool) -> None:
    """Nothing is there in the way of the new name, but (`respelled`) another spelling of the old one."""
    if respelled:
        files_nt.rename(handle, directory, _fresh_name(), replace=False)
    files_nt.rename(handle, directory, name, replace=False)


def purge(directory: int) -> None:
    """Removes what hidden names are left below an open directory: nobody has them open at the start of a role."""
    access = files_nt.READ | files_nt.DELETE | _ATTRIBUTES
    for name, attributes, _ in _listing(directory):
        is_dir = bool(attributes & _DIRECTORY) and not attributes & _REPARSE
        if not is_dir and is_seen(name):
            continue
        inner = files_nt.create(directory, name, access, files_nt.OPEN, 0)
        try:
            if is_dir:
                purge(inner)
            if not is_seen(name):
                files_nt.delete(inner)
        finally:
            files_nt.close(inner)


def _listing(directory: int) -> list[tuple[bytes, int, int]]:
    reader = files_nt.create(directory, b"", files_nt.READ, files_nt.OPEN, files_nt.DIRECTORY_FILE)
    try:
        return files_nt.entries(reader)
    finally:
        files_nt.close(reader)


def lock(fd: int, name: str) -> None:
    """Raises BlockingIOError if somebody has it, also this process by another descriptor."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateEventW.restype = ctypes.c_void_p
    handle = kernel.CreateEventW(None, True, False, f"Global\\mirrorplane-lock-{name}")
    if not handle:
        raise OSError(errno.EIO, f"CreateEventW: {ctypes.FormatError(ctypes.get_last_error()).strip()}")
    if ctypes.get_last_error() == _ALREADY_EXISTS:
        files_nt.close(handle)
        raise BlockingIOError(errno.EWOULDBLOCK, "somebody else has locked it")
    _locks[fd] = handle


def unlock(fd: int) -> None:
    handle = _locks.pop(fd, None)
    if handle is not None:
        files_nt.close(handle)
