"""Read a cloud-init document into a plan the guest carries out at its first boot.

The document is the one Azure would get (base64 in osProfile.customData). The lab supports a closed list of keys; any
other key, at any level, is `CloudInitError` naming it, before the VM boots: nothing is skipped silently. Supported:
write_files (path, content, encoding, permissions, owner, append, defer), packages and package_update, disk_setup,
fs_setup, mounts, runcmd.

Limits: packages are not installed. The VM's root is the machine's own file system, so each must be installed there;
a missing one is an error with the command that installs it. Disks are directories: partitioning and formatting a
fresh disk changes nothing, and `overwrite: true`, which would wipe a used one, is refused.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import shlex
import subprocess
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NoReturn

import yaml

HEADER: Final = "#cloud-config"
MAX_CUSTOM_DATA_BYTES: Final = 65535  # Azure: base64-encoded, at most 65,535 characters
KEYS: Final = (
    "write_files",
    "packages",
    "package_update",
    "package_upgrade",
    "disk_setup",
    "fs_setup",
    "mounts",
    "runcmd",
)
WRITE_FILE_KEYS: Final = frozenset({"path", "content", "encoding", "permissions", "owner", "append", "defer"})
DISK_KEYS: Final = frozenset({"table_type", "layout", "overwrite"})
FS_KEYS: Final = frozenset({"device", "partition", "filesystem", "label", "overwrite", "extra_opts"})
BASE64_WORDS: Final = frozenset({"b64", "base64"})
GZIP_WORDS: Final = frozenset({"gzip", "gz"})
GZIP_BASE64_WORDS: Final = frozenset({"gz+base64", "gzip+base64", "gz+b64", "gzip+b64"})
TEXT_WORDS: Final = frozenset({"", "text/plain"})


class CloudInitError(ValueError):
    """The document cannot be carried out in the lab; the message names the key and what to do."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    path: str
    content_b64: str
    permissions: str
    owner: str
    append: bool
    defer: bool


@dataclass(frozen=True, slots=True)
class MountEntry:
    device: str
    mount_point: str
    fs_type: str
    options: str


@dataclass(frozen=True, slots=True)
class Plan:
    write_files: tuple[FileEntry, ...] = ()
    packages: tuple[str, ...] = ()
    mounts: tuple[MountEntry, ...] = ()
    runcmd: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def parse(custom_data: bytes) -> Plan:
    """The plan of a document; an empty one for empty custom data. Raises `CloudInitError`."""
    if not custom_data.strip():
        return Plan()
    if len(base64.b64encode(custom_data)) > MAX_CUSTOM_DATA_BYTES:
        raise CloudInitError(f"custom data is {len(custom_data)} bytes; Azure takes {MAX_CUSTOM_DATA_BYTES} in base64")
    try:
        text = custom_data.decode()
    except UnicodeDecodeError as error:
        raise CloudInitError(f"custom data is no UTF-8 text: {error}") from None
    if text.splitlines()[0].strip() != HEADER:
        raise CloudInitError(f"custom data must begin with {HEADER!r}; it begins with {text.splitlines()[0][:40]!r}")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CloudInitError(f"custom data is no YAML: {error}") from None
    if document is None:
        return Plan()
    if not isinstance(document, dict):
        raise CloudInitError("custom data must hold a mapping of cloud-init keys")
    unknown = [key for key in document if key not in KEYS]
    if unknown:
        raise CloudInitError(f"cloud-init key {unknown[0]!r} is not supported in the lab; it knows {', '.join(KEYS)}")
    _disks(document)
    return Plan(
        write_files=tuple(_file(entry) for entry in _listed(document, "write_files")),
        packages=tuple(_package(entry) for entry in _listed(document, "packages")),
        mounts=tuple(_mount(entry) for entry in _listed(document, "mounts")),
        runcmd=_script(_listed(document, "runcmd")),
    )


def missing_packages(packages: Sequence[str], installed: Callable[[str], bool] | None = None) -> tuple[str, ...]:
    """Those the machine does not have."""
    known = installed or package_installed
    return tuple(name for name in packages if not known(name))


def package_installed(name: str) -> bool:
    argv = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        raise CloudInitError("packages: this machine has no dpkg, so the lab cannot tell what is installed") from None
    return done.returncode == 0 and done.stdout.strip() == "installed"


