"""The app settings of the control plane, read once and checked.

A missing or unusable setting is refused with its name and what belongs there; a default never turns a guard off
(without `MIRRORPLANE_EASY_AUTH=enabled` the platform's principal header is ignored, as anybody could send it).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.provisioning.windows_artifacts import WindowsArtifacts, read_windows
from shared.security.wrapping import WrappingKeys

DEFAULT_ARM_ENDPOINT: Final = "https://management.azure.com"
WRAPPING_KEY_BYTES: Final = 32
DEFAULT_RETENTION_DAYS: Final = 14  # of heartbeats, probes and events
MAX_RETENTION_DAYS: Final = 400
PREVIOUS_WRAPPING_KEY: Final = "MIRRORPLANE_WRAPPING_KEY_PREVIOUS"


class SettingInvalid(Exception):
    """An app setting is absent or unusable; the message names it and what belongs there."""


@dataclass(frozen=True)
class Settings:
    public_url: str
    subscription_id: str
    arm_endpoint: str
    wrapping_key: bytes = field(repr=False)
    bootstrap_token_sha256: str | None
    easy_auth: bool
    agent_wheel: Path | None
    control_plane_addresses: tuple[str, ...]
    retention_days: int = DEFAULT_RETENTION_DAYS
    previous_wrapping_key: bytes | None = field(default=None, repr=False)
    windows: WindowsArtifacts | None = None
    """None: Windows clusters are refused."""

    @property
    def wrapping_keys(self) -> WrappingKeys:
        return WrappingKeys(self.wrapping_key, self.previous_wrapping_key)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises SettingInvalid."""
    bootstrap = environment.get("MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256", "").lower()
    if bootstrap and not re.fullmatch(r"[0-9a-f]{64}", bootstrap):
        raise SettingInvalid("MIRRORPLANE_BOOTSTRAP_TOKEN_SHA256 must be the SHA-256 of the token, 64 hex digits")
    wheel = environment.get("MIRRORPLANE_AGENT_WHEEL", "")
    return Settings(
        public_url=_public_url(environment),
        subscription_id=_required(environment, "MIRRORPLANE_SUBSCRIPTION_ID", "the subscription of the clusters"),
        arm_endpoint=environment.get("MIRRORPLANE_ARM_ENDPOINT", "").rstrip("/") or DEFAULT_ARM_ENDPOINT,
        wrapping_key=_wrapping_key(environment, "MIRRORPLANE_WRAPPING_KEY"),
        bootstrap_token_sha256=bootstrap or None,
        easy_auth=_easy_auth(environment),
        agent_wheel=Path(wheel) if wheel else None,
        control_plane_addresses=_addresses(environment),
        retention_days=_retention_days(environment),
        previous_wrapping_key=(
            _wrapping_key(environment, PREVIOUS_WRAPPING_KEY) if environment.get(PREVIOUS_WRAPPING_KEY) else None
        ),
        windows=_windows(environment),
    )


def _required(environment: Mapping[str, str], name: str, what: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingInvalid(f"the app setting {name} is missing; give {what}")
    return value


def _public_url(environment: Mapping[str, str]) -> str:
    url = environment.get("MIRRORPLANE_PUBLIC_URL", "").rstrip("/")
    if url:
        if not url.startswith(("https://", "http://")):
            raise SettingInvalid(f"MIRRORPLANE_PUBLIC_URL is {url!r}; it must begin with https://")
        return url
    host = _required(environment, "WEBSITE_HOSTNAME", "MIRRORPLANE_PUBLIC_URL, as the platform sets no host name here")
    return f"https://{host}"


def _wrapping_key(environment: Mapping[str, str], name: str) -> bytes:
    text = _required(environment, name, f"base64 of {WRAPPING_KEY_BYTES} random bytes")
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != WRAPPING_KEY_BYTES:
        raise SettingInvalid(f"{name} must be base64 of exactly {WRAPPING_KEY_BYTES} bytes")
    return key


def _easy_auth(environment: Mapping[str, str]) -> bool:
    match environment.get("MIRRORPLANE_EASY_AUTH", ""):
        case "":
            return False
        case "enabled":
            return True
        case other:
            raise SettingInvalid(f"MIRRORPLANE_EASY_AUTH is {other!r}; valid: 'enabled', or absent")


def _retention_days(environment: Mapping[str, str]) -> int:
    name = "MIRRORPLANE_RETENTION_DAYS"
    text = environment.get(name, "") or str(DEFAULT_RETENTION_DAYS)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_RETENTION_DAYS:
        raise SettingInvalid(f"{name} is {text!r}; give a number of days from 1 to {MAX_RETENTION_DAYS}")
    return int(text)


def _windows(environment: Mapping[str, str]) -> WindowsArtifacts | None:
    try:
        return read_windows(environment)
    except ValueError as error:
        raise SettingInvalid(str(error)) from None


def _addresses(environment: Mapping[str, str]) -> tuple[str, ...]:
    name = "MIRRORPLANE_CONTROL_PLANE_ADDRESSES"
    ranges = [text.strip() for text in environment.get(name, "").split(",") if text.strip()]
    for text in ranges:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise SettingInvalid(f"{name}: {error}; write a comma list of ranges, e.g. '198.51.100.0/28'") from None
    return tuple(ranges)
