"""What one mirror engine is told at its start, and the refusal of anything that does not make sense.

The supervisor builds a `MirrorConfig`, writes it as JSON (0600) and starts the engine with it. An unknown or missing
key refuses to start and names the nearest valid one. Nothing in here changes while the process lives.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from mirror_agent.mirror import limits

STRICT: Final = "strict"
ORDERED: Final = "ordered"
ACK_MODES: Final = (STRICT, ORDERED)
KERNEL: Final = "kernel"
LIBRARY: Final = "library"
FRONTS: Final = (KERNEL, LIBRARY)
"""Windows has the second only."""
COPY_SUFFIX: Final = ".mirrored"


class MirrorConfigError(ValueError):
    """A configuration the engine refuses to start with; the message names key, value and remedy."""


@dataclass(frozen=True)
class MirroredPath:
    """One replicated directory. `mode` is "strict" or "ordered" (docs/mirror.md says what each may lose).

    `name` is what the two nodes compare to be sure they mean the same directory; empty: its path. `copy` is where the
    files really lie, for Windows only: there a mount has a place of its own (a directory that does not exist, or a
    drive letter), so the copy cannot lie below it; empty: beside it, with `COPY_SUFFIX`.
    """

    path: str
    mode: str = STRICT
    name: str = ""
    copy: str = ""

    @property
    def identity(self) -> str:
        """Never the same on two operating systems: what their file systems keep differs."""
        return (self.name or self.path) if sys.platform != "win32" else f"windows:{self.name or self.path}"

    @property
    def places(self) -> frozenset[str]:
        """Where it is seen, and where it lies."""
        return frozenset({self.path, self.copy_directory})

    @property
    def copy_directory(self) -> str:
        """Where this node's copy lies; on Linux the directory itself, below its mount."""
        return self.path if sys.platform != "win32" else self.copy or self.path + COPY_SUFFIX

    def __post_init__(self) -> None:
        if self.mode not in ACK_MODES:
            nearest = difflib.get_close_matches(self.mode, ACK_MODES, n=1, cutoff=0.0)[0]
            raise MirrorConfigError(f"paths: mode {self.mode!r} of {self.path!r} is unknown; did you mean {nearest!r}?")
        if sys.platform == "win32":
            self._check_for_windows()
        elif self.copy:
            raise MirrorConfigError(f"paths: copy {self.copy!r} is for Windows; here the copy lies below its mount")
        elif not os.path.isabs(self.path) or os.path.normpath(self.path) != self.path or self.path == "/":
            raise MirrorConfigError(f"paths: {self.path!r} must be a plain absolute directory other than '/'")

    def _check_for_windows(self) -> None:
        is_letter = re.fullmatch("[A-Z]:", self.path) is not None
        if is_letter and not self.copy:
            raise MirrorConfigError(f"paths: {self.path!r} is a drive letter; say where its copy lies (copy)")
        for text in (self.copy_directory, *(() if is_letter else (self.path,))):
            if not os.path.isabs(text) or os.path.normpath(text) != text or os.path.splitdrive(text)[1] in ("", "\\"):
                raise MirrorConfigError(f"paths: {text!r} must be a plain absolute directory below a drive")


@dataclass(frozen=True)
class MirrorLimits:
    """Bounds a node may change; see `mirror_agent.mirror.limits` for the reasons of the defaults."""

    ring_bytes: int = limits.RING_BYTES
    front_threads_max: int = limits.FRONT_THREADS_MAX
    open_inodes_max: int = limits.OPEN_INODES_MAX
    peer_silence_s: float = limits.PEER_SILENCE_S
    stall_s: float = limits.STALL_S
    leave_out_s: float = limits.LEAVE_OUT_S
    leave_out_slow: bool = False
    slow_call_s: float = limits.SLOW_CALL_S
    slow_for_s: float = limits.SLOW_FOR_S
    barrier_timeout_s: float = limits.BARRIER_TIMEOUT_S
    checkpoint_s: float = limits.CHECKPOINT_S
    resync_max_bytes_s: int = limits.RESYNC_MAX_BYTES_S
    resync_everything: bool = False
    quarantine_max_bytes: int = limits.QUARANTINE_MAX_BYTES
    quarantine_max_age_s: float = limits.QUARANTINE_MAX_AGE_S

    def __post_init__(self) -> None:
        if self.ring_bytes < 4 * limits.MAX_FRAME_BYTES:
            raise MirrorConfigError(
                f"limits: ring_bytes {self.ring_bytes} is below {4 * limits.MAX_FRAME_BYTES} (four frames)"
            )
        if self.peer_silence_s < 2 * limits.HEARTBEAT_S:
            raise MirrorConfigError(
                f"limits: peer_silence_s {self.peer_silence_s} is below two heartbeats of {limits.HEARTBEAT_S} s"
            )
        if self.stall_s < limits.STALL_S_MIN:
            raise MirrorConfigError(
                f"limits: stall_s {self.stall_s} is below {limits.STALL_S_MIN}: the replica tells it with two pulses"
            )
        if self.slow_call_s <= 0 or self.slow_for_s <= 0:
            raise MirrorConfigError("limits: slow_call_s and slow_for_s must be greater than 0")
        if not 0 < self.leave_out_s <= limits.LEAVE_OUT_MAX_S:
            raise MirrorConfigError(
                f"limits: leave_out_s {self.leave_out_s} must lie between 0 and {limits.LEAVE_OUT_MAX_S}"
            )
        if self.front_threads_max < 2 or self.open_inodes_max < 64:
            raise MirrorConfigError("limits: front_threads_max must be at least 2 and open_inodes_max at least 64")
        if self.checkpoint_s <= 0 or self.quarantine_max_bytes <= 0 or self.quarantine_max_age_s <= 0:
            raise MirrorConfigError(
                "limits: checkpoint_s, quarantine_max_bytes and quarantine_max_age_s must be greater than 0"
            )
        if self.resync_max_bytes_s < limits.MAX_FRAME_BYTES and self.resync_max_bytes_s != 0:
            raise MirrorConfigError(
                f"limits: resync_max_bytes_s {self.resync_max_bytes_s} is below one frame ({limits.MAX_FRAME_BYTES}); "
                "0 means no bound"
            )


