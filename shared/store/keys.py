"""Keys of table rows: allowed characters, newest-first order, day partitions.

Table Storage sorts by RowKey as text and has no "order by", so newest first means a key that falls as time rises:
reverse ticks, zero-padded to 19 digits. A day partition (`cluster|node|20261122`) lets retention drop whole days.
Source: Microsoft's log-tail pattern; forbidden characters from "Understanding the Table service data model".
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from mirror_agent.contract import NodeName

MAX_KEY_CHARS: Final = 512  # 1 KiB as UTF-16
MAX_TICKS: Final = 3155378975999999999  # .NET DateTime.MaxValue
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_TICKS: Final = 621355968000000000
_TICK: Final = timedelta(microseconds=1)
_FORBIDDEN: Final = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")


def checked_key(key: str) -> str:
    """`key`, if a table accepts it. Raises ValueError: a key made from outside text must be hashed first."""
    if len(key) > MAX_KEY_CHARS:
        raise ValueError(f"table key of {len(key)} characters; {MAX_KEY_CHARS} is the limit; hash it")
    found = _FORBIDDEN.search(key)
    if found is not None:
        raise ValueError(f"table key {key!r} contains {found.group()!r}, which Table Storage forbids; hash it")
    return key


def reverse_ticks(at: datetime) -> str:
    """19 digits that sort newest first. `at` must be aware."""
    ticks = _EPOCH_TICKS + ((at - _EPOCH) // _TICK) * 10
    return f"{MAX_TICKS - ticks:019d}"


def reverse_number(number: int) -> str:
    """12 digits that sort the greatest first, for sequence numbers below 10^12."""
    return f"{10**12 - 1 - min(number, 10**12 - 1):012d}"


def history_key(agent_start_seen_at: datetime, sequence: int) -> str:
    """Of a recorded heartbeat: newest agent start first, then the greatest sequence. Unlike an arrival time, this is
    the same again when a node repeats a post whose answer was lost."""
    return f"{reverse_ticks(agent_start_seen_at)}-{reverse_number(sequence)}"


def event_key(received_at: datetime, source: str, event_id: str) -> str:
    """Of a recorded event: newest arrival first; of one moment, in the order of their digests."""
    return f"{reverse_ticks(received_at)}-{digest(source, event_id)}"


def day_text(day: date) -> str:
    return f"{day:%Y%m%d}"


def node_day(cluster_id: str, node: NodeName, day: date) -> str:
    return checked_key(f"{cluster_id}|{node}|{day_text(day)}")


def events_of(cluster: str, day: str) -> str:
    """The partition of a cluster's events of a day; the day comes first, so that retention drops a range. The name is
    outside text here (it was read from the event), so its digest stands for it."""
    return f"of-{day}|{digest(cluster)}"


def digest(*parts: str) -> str:
    """A key of 32 characters for outside text; the parts cannot run into one another."""
    joined = "\n".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(joined.encode()).hexdigest()[:32]
