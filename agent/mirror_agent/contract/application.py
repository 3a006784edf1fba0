"""The application of a cluster, as the person who owns it describes it: scripts, replicated directories, checkers."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, IPvAnyAddress, StringConstraints, field_validator, model_validator

from mirror_agent.contract.basics import (
    MAX_CHECKERS,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_REPLICATED_PATHS,
    MAX_RESTARTS,
    AbsolutePath,
    ClusterKind,
    Contract,
    Port,
    Seconds,
)
from mirror_agent.contract.paths import of_windows, replicated_directory, within


class AckMode(StrEnum):
    """When a call on a replicated path returns: see docs/mirror.md for what each may lose."""

    STRICT = "strict"
    ORDERED = "ordered"


class CheckerKind(StrEnum):
    PROCESS = "process"
    TCP = "tcp"
    HTTP = "http"
    CUSTOM = "custom"
    DISK = "disk"
    PING = "ping"


class CheckerWhen(StrEnum):
    """Where a checker runs: while the application runs here, while this node is the replica, or both."""

    PRIM = "prim"
    SECOND = "second"
    BOTH = "both"


class CheckerAction(StrEnum):
    RESTART = "restart"
    FAILOVER = "failover"
    STOP = "stop"
    NONE = "none"


class ReplicatedPath(Contract):
    """A directory whose every change is on both nodes before it is acknowledged."""

    path: AbsolutePath
    mode: AckMode = AckMode.STRICT

    @field_validator("path")
    @classmethod
    def _plain_directory(cls, value: str) -> str:
        return replicated_directory(value)


class SlowReplica(StrEnum):
    """What follows when half of the calls wait for the replica longer than a second, for ten seconds."""

    TELL = "tell"
    LEAVE_OUT = "leave-out"


class ResyncScope(StrEnum):
    """What a returning node is compared for: what can have changed since the last checkpoint, or everything."""

    CHANGES = "changes"
    EVERYTHING = "everything"


class MirrorPolicy(Contract):
    """Where the mirror must choose between two goods: see docs/mirror.md §4 and §12 for what each word costs."""

    slow_replica: SlowReplica = SlowReplica.TELL
    resync: ResyncScope = ResyncScope.CHANGES


class ModuleFile(Contract):
    """A file of the application module, written below the module directory before the first start."""

    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", max_length=200)]
    content: Annotated[str, StringConstraints(max_length=MAX_FILE_BYTES)]
    mode: Annotated[str, StringConstraints(pattern=r"^0[0-7]{3}$")] = "0644"

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if ".." in value.split("/"):
            raise ValueError(f"{value!r} leaves the module directory; remove '..'")
        return value


def _as_tuple(value: object) -> object:
    """Behind a validator of the whole model a list of JSON is one of Python, which a strict tuple would refuse."""
    return tuple(value) if isinstance(value, list) else value


class Checker(Contract):
    """One test of the application or of what it stands on.

    `process`: `match` is a regular expression over the command line, between `atLeast` and `atMost` processes; or
    `unit` names a systemd service, which must be active (on Windows: a service, which must run). `tcp`: connects to
    `port` on the loopback. `http`: GET `path` on `port`, 2xx is healthy. `custom`: runs `command` with /bin/sh (on
    Windows cmd.exe); exit 0 is healthy. `disk`: the file system of the directory `path` is writable, has at least
    `minFreePercent` and `minFreeBytes` free, and stores a small file within `timeoutS`. `ping`: one of `addresses`
    answers an ICMP echo.
    `threshold` consecutive failures lead to `action`. On the replica only `stop` and `none` do something: there is no
    application to restart, and the other node serves already.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    kind: CheckerKind
    interval_s: Seconds = 2.0
    timeout_s: Seconds = 5.0
    threshold: Annotated[int, Field(ge=1, le=100)] = 2
    grace_s: Annotated[float, Field(ge=0, le=86400)] | None = None
    """Failures before the first healthy test do not count for so long after the application's start; without it for the
    application's `startTimeoutS`, and on the replica not at all."""
    action: CheckerAction = CheckerAction.RESTART
    when: CheckerWhen = CheckerWhen.PRIM
    match: str | None = None
    unit: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9 :_.$@-]{1,200}$")] | None = None
    at_least: Annotated[int, Field(ge=0)] = 1
    at_most: Annotated[int, Field(ge=0)] | None = None
    port: Port | None = None
    path: str | None = None
    command: str | None = None
    min_free_percent: Annotated[float, Field(ge=0, lt=100)] = 5.0
    min_free_bytes: Annotated[int, Field(ge=0)] = 0
    addresses: Annotated[tuple[IPvAnyAddress, ...], BeforeValidator(_as_tuple), Field(max_length=4)] = ()

    @model_validator(mode="before")
    @classmethod
    def _a_ping_only_tells(cls, data: object) -> object:
        """A router that does not answer an echo is no reason to stop an application, unless somebody says so."""
        if isinstance(data, dict) and data.get("kind") in (CheckerKind.PING, "ping") and "action" not in data:
            return {**data, "action": CheckerAction.NONE}
        return data

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {
            CheckerKind.PROCESS: ("match",) if self.unit is None else (),
            CheckerKind.TCP: ("port",),
            CheckerKind.HTTP: ("port", "path"),
            CheckerKind.CUSTOM: ("command",),
            CheckerKind.DISK: ("path",),
            CheckerKind.PING: ("addresses",),
        }[self.kind]
        for field in needed:
            if getattr(self, field) in (None, ()):
                raise ValueError(f"checker {self.name!r} of kind {self.kind.value!r} needs {field!r}")
        if self.unit is not None and (self.kind is not CheckerKind.PROCESS or self.match is not None):
            raise ValueError(f"checker {self.name!r}: 'unit' belongs to kind 'process', and takes the place of 'match'")
        if self.when is CheckerWhen.SECOND and self.action in (CheckerAction.RESTART, CheckerAction.FAILOVER):
            raise ValueError(
                f"checker {self.name!r} runs on the replica only, where {self.action.value!r} means nothing; "
                "use the action 'stop' or 'none'"
            )
        directory = self.path or ""
        if self.kind is CheckerKind.DISK and not (directory.startswith("/") or of_windows(directory)):
            raise ValueError(f"checker {self.name!r}: {self.path!r} is no absolute path of a directory")
        if self.match is not None:
            try:
                re.compile(self.match)
            except re.error as error:
                raise ValueError(f"checker {self.name!r}: {self.match!r} is no regular expression: {error}") from None
        return self


