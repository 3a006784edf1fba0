"""The engine process: `python -m mirror_agent.mirror --config FILE --socket PATH [--parent PID] [--estate FD FD]`.

Started and driven by the supervisor through `mirror_agent.mirror.control.MirrorHandle`; it ends with it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from mirror_agent.mirror import mounts
from mirror_agent.mirror.config import MirrorConfig, MirrorConfigError, config_from_json
from mirror_agent.mirror.control_server import ControlServer
from mirror_agent.mirror.engine import Engine
from mirror_agent.mirror.estate import Estate

if sys.platform == "win32":
    from mirror_agent.mirror import process_windows as process
else:
    from mirror_agent.mirror import process_linux as process

log: Final = logging.getLogger("mirror_agent.mirror")

# A request is small and Python frames are few: less stack per thread keeps the memory bound honest.
_STACK_BYTES: Final = 512 * 1024


def _leave_behind(config: MirrorConfig, parent: int | None) -> None:
    """Before this process ends by itself. A supervisor that lives puts another engine in its place. Without one, the
    mounts must not stay as something that hangs, nor vanish while applications may live: the next engine's start, when
    nobody serves here, detaches what is left of them."""
    if process.orphaned(parent):
        for entry in config.paths:
            mounts.disconnect(entry.path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="mirror_agent.mirror", description=__doc__)
    parser.add_argument("--config", required=True, type=Path)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--estate", type=int, nargs=2, metavar="FD", help="inherited sockets, see estate.py")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s mirror %(levelname)s %(threadName)s %(message)s"
    )
    process.prepare(arguments.parent)
    threading.stack_size(_STACK_BYTES)
    try:
        config = config_from_json(arguments.config.read_text(encoding="utf-8"))
    except MirrorConfigError as error:
        log.error("%s: %s", arguments.config, error)
        return 2

    def on_signal(number: int, _frame: FrameType | None) -> None:
        log.warning("signal %d: ending", number)
        _leave_behind(config, arguments.parent)
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    server = ControlServer(arguments.socket)
    estate = None
    if arguments.estate:
        estate = Estate(*(socket.socket(fileno=fd) for fd in arguments.estate))
    engine = Engine(config, server.changed, estate)
    try:
        server.serve(engine)
    finally:
        _leave_behind(config, arguments.parent)
    # Threads may be stuck in a dead disk; the kernel ends them with the process.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
