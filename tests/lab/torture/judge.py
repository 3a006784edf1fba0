"""Is a directory what the model says, and if an engine was killed: after which operation?

The judge reads the real directory with system calls of its own and knows nothing of the engine. After a crash it steps
the model through the operations that may have been lost and looks for the state that is exactly the directory:

- strict, and always where the primary's own copy is judged: every operation that returned is there; the one in flight
  may or may not be.
- ordered, on the replica: all that returned before the last returned flush began is there; of what came after it a
  prefix, without a hole.

One system call may be several requests of the kernel: of a write in flight (or, in ordered, last in the prefix) the
first pages may be there.

Anything else is a `Difference`, which names the paths and what they hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.torture.disk import stat_of, xattrs_of
from tests.lab.torture.model import Inode, Kind, Model, Stat
from tests.lab.torture.stream import Operation

_SHOWN_MAX = 12
_NAME_SHOWN_MAX = 20
_PAGE_BYTES = 4096


class Difference(AssertionError):
    """The directory, or an answer of the file system, is not what the contract allows."""


@dataclass(frozen=True)
class Seen:
    """One entry of a real directory. `first` is the first path (in order) of the same inode."""

    stat: Stat
    first: bytes
    xattrs: dict[str, bytes]
    content: bytes
    mtime_ns: int


@dataclass(frozen=True)
class Refused:
    """An operation failed with this errno."""

    errno: int


def carry_out(target: Any, operation: Operation) -> Any:
    """The operation's value, or `Refused`."""
    try:
        return getattr(target, operation.name)(*operation.arguments)
    except OSError as error:
        return Refused(error.errno or 0)


def scan(root: Path) -> dict[bytes, Seen]:
    """Everything below a directory, and the directory itself as b""."""
    base = os.fsencode(root)
    found: dict[bytes, Seen] = {}
    numbers: dict[int, bytes] = {}
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        full = base + b"/" + path if path else base
        st = os.lstat(full)
        stat = stat_of(st)
        content = b""
        match stat[0]:
            case Kind.FILE:
                with open(full, "rb") as stream:
                    content = stream.read()
            case Kind.SYMLINK:
                content = os.readlink(full)
            case Kind.DIRECTORY:
                for name in sorted(os.listdir(full), reverse=True):
                    waiting.append(path + b"/" + name if path else name)
        first = numbers.setdefault(st.st_ino, path)
        found[path] = Seen(stat, first, xattrs_of(full), content, st.st_mtime_ns)
    return found


def short(path: bytes) -> str:
    """A path as it is shown: long names abridged."""
    return repr(b"/".join(name if len(name) < _NAME_SHOWN_MAX else name[:2] + b".." for name in path.split(b"/")))


def differences(model: Model, seen: dict[bytes, Seen]) -> list[str]:
    """What is not as the model says; empty when all is."""
    wrong = []
    firsts: dict[int, bytes] = {}
    wanted = set()
    for path, inode in model.walk():
        wanted.add(path)
        first = firsts.setdefault(id(inode), path)
        entry = seen.get(path)
        if entry is None:
            wrong.append(f"{short(path)}: missing, should be {model.stat_of(inode)}")
        else:
            wrong += [f"{short(path)}: {what}" for what in _entry_differences(model, inode, first, entry)]
    wrong += [f"{short(path)}: should not be there: {seen[path].stat}" for path in sorted(seen.keys() - wanted)]
    return wrong


def _entry_differences(model: Model, inode: Inode, first: bytes, entry: Seen) -> list[str]:
    wrong = []
    stat = model.stat_of(inode)
    if entry.stat != stat:
        wrong.append(f"is {entry.stat}, should be {stat}")
    if entry.first != first:
        wrong.append(f"is the same file as {short(entry.first)}, should be the same as {short(first)}")
    if entry.xattrs != inode.xattrs:
        wrong.append(f"attributes {entry.xattrs}, should be {inode.xattrs}")
    content = inode.target if inode.kind is Kind.SYMLINK else inode.data
    if inode.kind is not Kind.DIRECTORY and entry.content != content:
        wrong.append(first_difference(entry.content, bytes(content)))
    if inode.mtime_ns is not None and entry.mtime_ns != inode.mtime_ns:
        wrong.append(f"mtime {entry.mtime_ns}, should be {inode.mtime_ns}")
    return wrong


def first_difference(have: bytes, wanted: bytes) -> str:
    """One line about two byte strings that are not equal."""
    if len(have) != len(wanted):
        size = f"{len(have)} bytes, should be {len(wanted)}; "
    else:
        size = ""
    at = next((i for i, (a, b) in enumerate(zip(have, wanted, strict=False)) if a != b), min(len(have), len(wanted)))
    return f"content: {size}first differing byte {at}: {have[at : at + 8].hex()} should be {wanted[at : at + 8].hex()}"


@dataclass(frozen=True)
class Survivors:
    """How many operations of a journal a directory shows, and the model in that state. `undo`: it shows the first part
    of one more write (which the model has as well), and this takes it back as far as it could matter."""

    count: int
    model: Model
    undo: Operation | None = None


def survived(base: Model, journal: Sequence[Operation], least: int, seen: dict[bytes, Seen]) -> Survivors:
    """The largest number of operations, at least `least`, after which the directory is exactly like this.
    Raises `Difference`."""
    found: Survivors | None = None
    nearest: list[str] | None = None
    nearest_at = least
    for count, model in _states(base, journal, least):
        wrong = differences(model, seen)
        if not wrong:
            found = Survivors(count, model.copy())
        elif nearest is None or len(wrong) < len(nearest):
            nearest, nearest_at = wrong, count
    if found is None:
        found = _half_written(base, journal, least, seen)
    if found is not None:
        return found
    assert nearest is not None
    raise Difference(
        f"no state between {least} and {len(journal)} operations fits; nearest is {nearest_at}:\n  "
        + "\n  ".join(nearest[:_SHOWN_MAX])
    )


def _states(base: Model, journal: Sequence[Operation], least: int) -> Iterator[tuple[int, Model]]:
    """The states after `least` operations and after each further one (one model, changed in place)."""
    model = base.copy()
    for operation in journal[:least]:
        carry_out(model, operation)
    yield least, model
    for count in range(least + 1, len(journal) + 1):
        carry_out(model, journal[count - 1])
        yield count, model


def _half_written(base: Model, journal: Sequence[Operation], least: int, seen: dict[bytes, Seen]) -> Survivors | None:
    """The kernel may make several requests of one write, each ending at a page: the first ones may be all there is."""
    found = None
    for count, model in _states(base, journal, least):
        if count == len(journal) or journal[count].name not in ("write", "append", "write_direct", "store"):
            continue
        handle, *place, size, token = journal[count].arguments
        have = len(model.handles[handle].inode.data)
        offset = place[0] if place else have
        for end in range((offset // _PAGE_BYTES + 1) * _PAGE_BYTES, offset + size, _PAGE_BYTES):
            part = model.copy()
            carry_out(part, journal[count]._replace(arguments=(handle, *place, end - offset, token)))
            if not differences(part, seen):
                path = part.path_of(handle)
                undo = None if place or path is None else Operation("truncate", (path, have))
                found = Survivors(count, part, undo)
    return found


def demand_equal(model: Model, root: Path, what: str) -> None:
    """The directory is exactly the model's. Raises `Difference`."""
    wrong = differences(model, scan(root))
    if wrong:
        raise Difference(f"{what} ({root}) is not the model:\n  " + "\n  ".join(wrong[:_SHOWN_MAX]))
