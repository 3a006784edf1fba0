"""Refusals of the API and how they look: `{"error": {"code", "message", "target", "details"}}`.

Codes are contract: they are listed here and nowhere else. Shape from the Azure REST API guidelines (2024-03).
"""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shared.model.operation import ErrorDetail

MAX_DETAILS: Final = 50

# Code → HTTP status.
STATUS: Final[dict[str, int]] = {
    "MissingApiVersionParameter": 400,
    "UnsupportedApiVersionValue": 400,
    "InvalidJson": 400,
    "InvalidField": 400,
    "MissingField": 400,
    "UnknownField": 400,
    "InvalidName": 400,
    "InvalidParameter": 400,
    "UnknownImage": 400,
    "ImageOperatingSystemMismatch": 400,
    "UnsupportedOperatingSystem": 400,
    "UnknownAction": 400,
    "OperationIdReused": 400,
    "CertificateRequestRefused": 400,
    "NodeMismatch": 400,
    "Unauthenticated": 401,
    "EnrolmentTokenInvalid": 401,
    "EnrolmentTokenUsed": 403,
    "EnrolmentSuperseded": 403,
    "Forbidden": 403,
    "CredentialLinkUsed": 403,
    "CredentialLinkInvalid": 401,
    "ClusterNotFound": 404,
    "OperationNotFound": 404,
    "WheelNotFound": 404,
    "AlertNotFound": 404,
    "SilenceNotFound": 404,
    "CredentialNotFound": 404,
    "ClusterBeingDeleted": 409,
    "ClusterNotReady": 409,
    "OperationInProgress": 409,
    "ActionInProgress": 409,
    "NoServingNode": 409,
    "ActionNotSupported": 409,
    "NodeCannotRotate": 409,
    "UpgradeNotPossible": 409,
    "AgentVersionRefused": 409,
    "PropertyChangeNotAllowed": 409,
    "EnrolmentContended": 409,
    "AlertNotFiring": 409,
    "TooManySilences": 409,
    "TooManyCredentials": 409,
    "ClusterGone": 410,
    "ConditionNotMet": 412,
    "ResourceExists": 412,
    "RequestBodyTooLarge": 413,
    "ClusterTooLarge": 413,
    "InternalError": 500,
    "StorageUnavailable": 503,
    "AzureUnavailable": 503,
    "NotConfigured": 503,
}


class Problem(Exception):
    """A request that is refused. Raises KeyError at once for a code that is not listed."""

    def __init__(
        self, code: str, message: str, target: str | None = None, details: tuple[ErrorDetail, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = STATUS[code]
        self.error = ErrorDetail(code=code, message=message, target=target, details=details)

    @property
    def code(self) -> str:
        return self.error.code


def from_validation(error: ValidationError) -> Problem:
    """The first finding on top, all of them in `details`, each with the path of the field as the caller wrote it."""
    details = tuple(_detail(found) for found in error.errors(include_url=False, include_input=True)[:MAX_DETAILS])
    first = details[0]
    more = f" (and {len(details) - 1} more, see details)" if len(details) > 1 else ""
    return Problem(first.code, first.message + more, first.target, details)


def _detail(found: ErrorDetails) -> ErrorDetail:
    target = _path(found["loc"])
    match found["type"]:
        case "missing":
            return ErrorDetail(code="MissingField", message=f"the field {target!r} is missing", target=target)
        case "extra_forbidden":
            return ErrorDetail(code="UnknownField", message=f"the field {target!r} is not known", target=target)
    cause = found.get("ctx", {}).get("error")
    code = getattr(cause, "code", "InvalidField")
    suffix = getattr(cause, "target", "")
    message = str(cause) if isinstance(cause, ValueError) else _described(found, target)
    full = ".".join(part for part in (target, suffix) if part)
    return ErrorDetail(code=code if code in STATUS else "InvalidField", message=message, target=full or None)


def _described(found: ErrorDetails, target: str) -> str:
    value = found.get("input")
    shown = f", found {value!r}"[:120] if isinstance(value, str | int | float | bool) else ""
    return f"{target or 'the body'}: {found['msg']}{shown}"


def _path(parts: tuple[int | str, ...]) -> str:
    """`network.rules[0].frontendPort`"""
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
