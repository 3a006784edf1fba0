"""`/usr/bin/systemctl` of a VM of the lab: hands its arguments to PID 1 and prints the answer."""

from __future__ import annotations

import json
import socket
import sys

from lab.vm.guest.init import CONTROL_SOCKET

QUIET = frozenset({"-q", "--quiet"})


def main(argv: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(CONTROL_SOCKET)
            connection.sendall(json.dumps({"argv": argv}).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        except (OSError, ValueError) as error:
            print(f"systemctl: init does not answer: {error}", file=sys.stderr)
            return 1
    if answer["out"] and not QUIET & set(argv):
        print(answer["out"])
    if answer["err"]:
        print(answer["err"], file=sys.stderr)
    return int(answer["code"])
