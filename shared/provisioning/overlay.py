"""Comparing what is wanted with what exists, in ARM's JSON, and merging the two.

The wanted body is a subset: what it does not mention belongs to Azure or to somebody else and is kept. Guarantee:
`differs(existing, wanted)` is False exactly if every mentioned value is there already, and
`overlay(existing, wanted)` is then equal to `existing` in all mentioned places; so a second PUT never happens without
a reason, and a PUT never drops what others have set (ARM's PUT replaces whole lists of children).

Lists come in three shapes: children with a `name` (subnets, rules, probes) are matched by name, references with only
an `id` are compared as a set of ids, everything else must be equal in order, except that plain strings (zones, address
ranges) compare as sets. ARM ids and locations compare without regard to case, as ARM itself does.
A wanted value of None means "must be absent".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shared.azure.resources import Body

Path = tuple[str, ...]


def differs(existing: Any, wanted: Any, keep_foreign: frozenset[Path] = frozenset(), path: Path = ()) -> bool:
    """Whether something wanted is missing or different. `keep_foreign`: lists whose unknown children are not ours."""
    match wanted:
        case None:
            return existing is not None
        case Mapping():
            if not isinstance(existing, Mapping):
                return bool(_present(wanted))
            return any(
                differs(existing.get(key), value, keep_foreign, (*path, key))
                for key, value in wanted.items()
                if key not in _WRITE_ONLY
            )
        case list() | tuple():
            return _list_differs(existing, wanted, keep_foreign, path)
        case _:
            return not _same_scalar(existing, wanted, path)


def overlay(existing: Any, wanted: Any, keep_foreign: frozenset[Path] = frozenset(), path: Path = ()) -> Any:
    """`wanted` laid over `existing`; mappings are merged, lists of children follow `wanted`."""
    match wanted:
        case Mapping():
            base: Body = dict(existing) if isinstance(existing, Mapping) else {}
            for key, value in wanted.items():
                if value is None:
                    base.pop(key, None)
                else:
                    base[key] = overlay(base.get(key), value, keep_foreign, (*path, key))
            return base
        case list() | tuple() if _is_children(wanted):
            known = _by_name(existing)
            merged = [overlay(known.get(_name(child)), child, keep_foreign, path) for child in wanted]
            if path in keep_foreign:
                names = {_name(child) for child in wanted}
                merged += [child for name, child in known.items() if name not in names]
            return merged
        case list() | tuple():
            return list(wanted)
        case _:
            return wanted


# ARM never returns these, so their absence is no difference.
_WRITE_ONLY = frozenset({"customData", "adminPassword"})


def _present(wanted: Mapping[str, Any]) -> list[str]:
    return [key for key, value in wanted.items() if value is not None]


def _list_differs(existing: Any, wanted: Sequence[Any], keep_foreign: frozenset[Path], path: Path) -> bool:
    if not isinstance(existing, list | tuple):
        return bool(wanted)
    if _is_children(wanted):
        known = _by_name(existing)
        names = {_name(child) for child in wanted}
        if path not in keep_foreign and set(known) != names:
            return True
        return any(differs(known.get(_name(child)), child, keep_foreign, path) for child in wanted)
    if _is_references(wanted):
        return {entry["id"].lower() for entry in wanted} != {
            str(entry.get("id", "")).lower() for entry in existing if isinstance(entry, Mapping)
        } or any(
            differs(there, entry, keep_foreign, path)
            for entry in wanted
            for there in existing
            if str(there.get("id", "")).lower() == entry["id"].lower()
        )
    if all(isinstance(entry, str) for entry in wanted):
        return {str(entry).lower() for entry in existing} != {entry.lower() for entry in wanted}
    return len(existing) != len(wanted) or any(
        differs(there, entry, keep_foreign, path) for there, entry in zip(existing, wanted, strict=True)
    )


def _same_scalar(existing: Any, wanted: Any, path: Path) -> bool:
    if isinstance(existing, str) and isinstance(wanted, str):
        if path[-1:] == ("location",):
            return existing.replace(" ", "").lower() == wanted.replace(" ", "").lower()
        if wanted.lower().startswith("/subscriptions/") or path[-1:] in (("protocol",), ("vmSize",)):
            return existing.lower() == wanted.lower()
    return bool(existing == wanted)


def _is_children(wanted: Sequence[Any]) -> bool:
    return bool(wanted) and all(isinstance(entry, Mapping) and "name" in entry for entry in wanted)


def _is_references(wanted: Sequence[Any]) -> bool:
    return bool(wanted) and all(isinstance(entry, Mapping) and isinstance(entry.get("id"), str) for entry in wanted)


def _by_name(existing: Any) -> dict[str, Any]:
    if not isinstance(existing, list | tuple):
        return {}
    return {_name(entry): entry for entry in existing if isinstance(entry, Mapping) and "name" in entry}


def _name(child: Mapping[str, Any]) -> str:
    return str(child["name"]).lower()
