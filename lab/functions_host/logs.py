"""Structured log lines on standard error, one JSON object a line, without secrets.

Guarantee: a line never holds a value of an Authorization or key header, a query `code` or `sig`, an account key or
one of the app's own keys, whoever logged it: the rendered text of every record, with its exception, passes
`Redactor`.
Limits: the redactor knows forms, not meaning; an application that logs its own secret in another form is not stopped.
The invocation id comes from the worker library's context variable; threads started by user code have none ("-").
"""

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final, TextIO

from azure_functions_runtime import invocation_id_cv

HIDDEN: Final = "[hidden]"
_FORMS = (
    re.compile(r"(?i)(?P<keep>[?&](?:code|sig)=)[^&\s\"'#]+"),
    re.compile(r"(?i)(?P<keep>\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=)[^;\s\"']+"),
    re.compile(
        r"(?i)(?P<keep>[\"']?\b(?:authorization|x-functions-key|aeg-sas-key|aeg-sas-token)[\"']?\s*[:=,]\s*[\"']?)"
        r"(?:(?:bearer|basic|sharedkey|sharedaccesssignature)\s+)?[^\s\"',;]+"
    ),
    re.compile(r"(?i)(?P<keep>\b(?:bearer|sharedkey|sharedkeylite)\s+)[A-Za-z0-9._~+/=:-]{8,}"),
)


class Redactor:
    """Replaces secrets in text. `hide` adds literal values (the app's keys)."""

    def __init__(self, literals: Iterable[str] = ()) -> None:
        self._literals: list[str] = []
        self.hide(literals)

    def hide(self, literals: Iterable[str]) -> None:
        # Longest first: a key that contains another one must go whole.
        self._literals = sorted({*self._literals, *literals} - {""}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for literal in self._literals:
            text = text.replace(literal, HIDDEN)
        for form in _FORMS:
            text = form.sub(rf"\g<keep>{HIDDEN}", text)
        return text


class JsonFormatter(logging.Formatter):
    """`extra={"fields": {...}}` of a record becomes members of the object."""

    def __init__(self, redactor: Redactor, function_of: Callable[[str], str | None]) -> None:
        super().__init__()
        self._redactor = redactor
        self._function_of = function_of

    def format(self, record: logging.LogRecord) -> str:
        invocation_id = invocation_id_cv.get()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redactor(record.getMessage()),
        }
        if invocation_id is not None:
            line["function"] = self._function_of(invocation_id) or "-"
            line["invocation"] = invocation_id
        fields = getattr(record, "fields", {})
        line.update({name: self._redactor(v) if isinstance(v, str) else v for name, v in fields.items()})
        if record.exc_info:
            line["exception"] = self._redactor(self.formatException(record.exc_info))
        return json.dumps(line, default=lambda value: self._redactor(str(value)), ensure_ascii=False)


class PrintedLines(io.TextIOBase):
    """Stands for sys.stdout while the app runs: what user code prints becomes log lines, as the Azure worker does it.

    Bounded: a line longer than `MAX_LINE` is cut into several.
    """

    MAX_LINE: Final = 16_384

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._pending = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._pending = (self._pending + text).split("\n")
        if len(self._pending) > self.MAX_LINE:
            lines.append(self._pending)
            self._pending = ""
        for line in lines:
            if line:
                self._logger.info("%s", line)
        return len(text)

    def flush(self) -> None:
        if self._pending:
            self._logger.info("%s", self._pending)
            self._pending = ""


def set_up(level: str, redactor: Redactor, function_of: Callable[[str], str | None], stream: TextIO) -> None:
    """Makes the root logger write JSON lines to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(redactor, function_of))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # One INFO line an invocation and chatty DEBUG; the host writes its own "executed" line.
    logging.getLogger("azure.functions").setLevel(logging.WARNING)
    # The SDKs log every request with its headers at INFO.
    logging.getLogger("azure").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.stdout = PrintedLines(logging.getLogger("stdout"))
