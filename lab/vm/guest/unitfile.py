"""Read systemd unit files into frozen values.

Three lists decide what happens to a directive: honoured (below, in `Unit`), accepted without effect (ordering and
sandboxing that a VM of the lab does not need), and all others, which are an error naming the file and the directive.
Nothing is skipped silently. Meaning follows systemd.service(5), systemd.exec(5), systemd.kill(5).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

UNIT_DIRECTORIES = (Path("/etc/systemd/system"), Path("/usr/local/lib/systemd/system"))
RESTART_WORDS = frozenset({"no", "always", "on-failure", "on-success", "on-abnormal", "on-abort"})
TYPES = frozenset({"simple", "exec", "oneshot", "notify"})
NOTIFY_ACCESS = frozenset({"none", "main", "all"})
KILL_MODES = frozenset({"control-group", "mixed", "process", "none"})
# Ordering, sandboxing and accounting: no effect here, said in docs/lab.md.
WITHOUT_EFFECT = {
    "Unit": frozenset(
        [
            "Description",
            "Documentation",
            "After",
            "Before",
            "Wants",
            "Requires",
            "DefaultDependencies",
            "ConditionPathExists",
            "BindsTo",
            "PartOf",
        ]
    ),
    "Service": frozenset(
        [
            "StandardInput",
            "StandardOutput",
            "StandardError",
            "SyslogIdentifier",
            "Delegate",
            "Slice",
            "ProtectSystem",
            "ProtectHome",
            "PrivateTmp",
            "PrivateDevices",
            "NoNewPrivileges",
            "ProtectKernelTunables",
            "ProtectControlGroups",
            "ProtectKernelModules",
            "ProtectKernelLogs",
            "ProtectClock",
            "ProtectHostname",
            "RestrictRealtime",
            "RestrictSUIDSGID",
            "LockPersonality",
            "ReadWritePaths",
            "ReadOnlyPaths",
            "TasksMax",
            "KeyringMode",
            "MemoryMax",
            "MemoryHigh",
            "CPUWeight",
            "IOWeight",
            "MountFlags",
            "CapabilityBoundingSet",
            "OOMPolicy",
            "AmbientCapabilities",
            "SystemCallArchitectures",
            "RestrictNamespaces",
            "RestrictAddressFamilies",
            "MemoryDenyWriteExecute",
        ]
    ),
    "Install": frozenset({"RequiredBy", "Also"}),
}
TIME_UNITS_S = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 0.001, "min": 60.0, "m": 60.0, "h": 3600.0, "us": 0.000001}


class UnitError(ValueError):
    """A unit file that is absent, malformed, or wants what the lab's init does not do."""


@dataclass(frozen=True, slots=True)
class Command:
    argv: tuple[str, ...]
    ignore_failure: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    name: str
    path: Path
    description: str = ""
    kind: str = "simple"
    start: tuple[Command, ...] = ()
    start_before: tuple[Command, ...] = ()
    start_after: tuple[Command, ...] = ()
    stop: tuple[Command, ...] = ()
    stop_after: tuple[Command, ...] = ()
    restart: str = "no"
    restart_s: float = 0.1
    start_limit_interval_s: float = 10.0
    start_limit_burst: int = 5
    timeout_start_s: float = 90.0
    timeout_stop_s: float = 90.0
    watchdog_s: float = 0.0
    notify_access: str = ""
    kill_mode: str = "control-group"
    kill_signal: str = "SIGTERM"
    remain_after_exit: bool = False
    success_statuses: frozenset[int] = frozenset({0})
    restart_prevent_statuses: frozenset[int] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_files: tuple[str, ...] = ()
    working_directory: str = "/"
    user: str = "root"
    group: str = ""
    umask: int = 0o022
    limits: Mapping[str, str] = field(default_factory=dict)
    oom_score_adjust: int | None = None
    nice: int | None = None
    runtime_directories: tuple[str, ...] = ()
    state_directories: tuple[str, ...] = ()
    runtime_directory_mode: int = 0o755
    requires_mounts: tuple[str, ...] = ()
    wanted_by: tuple[str, ...] = ()