def _refuse(place: str, problem: str) -> NoReturn:
    raise CloudInitError(f"cloud-init {place}: {problem}")


def _listed(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        _refuse(key, f"must be a list, not {type(value).__name__}")
    return value


def _only(place: str, entry: Any, allowed: frozenset[str]) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        _refuse(place, f"must be a mapping, not {type(entry).__name__}")
    unknown = sorted(str(key) for key in entry if key not in allowed)
    if unknown:
        _refuse(place, f"key {unknown[0]!r} is not supported in the lab; it knows {', '.join(sorted(allowed))}")
    return entry


def _file(raw: Any) -> FileEntry:
    entry = _only("write_files", raw, WRITE_FILE_KEYS)
    path = entry.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        _refuse("write_files", f"path {path!r} is not an absolute path")
    place = f"write_files {path}"
    permissions = str(entry.get("permissions", "0644"))
    try:
        if not 0 <= int(permissions, 8) <= 0o7777:
            raise ValueError(permissions)
    except ValueError:
        _refuse(place, f"permissions {permissions!r} are no octal mode; write them as a quoted text, e.g. '0600'")
    content = _decoded(place, entry.get("content", ""), str(entry.get("encoding", "")).strip().lower())
    return FileEntry(
        path=path,
        content_b64=base64.b64encode(content).decode(),
        permissions=permissions,
        owner=str(entry.get("owner", "root:root")),
        append=entry.get("append", False) is True,
        defer=entry.get("defer", False) is True,
    )


def _decoded(place: str, content: Any, encoding: str) -> bytes:
    data = content if isinstance(content, bytes) else str(content).encode()
    try:
        if encoding in BASE64_WORDS | GZIP_BASE64_WORDS:
            data = base64.b64decode(data, validate=False)
        elif encoding not in TEXT_WORDS | GZIP_WORDS:
            _refuse(place, f"encoding {encoding!r} is not supported in the lab")
        if encoding in GZIP_WORDS | GZIP_BASE64_WORDS:
            data = gzip.decompress(data)
    except (binascii.Error, OSError, EOFError, zlib.error) as error:
        _refuse(place, f"content is not {encoding}: {error}")
    return data


def _package(raw: Any) -> str:
    if not isinstance(raw, str):
        _refuse("packages", f"{raw!r}: the lab takes plain package names, not versions")
    return raw


def _disks(document: Mapping[str, Any]) -> None:
    setup = document.get("disk_setup") or {}
    if not isinstance(setup, dict):
        _refuse("disk_setup", "must be a mapping of devices")
    for device, entry in setup.items():
        _never_wipes(f"disk_setup {device}", _only(f"disk_setup {device}", entry, DISK_KEYS))
    for entry in _listed(document, "fs_setup"):
        checked = _only("fs_setup", entry, FS_KEYS)
        _never_wipes(f"fs_setup {checked.get('device')}", checked)


def _never_wipes(place: str, entry: Mapping[str, Any]) -> None:
    if entry.get("overwrite", False) is not False:
        _refuse(place, "overwrite: true would wipe a used disk; the lab does not format, say overwrite: false")


def _mount(raw: Any) -> MountEntry:
    if not isinstance(raw, list) or len(raw) < 2 or not all(isinstance(word, str | int) for word in raw):
        _refuse("mounts", f"{raw!r} must be a list: [device, mount point, type, options, …]")
    words = [str(word) for word in raw] + ["auto", "defaults,nofail"][len(raw) - 2 :]
    if not words[1].startswith("/"):
        _refuse("mounts", f"mount point {words[1]!r} is not an absolute path")
    return MountEntry(device=words[0], mount_point=words[1], fs_type=words[2], options=words[3])


def _script(commands: Sequence[Any]) -> str:
    """As cloud-init's shellify: a text is a line of shell, a list is quoted word by word."""
    if not commands:
        return ""
    lines = ["#!/bin/sh"]
    for command in commands:
        if isinstance(command, str):
            lines.append(command)
        elif isinstance(command, list) and command and all(isinstance(word, str | int | float) for word in command):
            lines.append(" ".join(shlex.quote(str(word)) for word in command))
        else:
            _refuse("runcmd", f"{command!r} is neither a text nor a list of words")
    return "\n".join(lines) + "\n"
