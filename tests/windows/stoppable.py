"""An agent that is told to leave as its service tells it: from another thread, here when its standard input ends.

Ctrl+Break, the other way, needs a console, and Wine without a screen has none.
"""

from __future__ import annotations

import os
import sys
import threading

from mirror_agent.platform import windows
from mirror_agent.supervisor import main

assert sys.platform == "win32"


def _wait() -> None:
    while os.read(0, 1):
        pass
    windows.ask_to_stop()


if __name__ == "__main__":
    threading.Thread(target=_wait, daemon=True).start()
    sys.exit(main())
