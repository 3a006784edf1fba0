"""The certificates a node of a pair knows to be revoked: its own ones, and those the other node has told it of.

Guarantee: what was heard of once is refused until the certificate would have ended, whatever becomes of the file or the
node it was heard from; then it is forgotten, so the list and the open port end too. A machine that was made anew knows
nothing until the other one tells it, its own revocations among them.
Limits: MAX_KNOWN, of which those stay that end last; told ends are believed up to MOST from now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, ValidationError

from mirror_agent.contract import MAX_REVOKED_SERIALS, Contract
from mirror_agent.eventlog import RecordEvent
from mirror_agent.pair.documents import complaint
from mirror_agent.pair.files import PairFiles
from mirror_agent.pair.links import CERTIFICATE_VALIDITY, MAX_LINKS, MAX_SERIALS, Serial

MAX_KNOWN: Final = 4 * MAX_REVOKED_SERIALS
# The other node's clock may go ahead of this one's.
MOST: Final = CERTIFICATE_VALIDITY + timedelta(days=1)
assert 2 * (MAX_LINKS + MAX_SERIALS) <= MAX_KNOWN, "what both nodes can revoke is refused by each"


class RevokedAnswer(Contract):
    """GET /pair/v1/revoked, and the file: when each certificate ends."""

    ends: Annotated[dict[Serial, AwareDatetime], Field(max_length=MAX_KNOWN)]


class Revocations:
    """Used on the loop only; `save` writes in a thread."""

    def __init__(self, files: PairFiles, log: RecordEvent) -> None:
        self._files = files
        self._log = log
        self._ends = self._load()
        self._unsaved = False
        self._saving = asyncio.Lock()

    def known(self, now: datetime) -> dict[str, datetime]:
        """Of certificates that have not ended."""
        return {serial: ends_at for serial, ends_at in self._ends.items() if now < ends_at}

    def learn(self, told: Mapping[str, datetime], now: datetime) -> None:
        """Never fewer, but for those that have ended. An end that is known stays as it is."""
        news = {serial: min(ends_at, now + MOST) for serial, ends_at in told.items() if serial not in self._ends}
        ends = {serial: ends_at for serial, ends_at in (self._ends | news).items() if now < ends_at}
        if len(ends) > MAX_KNOWN:
            self._log("pair.revoked-list-full", known=len(ends), kept=MAX_KNOWN)
            ends = dict(sorted(ends.items(), key=lambda entry: entry[1])[-MAX_KNOWN:])
        if ends != self._ends:
            self._ends, self._unsaved = ends, True

    async def save(self) -> None:
        """What has changed. Raises OSError; it is tried again at the next call."""
        async with self._saving:
            if self._unsaved:
                self._unsaved = False
                content = RevokedAnswer(ends=self._ends).model_dump_json(by_alias=True).encode()
                try:
                    await asyncio.to_thread(self._files.write, self._files.revoked, content)
                except OSError:
                    self._unsaved = True
                    raise

    def _load(self) -> dict[str, datetime]:
        try:
            return dict(RevokedAnswer.model_validate_json(self._files.revoked.read_bytes()).ends)
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._log("pair.revoked-list-unreadable", error=str(error))
        except ValidationError as error:
            self._log("pair.revoked-list-unreadable", error=f"{self._files.revoked}: {complaint(error)}")
        return {}
