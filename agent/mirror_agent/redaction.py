"""Secrets never leave the process in a log line, an event or an answer.

Two nets: the name of a field (`sas`, `token`, …) hides its value; the shape of a text (a SAS signature, a bearer token,
a private key, `password=`) hides that part of it, for texts we did not write, such as an application's output or an
error of an HTTP library. The second net is best effort; the first rule stays that secrets are not handed to a log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HIDDEN: Final = "[redacted]"

_SECRET_FIELD: Final = re.compile(
    r"(^|_)(sas|token|credential|secret|password|passwd|authorization|privatekey|accountkey|apikey|connectionstring)$"
)
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_TEXT: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"\b(sig|sharedaccesssignature|accountkey)=[^&;\s\"']+", re.IGNORECASE), rf"\1={HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    # API tokens (mp_), enrolment tokens (mpe_) and node credentials (mpn_) of the control plane.
    (re.compile(r"\bmp[a-z]?_[A-Za-z0-9-]+_[A-Za-z0-9_-]{8,}"), HIDDEN),
    (re.compile(r"\b(password|passwd|pwd|secret|token)(\s*[=:]\s*)[^\s,;&]+", re.IGNORECASE), rf"\1\2{HIDDEN}"),
    (re.compile(r"(://[^/\s:@]+):[^/\s@]+@"), rf"\1:{HIDDEN}@"),
)


def redact_text(text: str) -> str:
    """`text` without what looks like a secret."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact(value: object, field: str = "") -> object:
    """A copy of a JSON-like `value` without secrets; anything that is no JSON type becomes its text."""
    if _is_secret_field(field) and value not in (None, "", False, True):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {str(key): redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return redact_text(str(value))


def _is_secret_field(field: str) -> bool:
    words = _CAMEL.sub("_", field).lower().replace("-", "_")
    joined = (
        words.replace("private_key", "privatekey").replace("account_key", "accountkey").replace("api_key", "apikey")
    )
    return bool(_SECRET_FIELD.search(joined.replace("connection_string", "connectionstring")))
