"""A small HTTP ledger over SQLite: the demo's application. Standard library only.

POST /entries {"id": N, "text": "..."} stores an entry durably (commit with fsync) and answers 201; the same id again
answers 200, so a client may repeat what was not answered. GET /entries lists the ids. GET / says who answers.
"""

import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = os.path.join(sys.argv[1], "ledger.db")
PORT = int(sys.argv[2])
LOCAL = threading.local()


def connection() -> sqlite3.Connection:
    if not hasattr(LOCAL, "connection"):
        LOCAL.connection = sqlite3.connect(DATABASE, timeout=30, isolation_level=None)
        LOCAL.connection.execute("PRAGMA journal_mode=WAL")
        LOCAL.connection.execute("PRAGMA synchronous=FULL")
    found: sqlite3.Connection = LOCAL.connection
    return found


class Ledger(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/entries":
            rows = connection().execute("SELECT id FROM entry ORDER BY id").fetchall()
            self.answer(200, {"entries": [row[0] for row in rows]})
        else:
            self.answer(200, {"node": os.environ.get("MODULE_NODE"), "epoch": int(os.environ.get("MODULE_EPOCH", "0"))})

    def do_POST(self) -> None:
        if self.path != "/entries":
            self.answer(404, {"error": f"no such path {self.path!r}; POST /entries"})
            return
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            number, text = int(body["id"]), str(body["text"])
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {"error": f"send {{'id': number, 'text': text}}: {error}"})
            return
        cursor = connection().execute("INSERT OR IGNORE INTO entry VALUES (?, ?)", (number, text))
        self.answer(201 if cursor.rowcount else 200, {"id": number, "node": os.environ.get("MODULE_NODE")})

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    os.makedirs(sys.argv[1], exist_ok=True)
    connection().execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    Server(("0.0.0.0", PORT), Ledger).serve_forever()


if __name__ == "__main__":
    main()
