"""A process that commits numbered transactions to one SQLite file and says on standard output which have returned.

    python -m tests.lab.torture.sqlite_client DATABASE JOURNAL FIRST

A line is written only after COMMIT returned; the process is meant to be killed. `synchronous` is extra: with a rollback
journal the commit is the removal of the journal, which only EXTRA flushes (sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import os
import sqlite3
import sys
from typing import Final

from tests.lab.torture.loads import row_text

KEPT: Final = 400
SCHEMA: Final = """
create table if not exists one (n integer primary key, v text not null);
create table if not exists two (n integer primary key, v text not null);
create index if not exists two_v on two (v);
create table if not exists account (id integer primary key, balance integer not null);
insert or ignore into account values (0, 0), (1, 0), (2, 0);
create table if not exists pruned (to_n integer not null);
insert into pruned select 0 where not exists (select 1 from pruned);
"""


def connect(path: str, journal: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma journal_mode={journal}")
    connection.execute("pragma synchronous=extra")
    connection.execute("pragma wal_autocheckpoint=60")
    return connection


def transaction(connection: sqlite3.Connection, number: int) -> None:
    text = row_text(0, number)
    connection.execute("begin immediate")
    connection.execute("insert into one values (?, ?)", (number, text))
    connection.execute("update account set balance = balance - ? where id = ?", (number, number % 3))
    connection.execute("update account set balance = balance + ? where id = ?", (number, (number + 1) % 3))
    if number % 100 == 0 and number > KEPT:
        connection.execute("delete from one where n <= ?", (number - KEPT,))
        connection.execute("delete from two where n <= ?", (number - KEPT,))
        connection.execute("update pruned set to_n = ?", (number - KEPT,))
    connection.execute("insert into two values (?, ?)", (number, text))
    connection.execute("commit")


def main() -> None:
    path, journal, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
    connection = connect(path, journal)
    number = first
    while True:
        transaction(connection, number)
        os.write(1, b"%d\n" % number)
        number += 1


if __name__ == "__main__":
    main()
