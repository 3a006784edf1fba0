"""Whose turn it is to read the next request of a mount: one thread's at a time.

Problem: if several threads wait for requests, each request wakes another one, which then fights the one before it for
the interpreter: two thread switches per request, more than the request itself takes. So the thread that answered a
request reads the next one, too.

Guarantee: while the mount is there, one thread has the turn or the next that is free takes it. Who is about to block
gives its turn away first. Who blocks without knowing it (a cold disk, a lock, a peer that does not read) loses it at
the second look of `relieve`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Taker(Protocol):
    """`unique`: number of the request it is carrying out, 0 for none."""

    unique: int


class Turns:
    """`add_thread` is called when somebody gives the turn away and nobody is waiting for it."""

    def __init__(self, add_thread: Callable[[], None]) -> None:
        self.holder: Taker | None = None
        self._add_thread = add_thread
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting = 0
        self._ended = False
        self._seen: tuple[Taker | None, int] = (None, 0)

    def take(self, who: Taker) -> None:
        """Waits for the turn."""
        with self._lock:
            self._waiting += 1
        self._turn.acquire()
        with self._lock:
            self._waiting -= 1
            self.holder = who

    def leave(self, who: Taker) -> None:
        """Gives the turn away; nothing if somebody else has it."""
        with self._lock:
            if self.holder is not who:
                return
            self.holder = None
            wanted = self._waiting == 0 and not self._ended
        if wanted:
            self._add_thread()
        self._turn.release()

    def end(self, who: Taker) -> None:
        """There are no more requests: those who wait for the turn are to find that out, others are not needed."""
        self._ended = True
        self.leave(who)

    def relieve(self) -> None:
        """To be called now and then: takes the turn from a thread that was busy with the same request last time."""
        who = self.holder
        now = (who, 0 if who is None else who.unique)
        stuck, self._seen = now == self._seen, now
        if who is not None and stuck and now[1]:
            self.leave(who)
