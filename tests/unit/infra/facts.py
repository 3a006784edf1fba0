"""What the published API specifications say of the bodies we send: names, types, values. See tests/data/arm.

A table holds only what is sent (a copy of the specifications would be thousands of times larger), read from the
specification of exactly that api-version; so a property that is not in it is either misspelt or has to be looked up
and written down first. Notation: "string", "int", "number", "bool"; a list of texts: one of these; {"[]": x}: a list;
{"{}": x}: an object with any keys; another object: these properties.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

TABLES: Final = Path(__file__).parents[2] / "data" / "arm"
_PYTHON: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "int": int,
    "number": (int, float),
    "bool": bool,
}


@cache
def known_types() -> dict[str, Any]:
    """`type@apiVersion` → what is known of its body."""
    found: dict[str, Any] = {}
    for path in sorted(TABLES.glob("*.json")):
        found |= json.loads(path.read_text(encoding="utf-8"))["types"]
    return found


def faults(key: str, body: Any) -> list[str]:
    """Why Azure would refuse the body of `type@apiVersion`; empty if it would not."""
    types = known_types()
    if key not in types:
        return [f"{key}: nothing is known of this type and version"]
    return list(_faults(types[key], body, key.partition("@")[0]))


def _faults(fact: Any, value: Any, path: str) -> list[str]:
    match fact:
        case str():
            wanted = _PYTHON[fact]
            wrong_bool = isinstance(value, bool) and fact != "bool"
            return [] if isinstance(value, wanted) and not wrong_bool else [f"{path} is {value!r}, no {fact}"]
        case list():
            return [] if value in fact else [f"{path} is {value!r}; valid: {fact}"]
        case {"[]": item}:
            if not isinstance(value, list):
                return [f"{path} is {value!r}, no list"]
            return [fault for i, entry in enumerate(value) for fault in _faults(item, entry, f"{path}[{i}]")]
        case {"{}": item}:
            if not isinstance(value, dict):
                return [f"{path} is {value!r}, no object"]
            return [fault for name, entry in value.items() for fault in _faults(item, entry, f"{path}.{name}")]
        case dict():
            if not isinstance(value, dict):
                return [f"{path} is {value!r}, no object"]
            unknown = [f"{path}.{name} is no property" for name in value if name not in fact]
            known = [name for name in value if name in fact]
            return unknown + [fault for name in known for fault in _faults(fact[name], value[name], f"{path}.{name}")]
        case _:
            raise AssertionError(f"{path}: the table holds {fact!r}")