def unit_name(word: str) -> str:
    """`mirrorplane-agent` and `mirrorplane-agent.service` mean the same; other unit types are refused."""
    if "/" in word or not word:
        raise UnitError(f"{word!r} is no unit name")
    suffix = word.rpartition(".")[2] if "." in word else ""
    if suffix in {"target", "socket", "timer", "mount", "path", "slice", "device", "swap", "automount", "scope"}:
        raise UnitError(f"{word}: the lab's init runs .service units only, not .{suffix}")
    return word if suffix == "service" else f"{word}.service"


def find_unit(name: str, directories: tuple[Path, ...] = UNIT_DIRECTORIES) -> Path:
    for directory in directories:
        if (directory / name).is_file():
            return directory / name
    raise UnitError(f"Unit {name} could not be found in {', '.join(map(str, directories))}.")


def load_unit(name: str, directories: tuple[Path, ...] = UNIT_DIRECTORIES) -> Unit:
    path = find_unit(name, directories)
    return parse_unit(name, path, path.read_text())


def parse_unit(name: str, path: Path, text: str) -> Unit:
    """Raises `UnitError` naming file, line and directive."""
    values: dict[str, object] = {}
    environment: dict[str, str] = {}
    section = ""
    lines = text.replace("\\\n", " ").splitlines()
    for number, raw in enumerate(lines, start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            if section not in WITHOUT_EFFECT:
                raise UnitError(f"{path}:{number}: section [{section}] is not known to the lab's init")
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not section:
            raise UnitError(f"{path}:{number}: {line!r} is neither a section nor Directive=value")
        try:
            _directive(values, environment, section, key, value)
        except UnitError as error:
            raise UnitError(f"{path}:{number}: {error}") from None
    unit = Unit(name=name, path=path, environment=environment, **values)  # type: ignore[arg-type]
    if not unit.start:
        raise UnitError(f"{path}: a service needs ExecStart=")
    if len(unit.start) > 1 and unit.kind != "oneshot":
        raise UnitError(f"{path}: more than one ExecStart= needs Type=oneshot")
    return unit


COMMANDS = {
    "ExecStart": "start",
    "ExecStartPre": "start_before",
    "ExecStartPost": "start_after",
    "ExecStop": "stop",
    "ExecStopPost": "stop_after",
}
DURATIONS = {
    "RestartSec": ("restart_s",),
    "TimeoutStopSec": ("timeout_stop_s",),
    "TimeoutStartSec": ("timeout_start_s",),
    "TimeoutSec": ("timeout_start_s", "timeout_stop_s"),
    "WatchdogSec": ("watchdog_s",),
    "StartLimitIntervalSec": ("start_limit_interval_s",),
}
WORDS = {
    "Type": ("kind", TYPES),
    "Restart": ("restart", RESTART_WORDS),
    "KillMode": ("kill_mode", KILL_MODES),
    "NotifyAccess": ("notify_access", NOTIFY_ACCESS),
}
TEXTS = {"User": "user", "Group": "group", "KillSignal": "kill_signal", "Description": "description"}
NUMBERS = {"StartLimitBurst": "start_limit_burst", "OOMScoreAdjust": "oom_score_adjust", "Nice": "nice"}
STATUS_SETS = {"SuccessExitStatus": "success_statuses", "RestartPreventExitStatus": "restart_prevent_statuses"}
DIRECTORIES = {"RuntimeDirectory": "runtime_directories", "StateDirectory": "state_directories"}
IN_UNIT_SECTION = frozenset({"Description", "StartLimitIntervalSec", "StartLimitBurst"})


def _directive(values: dict[str, object], environment: dict[str, str], section: str, key: str, value: str) -> None:
    if section == "Install" and key == "WantedBy":
        values["wanted_by"] = (*_tuple(values, "wanted_by"), *value.split())
    elif section == "Unit" and key == "RequiresMountsFor":
        values["requires_mounts"] = (*_tuple(values, "requires_mounts"), *value.split())
    elif section == "Service" and _service_directive(values, environment, key, value):
        pass
    elif section == "Unit" and key in IN_UNIT_SECTION:
        _service_directive(values, environment, key, value)
    elif key not in WITHOUT_EFFECT[section]:
        raise UnitError(f"[{section}] {key}= is not supported by the lab's init")


def _service_directive(values: dict[str, object], environment: dict[str, str], key: str, value: str) -> bool:
    """Store the directive; False if it is none of those honoured."""
    if key in COMMANDS:
        target = COMMANDS[key]
        values[target] = (*_tuple(values, target), parse_command(value)) if value else ()
    elif key in DURATIONS:
        values.update(dict.fromkeys(DURATIONS[key], parse_duration_s(value)))
    elif key in WORDS:
        target, allowed = WORDS[key]
        if value not in allowed:
            raise UnitError(f"{key}={value} is not supported; one of {', '.join(sorted(allowed))}")
        values[target] = value
    elif key in TEXTS:
        values[TEXTS[key]] = value
    elif key in NUMBERS:
        values[NUMBERS[key]] = _integer(key, value)
    elif key in STATUS_SETS:
        statuses = frozenset(_integer(key, word) for word in value.split())
        values[STATUS_SETS[key]] = statuses | {0} if key == "SuccessExitStatus" else statuses
    elif key in DIRECTORIES:
        values[DIRECTORIES[key]] = tuple(value.split())
    elif key == "Environment":
        for assignment in shlex.split(value):
            name, equals, text = assignment.partition("=")
            if not equals:
                raise UnitError(f"Environment={assignment!r} has no '='")
            environment[name] = _specifiers(text)
    elif key == "EnvironmentFile":
        values["environment_files"] = (*_tuple(values, "environment_files"), value)
    elif key == "WorkingDirectory":
        values["working_directory"] = "/root" if value == "~" else value
    elif key == "UMask":
        values["umask"] = int(value, 8)
    elif key == "RuntimeDirectoryMode":
        values["runtime_directory_mode"] = int(value, 8)
    elif key == "RemainAfterExit":
        values["remain_after_exit"] = value.lower() in {"yes", "true", "on", "1"}
    elif key.startswith("Limit"):
        values["limits"] = {**dict(values.get("limits") or {}), key[5:]: value}  # type: ignore[call-overload]
    else:
        return False
    return True


def _tuple(values: dict[str, object], key: str) -> tuple[object, ...]:
    found = values.get(key, ())
    return found if isinstance(found, tuple) else ()


def _integer(key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UnitError(f"{key}={value} is not a whole number") from None


def parse_duration_s(text: str) -> float:
    """`5`, `500ms`, `1min 30s`, `infinity`."""
    if text == "infinity":
        return float("inf")
    total = 0.0
    parts = re.findall(r"([0-9.]+)\s*([a-z]*)", text)
    if not parts or re.sub(r"[0-9.]+\s*[a-z]*", "", text).strip():
        raise UnitError(f"{text!r} is no time span")
    for number, unit in parts:
        if unit not in TIME_UNITS_S:
            raise UnitError(f"{text!r}: unit {unit!r} is not known")
        total += float(number) * TIME_UNITS_S[unit]
    return total


def parse_command(text: str) -> Command:
    ignore_failure = text.startswith("-")
    line = text[1:] if ignore_failure else text
    if line[:1] in {"@", "+", "!", ":", "|"}:
        raise UnitError(f"command prefix {line[0]!r} is not supported by the lab's init")
    argv = tuple(_specifiers(word) for word in shlex.split(line))
    if not argv or not argv[0].startswith("/"):
        raise UnitError(f"{text!r}: a command starts with an absolute path")
    return Command(argv, ignore_failure)


def _specifiers(text: str) -> str:
    found = re.search(r"%(?!%)", text.replace("%%", ""))
    if found:
        raise UnitError(f"{text!r}: %-specifiers other than %% are not supported by the lab's init")
    return text.replace("%%", "%")


def expand_variables(argv: tuple[str, ...], environment: Mapping[str, str]) -> list[str]:
    """`${NAME}` inside a word; `$NAME` as a word of its own is split at spaces (systemd.service(5), COMMAND LINES)."""
    words: list[str] = []
    for word in argv:
        alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if alone:
            words += environment.get(alone[1], "").split()
        else:
            words.append(re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", lambda m: environment.get(m[1], ""), word))
    return words
