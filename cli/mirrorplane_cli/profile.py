"""Where the control plane is and who we are: a file of mode 0600, or the environment, which wins.

`MIRRORPLANE_URL`, `MIRRORPLANE_TOKEN` and `MIRRORPLANE_CA` are for scripts; the file is written by `mirrorplane login`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mirrorplane_cli.outcome import ExitCode, Failed

_MODE: Final = 0o600
_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Profile:
    url: str
    token: str = field(repr=False)
    ca: str | None = None


def checked_url(text: str) -> str:
    """`https://host[:port]`; plain http only to this very machine. Raises Failed."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Failed(ExitCode.USAGE, f"{text!r} is no address of a control plane; give https://HOST")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise Failed(ExitCode.USAGE, f"{text!r} would send the token in clear; use https")
    return f"{parts.scheme}://{parts.netloc}"


def profile_file(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '/')}/.config"
    return Path(base) / "mirrorplane" / "profile.json"


def load(environment: Mapping[str, str]) -> Profile:
    """Raises Failed when nobody signed in."""
    stored: dict[str, str] = {}
    file = profile_file(environment)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        stored = {key: str(value) for key, value in document.items() if value is not None}
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError) as error:
        raise Failed(ExitCode.NOT_SIGNED_IN, f"{file} is damaged ({error}); run mirrorplane login again") from None
    url = environment.get("MIRRORPLANE_URL") or stored.get("url")
    token = environment.get("MIRRORPLANE_TOKEN") or stored.get("token")
    if not url or not token:
        raise Failed(
            ExitCode.NOT_SIGNED_IN,
            "not signed in: run `mirrorplane login --url https://…`, or set MIRRORPLANE_URL and MIRRORPLANE_TOKEN",
        )
    return Profile(checked_url(url), token, environment.get("MIRRORPLANE_CA") or stored.get("ca"))


def save(profile: Profile, environment: Mapping[str, str]) -> Path:
    """Replaces the file as a whole; it is 0600 from its first byte on."""
    file = profile_file(environment)
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    document = {"url": profile.url, "token": profile.token, "ca": profile.ca}
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w", encoding="utf-8") as stream:
        json.dump(document, stream)
    fresh.replace(file)
    return file
