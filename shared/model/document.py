"""Bases of the control plane's models.

`ApiModel` is what a caller sends or receives: frozen, camelCase, unknown fields refused (a misspelt field must never
be dropped silently). `Document` is what we wrote ourselves into a table: the same, but unknown fields are ignored, so
that an older instance of the app can read a row that a newer one wrote during a rolling update.
"""

from __future__ import annotations

from typing import Final

from mirror_agent.contract import Contract
from pydantic import ConfigDict, ValidationInfo

# Validation context of a document that was accepted when it was written: a rule that was tightened since must not make
# the record of a living cluster unreadable.
STORED: Final = {"stored": True}


def is_stored(info: ValidationInfo) -> bool:
    return info.context == STORED


class ApiModel(Contract):
    """A body of the HTTP API. Its validation errors do not show values: texts of an error end in logs."""

    model_config = ConfigDict(hide_input_in_errors=True)


class Document(Contract):
    """A stored JSON document."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class FieldError(ValueError):
    """A finding of a model about one of its fields: `target` is the field below the model, as the caller wrote it."""

    def __init__(self, target: str, message: str, code: str = "InvalidField") -> None:
        super().__init__(message)
        self.target = target
        self.code = code
