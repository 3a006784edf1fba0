"""The recorded result as tables: writes bench/results/mirror.md and puts the same text into docs/mirror.md.

    python -m bench.mirror.table            make both anew from bench/results/mirror.json
    python -m bench.mirror.table --check    change nothing; exit 1 if one of them is not up to date

In the document the text stands between the two lines `BEGIN` and `END`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.mirror.candidates import GLUSTERFS, ORDERED, RAW, STRICT
from bench.mirror.goals import Standing, standings
from bench.mirror.rounds import format_value

_ROOT: Final = Path(__file__).parents[2]
RESULT: Final = _ROOT / "bench" / "results" / "mirror.json"
TABLE: Final = RESULT.with_suffix(".md")
DOCUMENT: Final = _ROOT / "docs" / "mirror.md"
BEGIN: Final = "<!-- bench:begin (made by bench/mirror/table.py; do not edit) -->"
END: Final = "<!-- bench:end -->"
# Rows whose figure is a cost: no ratios to the raw disk, and less is better.
_COST_PREFIXES: Final = ("CPU:", "TLS cost:", "memory")
_LESS_IS_BETTER: Final = "s"
_HEAD: Final = (
    "| workload | raw ext4 | GlusterFS | strict | × Gl. | ordered | × Gl. | × raw |\n|---|--:|--:|--:|--:|--:|--:|--:|"
)


def _cell(value: float | None) -> str:
    return "–" if value is None else format_value(value)


def _ratio(entry: Mapping[str, Any], column: str, against: str) -> str:
    """How many times as good; for times and costs that is the inverse."""
    own, other = entry[column], entry[against]
    if not own or not other:
        return "–"
    less = entry["unit"] == _LESS_IS_BETTER or entry["row"].startswith(_COST_PREFIXES)
    return f"{other / own if less else own / other:.2f}"


def _line(entry: Mapping[str, Any]) -> str:
    cells = [
        f"{entry['row']} ({entry['unit']})",
        _cell(entry[RAW]),
        _cell(entry[GLUSTERFS]),
        _cell(entry[STRICT]),
        _ratio(entry, STRICT, GLUSTERFS),
        _cell(entry[ORDERED]),
        _ratio(entry, ORDERED, GLUSTERFS),
        _ratio(entry, ORDERED, RAW),
    ]
    return f"| {' | '.join(cells)} |"


def _table(title: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"### {title}", "", _HEAD, *map(_line, entries), ""] if entries else []


def _goal_line(standing: Standing) -> str:
    goal = standing.goal
    if standing.measured is None:
        measured, verdict = "–", "not measured"
    else:
        measured = f"{standing.measured:.2f} ×" if goal.against else _cell(standing.measured)
        verdict = "reached" if standing.reached else "**missed**"
    wire = "near" if goal.link_ms == 0 else f"+{goal.link_ms:g} ms"
    return f"| {goal.row.name} | {wire} | {goal.column} | {goal.text()} | {measured} | {verdict} |"


def render(result: Mapping[str, Any]) -> str:
    """The Markdown text of a recorded result."""
    rows = result["rows"]
    costs = [entry for entry in rows if entry["row"].startswith(_COST_PREFIXES)]
    speeds = [entry for entry in rows if entry not in costs]
    wires = result["round_trip_ms"]
    lines = [
        f"Medians of {result['rounds']} interleaved rounds, {result['date']}, `{result['command']}`. "
        f"{result['machine']}",
        "",
        f"Disks: {result['ground']}. Round trip of a TCP connection's set-up: near {wires['near']:.2f} ms, far "
        f"{wires['far']:.2f} ms. The mirror's stream is encrypted (mutual TLS 1.3) in every figure; GlusterFS "
        f"{result['glusterfs_version']} runs as Debian ships it, without TLS. × Gl. and × raw: how many times as good "
        "(for seconds and costs the inverse), so more is better everywhere.",
        "",
    ]
    for link_ms in sorted({entry["link_ms"] for entry in speeds}):
        title = "Near" if link_ms == 0 else f"With {link_ms:g} ms added round trip"
        lines += _table(title, [entry for entry in speeds if entry["link_ms"] == link_ms])
    lines += _table("Processor time (daemons of both nodes), memory, and the cost of TLS (near)", costs)
    lines += ["### Goals", "", "| workload | wire | mode | goal | measured | |", "|---|---|---|---|--:|---|"]
    lines += [*map(_goal_line, standings(rows)), ""]
    if result["failures"]:
        lines += ["### Not measured", "", *(f"- {failure.splitlines()[0]}" for failure in result["failures"]), ""]
    return "\n".join(lines)


def included(document: str, text: str) -> str:
    """The document with the text between its markers. ValueError if it does not have both, in order."""
    begin, end = document.find(BEGIN), document.find(END)
    if begin < 0 or end < begin:
        raise ValueError(f"the lines {BEGIN!r} and {END!r} mark the place of the table; they are not there")
    return f"{document[: begin + len(BEGIN)]}\n\n{text}\n{document[end:]}"


def _wanted(text: str) -> dict[Path, str]:
    """File -> content; the document only if it exists and has the markers."""
    wanted = {TABLE: text}
    if not DOCUMENT.exists():
        print(f"table: there is no {DOCUMENT.relative_to(_ROOT)} to put it into")
        return wanted
    try:
        wanted[DOCUMENT] = included(DOCUMENT.read_text(), text)
    except ValueError as error:
        print(f"table: {DOCUMENT.relative_to(_ROOT)}: {error}")
    return wanted


def update(*, check: bool) -> bool:
    """Makes both files anew (`check`: only looks); True if one was not up to date."""
    stale = False
    for path, content in _wanted(render(json.loads(RESULT.read_text()))).items():
        if path.exists() and path.read_text() == content:
            continue
        stale = True
        if not check:
            path.write_text(content)
        print(f"table: {path.relative_to(_ROOT)} {'is out of date' if check else 'written'}")
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.mirror.table")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if something is out of date")
    arguments = parser.parse_args()
    return 1 if update(check=arguments.check) and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
