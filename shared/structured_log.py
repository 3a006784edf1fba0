"""Log lines as JSON objects that never hold a secret.

`Log("mirrorplane.api").info("answered", status=200)` writes one line `{"event": "answered", "status": 200}` through
the standard logging tree, so the Functions worker and a test see the same text. Two nets hold secrets back: a field
whose name speaks of one is hidden whole, and whatever looks like one in any text (our tokens, bearer headers,
signatures, account keys, private keys) is cut out. The rule stays that secrets are not handed to a log.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Mapping
from typing import Final

HIDDEN: Final = "[redacted]"
MAX_TEXT_CHARS: Final = 4000
_SECRET_FIELD: Final = re.compile(
    r"(authorization|credential|secret|password|signature|\btoken|token$|\bsas$|api_?key|account_?key|private_?key|"
    r"wrapping_?key|connection_?string|x-functions-key|client-principal|csr)",
    re.IGNORECASE,
)
_SECRET_TEXT: Final = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\bmp[en]?_[A-Za-z0-9_-]{16,}"), HIDDEN),
    (re.compile(r"\b(bearer|basic|sharedkey|sharedkeylite)\s+[A-Za-z0-9._~+/=:-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(sig|code|accountkey|sharedaccesssignature)=[^&;\s\"']+", re.IGNORECASE), rf"\1={HIDDEN}"),
)


def redact_text(text: str) -> str:
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + "…"


def redact(value: object, field: str = "") -> object:
    """A JSON-ready copy of `value` without secrets."""
    if field and _SECRET_FIELD.search(field) and value not in (None, ""):
        return HIDDEN
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): redact(item, str(key)) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redact(item) for item in value]
        case _:
            return redact_text(str(value))


class Log:
    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: object) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write(logging.WARNING, event, fields)

    def failure(self, event: str, error: BaseException, **fields: object) -> None:
        """An error with its traceback, as a field: a traceback printed by a handler would pass by the nets."""
        trace = "".join(traceback.format_exception(error))
        self._write(logging.ERROR, event, {**fields, "error": f"{type(error).__name__}: {error}", "trace": trace})

    def _write(self, level: int, event: str, fields: Mapping[str, object]) -> None:
        if self._logger.isEnabledFor(level):
            line = {"event": event, **{name: redact(value, name) for name, value in fields.items()}}
            self._logger.log(level, "%s", json.dumps(line, ensure_ascii=False, default=str))


def quieten_libraries() -> None:
    """HTTP libraries log requests and headers at INFO; only their warnings are wanted."""
    for name in ("azure", "aiohttp", "urllib3", "msal"):
        logging.getLogger(name).setLevel(logging.WARNING)
