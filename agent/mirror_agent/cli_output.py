"""How `mirrorctl` prints an answer: JSON for programs, one fact a line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def show(value: Any, output: str) -> None:
    """`output` is "json" or "table"."""
    if output == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
    elif isinstance(value, list):
        for event in value:
            print(_event_line(event))
    elif isinstance(value, Mapping) and "permissions" in value:
        _show_permissions(value)
    else:
        lines = _table(value)
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            print(f"{name:<{width}}  {text}".rstrip())


def _show_permissions(value: Mapping[str, Any]) -> None:
    print(f"node {value['node']} is {value['role']}; nothing was changed")
    for permission in value["permissions"]:
        rule = f"  [{permission['rule']}]" if permission["rule"] else ""
        answer = "yes" if permission["allowed"] else "no"
        print(f"  {permission['act']:<13} {answer:<4}{plain(permission['sentence'])}{rule}")
        if permission["supposed"]:
            print(f"{'':<20}supposing that {plain(permission['supposed'])}")


def _table(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested objects become dotted names; a person reads one fact a line."""
    lines: list[tuple[str, str]] = []
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += _table(item, f"{prefix}{name}.")
        elif isinstance(item, list) and any(isinstance(entry, Mapping) for entry in item):
            for number, entry in enumerate(item):
                lines += _table(entry, f"{prefix}{name}[{number}].")
        else:
            lines.append((f"{prefix}{name}", _text(item)))
    return lines


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_text(entry) for entry in value) or "-"
        case _:
            return plain(str(value))


def plain(text: str) -> str:
    """An application's output is shown, not obeyed: no line break or terminal command gets through."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _event_line(event: Mapping[str, Any]) -> str:
    rest = " ".join(f"{name}={_text(item)}" for name, item in event.items() if name not in ("seq", "utc", "kind"))
    return f"{event.get('utc', '-')}  {event.get('kind', '-'):<28}  {rest}".rstrip()
