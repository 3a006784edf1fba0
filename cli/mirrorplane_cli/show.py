"""What is printed: tables for people, JSON for programs, a progress line on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

BAR: Final = 24
Column = str | Callable[[Mapping[str, Any]], Any]


class Screen:
    """`form` is table or json. Progress goes to `aside` (standard error), so that output can be piped."""

    def __init__(self, form: str, out: TextIO | None = None, aside: TextIO | None = None) -> None:
        self.form = form
        self._out = out or sys.stdout
        self._aside = aside or sys.stderr
        self._open_line = False

    def rows(self, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, Column]) -> None:
        """`columns`: heading → path into the row, such as `nodes.a.state`, or what is made of the row."""
        found = list(rows)
        if self.form == "json":
            self.json(found)
            return
        table = [[_text(of(row) if callable(of) else _at(row, of)) for of in columns.values()] for row in found]
        self.table(list(columns), table)

    def table(self, head: Sequence[str], table: Sequence[Sequence[str]]) -> None:
        widths = [max(len(line[index]) for line in (head, *table)) for index in range(len(head))]
        for line in (head, *table):
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip(), file=self._out)

    def facts(self, document: Mapping[str, Any], facts: Mapping[str, str]) -> None:
        """One thing: its facts below one another, or its whole document as JSON."""
        if self.form == "json":
            self.json(document)
            return
        width = max(len(name) for name in facts)
        for name, path in facts.items():
            print(f"{name.ljust(width)}  {_text(_at(document, path))}", file=self._out)

    def json(self, document: object) -> None:
        print(json.dumps(document, indent=2, ensure_ascii=False), file=self._out)

    def json_line(self, document: object) -> None:
        """One of many, for programs that read line by line."""
        if self.form == "json":
            print(json.dumps(document, ensure_ascii=False), file=self._out, flush=True)

    def line(self, text: str) -> None:
        """A sentence for people; programs read the exit code or the JSON."""
        if self.form != "json":
            print(text, file=self._out, flush=True)

    def progress(self, percent: int, text: str) -> None:
        if self._aside.isatty():
            done = BAR * percent // 100
            print(
                f"\r\x1b[K[{'#' * done}{'.' * (BAR - done)}] {percent:3d} %  {text}",
                end="",
                file=self._aside,
                flush=True,
            )
            self._open_line = True

    def progress_ends(self) -> None:
        if self._open_line:
            print(file=self._aside)
            self._open_line = False


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return None
    return document


def _text(value: Any) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_text(entry) for entry in value) or "-"
        case _:
            return " ".join(str(value).split())
