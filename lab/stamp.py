"""Do a slow thing once: compare the digest of what goes in with the stamp of the last complete run."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path


def digest_of(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def digest_of_tree(root: Path, patterns: tuple[str, ...]) -> str:
    """Over names and contents of the files below `root` that match, build and cache directories left out."""
    files = sorted(
        path
        for pattern in patterns
        for path in root.rglob(pattern)
        if path.is_file() and not {"__pycache__", "build"} & set(path.relative_to(root).parts)
    )
    return digest_of(part for path in files for part in (str(path.relative_to(root)).encode(), path.read_bytes()))


def once(directory: Path, wanted: str, make: Callable[[], None]) -> bool:
    """Run `make` unless `directory` holds the stamp `wanted`; the stamp is written after success. True if it ran.

    A file lock next to the directory keeps two processes from making it at once.
    """
    stamp = directory / ".stamp"
    if stamp.is_file() and stamp.read_text() == wanted:
        return False
    directory.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text() == wanted:
            return False
        make()
        stamp.write_text(wanted)
    return True
