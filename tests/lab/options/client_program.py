"""A client on a machine of a virtual network; the machine's own Python runs it, standard library only.

`python3 - write|ask URL STOP`: until the file STOP is there (ten minutes at most), each request once and on a
connection of its own. `write` posts a new entry of the ledger, `ask` gets what the application says of itself. One JSON
line for each request: {"began", "ended", "id", "said", "failure"}; `failure` is "" for an answer of success.
"""

import http.client
import itertools
import json
import os
import sys
import time
import urllib.parse

LONGEST_S = 600
TIMEOUT_S = 2.0
PAUSE_S = 0.03


def request(what: str, url: urllib.parse.SplitResult, number: int) -> tuple[str, str]:
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=TIMEOUT_S)
    try:
        if what == "write":
            connection.request("POST", "/entries", json.dumps({"id": number, "text": f"entry {number}"}))
        else:
            connection.request("GET", "/")
        answer = connection.getresponse()
        said = answer.read().decode()
        return said, "" if answer.status in (200, 201) else f"status {answer.status}"
    except (OSError, http.client.HTTPException) as error:
        return "", type(error).__name__
    finally:
        connection.close()


def main(what: str, url: str, stop: str) -> None:
    limit = time.monotonic() + LONGEST_S
    for number in itertools.count(1):
        if os.path.exists(stop) or time.monotonic() > limit:
            return
        began = time.monotonic()
        said, failure = request(what, urllib.parse.urlsplit(url), number)
        line = {"began": began, "ended": time.monotonic(), "id": number, "said": said, "failure": failure}
        print(json.dumps(line), flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