class Application(Contract):
    """The application of a cluster: restart scripts, replicated paths, checkers.

    `startPrim` and `stopPrim` are shell scripts (run by /bin/sh in the module directory; on Windows by cmd.exe).
    `startPrim` starts the application and returns 0, leaving daemons running; `stopPrim` stops it. Environment:
    MODULE_DIR, MODULE_NODE, MODULE_EPOCH, MODULE_ROLE and `environment`. `prepare` runs once per node after
    installation, as root, before the module first starts; it must be idempotent. A farm runs the same scripts on every
    node and replicates nothing. What belongs to one kind of cluster only is checked where the kind is known
    (`misplaced`), what needs one operating system where that is known (`unfit`).
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    start_prim: Annotated[str, StringConstraints(min_length=1, max_length=MAX_FILE_BYTES)]
    stop_prim: Annotated[str, StringConstraints(max_length=MAX_FILE_BYTES)] = "exit 0\n"
    prepare: Annotated[str, StringConstraints(max_length=MAX_FILE_BYTES)] = ""
    packages: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")], ...], Field(max_length=32)
    ] = ()
    files: Annotated[tuple[ModuleFile, ...], Field(max_length=MAX_FILES)] = ()
    environment: dict[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = Field(
        default_factory=dict
    )
    replicated_paths: Annotated[tuple[ReplicatedPath, ...], Field(max_length=MAX_REPLICATED_PATHS)] = ()
    mirror: MirrorPolicy = MirrorPolicy()
    checkers: Annotated[tuple[Checker, ...], Field(max_length=MAX_CHECKERS)] = ()
    service_ports: Annotated[tuple[Port, ...], Field(max_length=32)] = ()
    start_timeout_s: Seconds = 60.0
    stop_timeout_s: Seconds = 20.0
    restart_limit: Annotated[int, Field(ge=0, le=MAX_RESTARTS)] = 3
    """Failures of the application within `restart_window_s` after which a node restarts it here; one more stops the
    module on this node, and the other one serves."""
    restart_window_s: Seconds = 86400.0

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        paths = [entry.path for entry in self.replicated_paths]
        for path in paths:
            for other in paths:
                if path != other and within(other, path) and not within(path, other):
                    raise ValueError(f"replicated path {other!r} lies inside {path!r}; list only the outer one")
        if any(within(one, other) for one, other in combinations(paths, 2)):
            raise ValueError(f"a replicated path is listed twice: {paths}")
        names = [checker.name for checker in self.checkers]
        if len(set(names)) != len(names):
            raise ValueError(f"a checker name is used twice: {names}")
        for checker in self.checkers:
            if checker.kind is CheckerKind.DISK and any(within(checker.path or "", path) for path in paths):
                raise ValueError(
                    f"checker {checker.name!r} would write into the replicated path {checker.path!r}; "
                    "name a directory of the same disk outside of it, for instance where the disk is mounted"
                )
        return self


def misplaced(kind: ClusterKind, application: Application) -> list[tuple[str, str]]:
    """(field, reason with remedy) for everything of the application that a cluster of this kind cannot have."""
    if kind is ClusterKind.MIRROR:
        if application.replicated_paths:
            return []
        return [
            (
                "replicatedPaths",
                "a mirror replicates at least one directory and none is listed; name the application's data directory, "
                "or ask for kind 'farm'",
            )
        ]
    found = []
    if application.replicated_paths:
        path = application.replicated_paths[0].path
        found.append(
            (
                "replicatedPaths",
                f"a farm replicates nothing, but {path!r} is listed; remove it or ask for kind 'mirror'",
            )
        )
    if application.mirror != MirrorPolicy():
        found.append(("mirror", "a farm has no mirror to set up; remove the field or ask for kind 'mirror'"))
    for index, checker in enumerate(application.checkers):
        if checker.when is CheckerWhen.SECOND:
            reason = (
                f"checker {checker.name!r}: a farm has no replica for 'second'; use 'prim', which is every node here"
            )
            found.append((f"checkers[{index}].when", reason))
        if checker.action is CheckerAction.FAILOVER:
            reason = f"checker {checker.name!r}: a farm has nobody to fail over to; use 'restart' or 'stop'"
            found.append((f"checkers[{index}].action", reason))
    return found
