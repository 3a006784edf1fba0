"""The access keys of the app: master, host, one per function, and the Event Grid extension's system key.

Guarantee: the file is 0600 and replaced in one step, so that a killed host leaves the old or the new one. A file that
others may read refuses the start. Keys are compared in constant time and have no representation in logs.
Source of the rules: a FUNCTION level is satisfied by the function's key, the host key or the master key, an ADMIN level
by the master key only; webhooks of an extension need its system key or the master key.
"""

import hmac
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lab.functions_host.bindings import AuthLevel
from lab.functions_host.errors import StartRefused
from lab.functions_host.files import write_private

KEY_BYTES = 40  # what the Azure host generates
MIN_KEY_LENGTH = 16
REMEDY = "remove it to have new keys generated"


def _generate() -> str:
    return secrets.token_urlsafe(KEY_BYTES)


class Keys(BaseModel):
    """The keys file. Unknown words are refused; missing keys are generated."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    master: str = Field(default_factory=_generate, min_length=MIN_KEY_LENGTH, repr=False)
    host: str = Field(default_factory=_generate, min_length=MIN_KEY_LENGTH, repr=False)
    eventgrid_extension: str = Field(default_factory=_generate, min_length=MIN_KEY_LENGTH, repr=False)
    functions: dict[str, str] = Field(default_factory=dict, repr=False)

    def permits(self, level: AuthLevel, function: str, given: str | None) -> bool:
        """Whether the key `given` with a request satisfies `level` for `function`."""
        match level:
            case AuthLevel.ANONYMOUS:
                return True
            case AuthLevel.FUNCTION:
                return _any_equal(given, (self.functions.get(function), self.host, self.master))
            case AuthLevel.ADMIN:
                return _any_equal(given, (self.master,))

    def permits_event_grid(self, given: str | None) -> bool:
        return _any_equal(given, (self.eventgrid_extension, self.master))

    def secrets(self) -> tuple[str, ...]:
        return (self.master, self.host, self.eventgrid_extension, *self.functions.values())


def _any_equal(given: str | None, valid: Iterable[str | None]) -> bool:
    if not given:
        return False
    # Every comparison is made, so that the time does not tell which key was near.
    return sum(hmac.compare_digest(given.encode(), key.encode()) for key in valid if key) > 0


def load_keys(path: Path, functions: Iterable[str]) -> Keys:
    """Reads `path`, generates what is missing (also for new functions) and writes it back. Raises StartRefused."""
    stored: dict[str, object] = {}
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise StartRefused(f"{path} holds keys and is readable by others; run: chmod 600 {path}")
        try:
            stored = json.loads(path.read_text("utf-8"))
            keys = Keys.model_validate(stored)
        except json.JSONDecodeError as error:
            raise StartRefused(f"{path} is not a keys file: {error}; {REMEDY}") from None
        except ValidationError as error:
            problem = error.errors(include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise StartRefused(f"{path} is not a keys file: {where}: {problem['msg']}; {REMEDY}") from None
    else:
        keys = Keys()
    missing = {name: _generate() for name in functions if name not in keys.functions}
    keys = keys.model_copy(update={"functions": {**keys.functions, **missing}})
    content = keys.model_dump()
    if content != stored:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, json.dumps(content, indent=2) + os.linesep)
    return keys
