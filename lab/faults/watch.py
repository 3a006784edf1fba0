"""Observers that sample both nodes and the witness record from the beginning to the end of the matrix.

The nodes are asked from inside their own network namespace, so a partition hides nothing from us: each thread enters
the namespace, keeps one connection, and enters it anew after a restart of the VM. A question is asked every PERIOD_S;
what is not answered within TIMEOUT_S counts as no answer.
Limit: a busy machine stretches the period, and a question without an answer lasts TIMEOUT_S; the longest time between
two questions to a node is part of the results (`blind_s`).
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from azure.core.exceptions import AzureError
from azure.data.tables import TableClient

from lab.fabric.namespaces import DIRECTORY, enter
from lab.faults.client import Journal
from lab.faults.model import Ack, Alive, RecordSeen, Sample

PROBE_PORT: Final = 9010
PERIOD_S: Final = 0.05
RECORD_PERIOD_S: Final = 0.1
TIMEOUT_S: Final = 1.0
WRITE_EVERY: Final = 5  # of the questions to the application, one is a write


class _Asker:
    """One connection inside a VM's network, for one thread."""

    def __init__(self, namespace: str, port: int) -> None:
        self._namespace = namespace
        self._port = port
        self._inside = 0
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any] | None:
        """(status, document), or None."""
        try:
            self._follow()
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
            data = None if body is None else json.dumps(body)
            self._connection.request(method, path, body=data)
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            self.close()
            return None

    def _follow(self) -> None:
        inode = os.stat(DIRECTORY / self._namespace).st_ino
        if inode != self._inside:
            self.close()
            enter(self._namespace)
            self._inside = inode

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Watch:
    """Threads that fill `samples`, `alive` and `records`; direct writes go to the journal that is set."""

    def __init__(self, namespaces: dict[str, str], application_port: int, witness: TableClient, row: str) -> None:
        """`namespaces`: node → network namespace; `row`: the cluster's id, partition of its witness record."""
        self._end = threading.Event()
        self._witness = witness
        self._row = row
        self.journal: Journal | None = None
        self.write_every = WRITE_EVERY
        self.samples: list[Sample] = []
        self.alive: list[Alive] = []
        self.records: list[RecordSeen] = []
        self._latest: dict[str, Sample] = {}
        self._failures: list[str] = []
        work: list[tuple[str, Callable[[], None]]] = [("record", self._watch_record)]
        for node, namespace in namespaces.items():
            work.append((f"probe-{node}", lambda n=node, s=namespace: self._watch_probe(n, s)))  # type: ignore[misc]
            work.append((f"app-{node}", lambda n=node, s=namespace: self._watch_app(n, s, application_port)))  # type: ignore[misc]
        self._threads = [threading.Thread(target=self._guarded(name, run), name=name) for name, run in work]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def latest(self, node: str) -> Sample | None:
        """The newest sample; RuntimeError when an observer died, because then nothing may be concluded."""
        if self._failures:
            raise RuntimeError(f"an observer of the fault matrix died: {self._failures}")
        return self._latest.get(node)

    def forget(self) -> None:
        """Begin a new case; the newest record stays, so that the first change has something to differ from."""
        self.samples, self.alive, self.records = [], [], self.records[-1:]

    def _guarded(self, name: str, run: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            try:
                run()
            except Exception as error:  # noqa: BLE001 - a dead observer must be seen by the judge, not by stderr only
                self._failures.append(f"{name}: {type(error).__name__}: {error}")

        return guarded

    def _watch_probe(self, node: str, namespace: str) -> None:
        asker = _Asker(namespace, PROBE_PORT)
        while not self._end.wait(PERIOD_S):
            sent_at = time.monotonic()
            answer = asker.ask("GET", "/health")
            received_at = time.monotonic()
            sample = Sample(node, sent_at, received_at, False)
            if answer is not None and "role" in answer[1]:
                said = answer[1]
                sample = Sample(
                    node, sent_at, received_at, True, said["serving"], said["role"], said["phase"], said["epoch"]
                )
            self.samples.append(sample)
            self._latest[node] = sample
        asker.close()

    def _watch_app(self, node: str, namespace: str, port: int) -> None:
        asker, turn = _Asker(namespace, port), 0
        while not self._end.wait(PERIOD_S):
            turn += 1
            journal = self.journal
            if journal is not None and turn % self.write_every == 0 and self._serves_lately(node):
                self._write_directly(asker, node, journal)
                continue
            sent_at = time.monotonic()
            answer = asker.ask("GET", "/")
            if answer is not None:
                self.alive.append(Alive(node, sent_at, time.monotonic(), answer[1]["epoch"]))
        asker.close()

    def _serves_lately(self, node: str) -> bool:
        """An application answered here within the last moments; without one there is nobody to write to."""
        now = time.monotonic()
        return any(item.node == node and now - item.received_at < TIMEOUT_S for item in self.alive[-2 * WRITE_EVERY :])

    def _write_directly(self, asker: _Asker, node: str, journal: Journal) -> None:
        number, value = journal.attempt()
        sent_at = time.monotonic()
        answer = asker.ask("POST", "/entries", {"id": number, "text": value})
        if answer is not None and answer[0] in (200, 201):
            journal.acknowledge(Ack(number, str(answer[1]["node"]), sent_at, time.monotonic(), node))

    def _watch_record(self) -> None:
        while not self._end.wait(RECORD_PERIOD_S):
            sent_at = time.monotonic()
            with suppress(AzureError):  # storage that is being restarted says nothing; the next reading will
                row = self._witness.get_entity(self._row, "record")
                members = tuple(name for name in str(row["in_sync"]).split(",") if name)
                epoch, primary, rule = int(row["epoch"]), str(row["primary"]), str(row.get("rule", ""))
                self.records.append(RecordSeen(sent_at, time.monotonic(), epoch, primary, members, rule))
