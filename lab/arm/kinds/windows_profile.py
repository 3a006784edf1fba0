"""What Azure checks of the operating-system profile of a Windows VM before it makes one.

Texts and rules: Microsoft's reference of `osProfile` (adminUsername, adminPassword, computerName), "VM naming
conventions", and the FAQ of Windows VMs for names and passwords that are not allowed.
"""

from __future__ import annotations

import re
from typing import Any

from lab.arm.errors import ArmError, compute_parameter

PUBLISHER = "MicrosoftWindowsServer"
_COMPUTER_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?")
_KINDS = tuple(re.compile(kind) for kind in (r"[A-Z]", r"[a-z]", r"[0-9]", r"[^A-Za-z0-9]"))
_PASSWORDS_KNOWN = frozenset(
    (
        *("abc@123", "P@$$w0rd", "P@ssw0rd", "P@ssword123", "Pa$$word", "pass@word1", "Password!", "Password1"),
        *("Password22", "iloveyou!"),
    )
)
_USERS_RESERVED = frozenset(
    (
        *("administrator", "admin", "user", "user1", "test", "user2", "test1", "user3", "admin1", "1", "123", "a"),
        *("actuser", "adm", "admin2", "aspnet", "backup", "console", "david", "guest", "john", "owner", "root"),
        *("server", "sql", "support", "support_388945a0", "sys", "test2", "test3", "user4", "user5"),
    )
)


def is_windows(properties: dict[str, Any]) -> bool:
    """By what the body says of it, else by its image."""
    profile = properties.get("osProfile") or {}
    image = (properties.get("storageProfile") or {}).get("imageReference") or {}
    return "windowsConfiguration" in profile or image.get("publisher", "").lower() == PUBLISHER.lower()


def complete(profile: dict[str, Any]) -> None:
    windows = profile.setdefault("windowsConfiguration", {})
    windows.setdefault("provisionVMAgent", True)
    windows.setdefault("enableAutomaticUpdates", True)
    windows.setdefault("patchSettings", {}).setdefault("patchMode", "AutomaticByOS")


def check(properties: dict[str, Any], *, new: bool) -> None:
    """Raises `ArmError`."""
    profile, storage = properties["osProfile"], properties["storageProfile"]
    if storage["imageReference"].get("publisher", "").lower() != PUBLISHER.lower():
        raise ArmError(
            409,
            "OperationNotAllowed",
            "The image is not a Windows image: 'windowsConfiguration' is not allowed for it.",
            target="windowsConfiguration",
        )
    if storage["osDisk"]["osType"] != "Windows":
        raise compute_parameter("The value 'Linux' of parameter 'osDisk.osType' is invalid.", "osDisk.osType")
    if "linuxConfiguration" in profile:
        raise compute_parameter("Parameter 'linuxConfiguration' is not allowed.", "linuxConfiguration")
    if not _COMPUTER_NAME.fullmatch(profile["computerName"]):
        raise compute_parameter(
            "Windows computer name cannot be more than 15 characters long, be entirely numeric, or contain the "
            "following characters: ` ~ ! @ # $ % ^ & * ( ) = + _ [ ] { } \\ | ; : . ' \" , < > / ?.",
            "computerName",
        )
    user = profile["adminUsername"]
    if user.lower() in _USERS_RESERVED:
        raise compute_parameter("The Admin Username specified is not allowed.", "adminUsername")
    if len(user) > 20 or user.endswith(".") or re.search(r'[\\/"\[\]:|<>+=;,?*@&]', user):
        raise compute_parameter(
            "The Admin Username specified is not valid: at most 20 characters, none of them special, no dot at the "
            "end.",
            "adminUsername",
        )
    if new:
        _check_password(profile.get("adminPassword"))
    patches = profile["windowsConfiguration"]["patchSettings"]
    if patches.get("enableHotpatching") and patches["patchMode"] != "AutomaticByPlatform":
        raise compute_parameter(
            "The value 'true' of parameter 'enableHotpatching' is invalid: patchMode has to be 'AutomaticByPlatform'.",
            "enableHotpatching",
        )


def _check_password(password: str | None) -> None:
    if password is None:
        raise compute_parameter("Required parameter 'adminPassword' is missing (null).", "adminPassword")
    kinds = sum(1 for kind in _KINDS if kind.search(password))
    if not 8 <= len(password) <= 123 or kinds < 3 or password in _PASSWORDS_KNOWN:
        raise compute_parameter(
            "The supplied password must be between 8-123 characters long and must satisfy at least 3 of password "
            "complexity requirements from the following: 1) Contains an uppercase character 2) Contains a lowercase "
            "character 3) Contains a numeric digit 4) Contains a special character 5) Control characters are not "
            "allowed",
            "adminPassword",
        )
