"""Directories that a cluster replicates, as Linux and as Windows name them: the rules of both, pure text.

A form is told by its beginning alone (`/` or a drive letter), so that a configuration reads the same on either system;
whether it fits the nodes' own system is `operating_system.unfit`'s question.
Limits on Windows: drive letters only (no UNC, no `\\\\?\\`), at most 160 characters, so that what the application makes
below stays within the 259 of programs that do not know longer paths.
"""

from __future__ import annotations

import re
from typing import Final

MAX_WINDOWS_PATH_CHARS: Final = 160
_WINDOWS: Final = re.compile(r"[A-Za-z]:\\")
_LINUX_SYSTEM: Final = frozenset(
    ("/", "/etc", "/usr", "/var", "/bin", "/lib", "/dev", "/proc", "/sys", "/run", "/boot")
)
_WINDOWS_SYSTEM: Final = frozenset(
    ("windows", "program files", "program files (x86)", "programdata", "users", "azuredata", "packages", "windowsazure")
)
# Microsoft Learn, "Naming Files, Paths, and Namespaces": characters and names that no file can have.
_FORBIDDEN: Final = re.compile(r'[<>:"/|?*\x00-\x1f]')
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


def of_windows(path: str) -> bool:
    return _WINDOWS.match(path) is not None


def replicated_directory(path: str) -> str:
    """`path` in its plain form. Raises ValueError with the rule it breaks."""
    return _windows_directory(path) if of_windows(path) else _linux_directory(path)


def within(path: str, directory: str) -> bool:
    """Whether `path` is the directory or lies in it; Windows does not mind case."""
    separator = "\\" if of_windows(directory) else "/"
    if of_windows(directory):
        path, directory = path.replace("/", separator).lower(), directory.lower()
    return path.rstrip(separator) == directory or path.startswith(directory.rstrip(separator) + separator)


def _linux_directory(path: str) -> str:
    plain = path.rstrip("/") if path != "/" else path
    if plain in _LINUX_SYSTEM:
        raise ValueError(f"{plain!r} is a system directory; replicate a directory of the application, e.g. /data/app")
    if ".." in plain.split("/"):
        raise ValueError(f"{plain!r} contains '..'; give the plain absolute path")
    return plain


def _windows_directory(path: str) -> str:
    # Paths between plain quotes: repr() would double every backslash.
    drive, rest = path[:2].upper(), path[3:].rstrip("\\")
    if not rest:
        raise ValueError(f"'{path}' is a whole drive; replicate a directory of the application, e.g. M:\\app")
    plain = f"{drive}\\{rest}"
    if len(plain) > MAX_WINDOWS_PATH_CHARS:
        raise ValueError(f"'{plain}' has {len(plain)} characters; at most {MAX_WINDOWS_PATH_CHARS} on Windows")
    parts = rest.split("\\")
    for part in parts:
        if not part or part in (".", ".."):
            raise ValueError(f"'{plain}' contains {part!r}; give the plain absolute path")
        if _FORBIDDEN.search(part) or part[-1] in ". " or _DEVICES.fullmatch(part):
            raise ValueError(f"'{plain}': Windows can have no directory named {part!r}")
    if drive == "C:" and parts[0].lower() in _WINDOWS_SYSTEM:
        raise ValueError(f"'{plain}' lies in a system directory; replicate a directory of the data disk, e.g. M:\\app")
    return plain
