"""ARM-shaped errors: `{"error": {"code", "message", "target", "details"}}` with the codes Azure uses.

Codes and texts copy what Azure was seen to answer (docs/lab-arm.md names the sources); where no source was found the
code is our inference and listed there as such. A client under test must be able to branch on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ArmError(Exception):
    """A refused request, or the reason of a failed operation."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: str | None = None,
        details: tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.details = details
        self.headers = dict(headers or {})

    def error_object(self) -> dict[str, Any]:
        """The object under "error"; network resources always carry `details`, so it is always there."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.target is not None:
            error["target"] = self.target
        error["details"] = [{"code": code, "message": message} for code, message in self.details]
        return error


class MissingResource(Exception):
    """A checked reference leads nowhere any more (deleted out of band): the operation that needs it fails."""


def resource_not_found(type_name: str, name: str, group: str) -> ArmError:
    return ArmError(
        404,
        "ResourceNotFound",
        f"The Resource '{type_name}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def child_not_found(id_text: str) -> ArmError:
    return ArmError(404, "NotFound", f"Resource {id_text} not found.")


def group_not_found(name: str) -> ArmError:
    return ArmError(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")


def malformed_json(reason: str) -> ArmError:
    return ArmError(
        400,
        "InvalidRequestContent",
        f"The request content was invalid and could not be deserialized: '{reason}'.",
    )


def invalid_reference(target: str, source: str) -> ArmError:
    return ArmError(
        400,
        "InvalidResourceReference",
        f"Resource {target} referenced by resource {source} was not found. Please make sure that the referenced "
        "resource exists, and that both resources are in the same region.",
    )


def network_format(code: str, message: str) -> ArmError:
    """How Microsoft.Network says that a body is wrong."""
    return ArmError(400, "InvalidRequestFormat", "Cannot parse the request.", details=((code, message),))


def compute_parameter(message: str, target: str) -> ArmError:
    """How Microsoft.Compute says that a body is wrong."""
    return ArmError(400, "InvalidParameter", message, target=target)


def not_modelled(what: str, target: str) -> ArmError:
    """Azure accepts this, the lab cannot make it physical: refused loudly instead of accepted and ignored."""
    return ArmError(
        400,
        "NotModelledByTheLab",
        f"{what} exists in Azure but the lab does not model it; leave it out or extend lab/arm (see docs/lab-arm.md).",
        target=target,
    )