@dataclass(frozen=True)
class MirrorConfig:
    """Identity, addresses, directories and certificates of one engine.

    `peer_addresses` are tried in order; `peer_san` is the DNS name the peer's certificate must carry
    (`<node>.<clusterId>.mirror`). `state_dir` keeps the generation record and the `inconsistent` marker,
    `quarantine_dir` what a resync would otherwise overwrite, `runtime_dir` the control socket. `front`: how the mounts
    are served, by /dev/fuse itself or through a FUSE library (`front`, `front_library`).
    """

    cluster_id: str
    node: str
    peer: str
    peer_addresses: tuple[str, ...]
    listen_address: str
    paths: tuple[MirroredPath, ...]
    state_dir: str
    quarantine_dir: str
    certificate_file: str
    key_file: str
    ca_file: str
    peer_san: str
    port: int = 5600
    runtime_dir: str = "/run/mirrorplane"
    front: str = KERNEL if sys.platform != "win32" else LIBRARY
    limits: MirrorLimits = field(default_factory=MirrorLimits)

    def __post_init__(self) -> None:
        if not 1 <= len(self.paths) <= limits.MAX_ROOTS:
            raise MirrorConfigError(f"paths: {len(self.paths)} given, 1 to {limits.MAX_ROOTS} are possible")
        if len({entry.path for entry in self.paths}) != len(self.paths):
            raise MirrorConfigError("paths: a directory is listed twice")
        if sys.platform == "win32" and self.front == KERNEL:
            raise MirrorConfigError(f"front: {KERNEL!r} is Linux's; on Windows it is {LIBRARY!r} (WinFsp)")
        if self.front not in FRONTS:
            nearest = difflib.get_close_matches(self.front, FRONTS, n=1, cutoff=0.0)[0]
            raise MirrorConfigError(f"front: {self.front!r} is unknown; did you mean {nearest!r}?")
        if self.node == self.peer:
            raise MirrorConfigError(f"peer: {self.peer!r} is the node itself")
        if not self.peer_addresses:
            raise MirrorConfigError("peer_addresses: at least one address is needed")
        for key in ("state_dir", "quarantine_dir", "runtime_dir"):
            for entry in self.paths:
                if any((getattr(self, key) + os.sep).startswith(top + os.sep) for top in entry.places):
                    raise MirrorConfigError(f"{key}: {getattr(self, key)!r} lies inside the replicated {entry.path!r}")
        if not 1 <= self.port <= 65535:
            raise MirrorConfigError(f"port: {self.port} is no TCP port")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def _known(kind: type[Any], data: dict[str, Any], where: str) -> None:
    names = [entry.name for entry in fields(kind)]
    for key in data:
        if key not in names:
            nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.0)[0]
            raise MirrorConfigError(f"{where}: unknown key {key!r}; did you mean {nearest!r}?")


def config_from_json(text: str) -> MirrorConfig:
    """The configuration written by `MirrorConfig.to_json`. Raises `MirrorConfigError`."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise MirrorConfigError(f"the configuration is no JSON document: {error}") from None
    if not isinstance(data, dict):
        raise MirrorConfigError("the configuration must be a JSON object")
    _known(MirrorConfig, data, "configuration")
    for entry in data.get("paths", ()):
        _known(MirroredPath, entry, "paths")
    _known(MirrorLimits, data.get("limits", {}), "limits")
    try:
        return MirrorConfig(
            **{
                **data,
                "paths": tuple(MirroredPath(**entry) for entry in data["paths"]),
                "peer_addresses": tuple(data["peer_addresses"]),
                "limits": MirrorLimits(**data.get("limits", {})),
            }
        )
    except (KeyError, TypeError) as error:
        raise MirrorConfigError(f"the configuration is incomplete or of the wrong type: {error}") from None
