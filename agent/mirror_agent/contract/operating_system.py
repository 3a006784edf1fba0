"""What an application asks for that the operating system of its nodes does not have. Pure.

A field that would have no effect, or would fail on the node only, is refused with the value and the remedy: by the
control plane before anything is made, by the agent before a configuration is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from mirror_agent.contract.paths import of_windows

if TYPE_CHECKING:
    from mirror_agent.contract.application import Application

OperatingSystem = Literal["linux", "windows"]
WINDOWS_DATA_DRIVE: Final = "M"
"""The data disk of a Windows node, as its first boot names it."""
_SYSTEMD: Final = re.compile(r"[A-Za-z0-9:_.@-]{1,200}\.service")
_TEMPORARY_DRIVE: Final = "D:"
"""Azure's name of the disk that is lost when a VM moves to another host."""


# Paths stand between plain quotes below: repr() would double every backslash of Windows.
def unfit(os: OperatingSystem, application: Application) -> list[tuple[str, str]]:
    """(field, reason with remedy) for everything that nodes of this system cannot do; the field as Application has it,
    with an index where there is one."""
    found = []
    paths = [(f"replicatedPaths[{i}].path", entry.path) for i, entry in enumerate(application.replicated_paths)]
    paths += [
        (f"checkers[{i}].path", checker.path)
        for i, checker in enumerate(application.checkers)
        if checker.kind == "disk" and checker.path is not None
    ]
    for field, path in paths:
        if of_windows(path) and os != "windows":
            found.append((field, f"'{path}' is a path of Windows; on {os} nodes write e.g. '/data/app'"))
        if not of_windows(path) and os == "windows":
            example = f"{WINDOWS_DATA_DRIVE}:\\app"
            found.append(
                (field, f"'{path}' is no path of Windows; write e.g. '{example}' ({example[:2]} is the data disk)")
            )
        if os == "windows" and path[:2].upper() == _TEMPORARY_DRIVE:
            reason = (
                f"'{path}': {_TEMPORARY_DRIVE} is Azure's temporary disk; take the data disk, {WINDOWS_DATA_DRIVE}:"
            )
            found.append((field, reason))
    if os == "windows" and application.packages:
        reason = f"{application.packages[0]!r} is a package of a Linux distribution; install programs in 'prepare'"
        found.append(("packages", reason))
    for index, checker in enumerate(application.checkers):
        if checker.unit is None or (os == "linux") == (_SYSTEMD.fullmatch(checker.unit) is not None):
            continue
        wanted = "a unit of systemd, such as 'app.service'" if os == "linux" else "the name of a service of Windows"
        found.append((f"checkers[{index}].unit", f"checker {checker.name!r}: {checker.unit!r} is not {wanted}"))
    return found
