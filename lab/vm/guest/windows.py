"""Inside a VM that stands in for Windows: what its extension would fetch, then the first boot of its stand-in.

Reads {"downloads": […], "plan": {…}, "banner": "…"} from standard input; the plan carries the enrolment token, so it
goes through no argument and no log. Each download has to have its SHA-256 and is kept beside the others. Run again
after a failure it does what is left. Output is the extension's.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from lab.vm.guest import firstboot, words

HOME = Path("/var/lib/windows-stand-in")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
DEADLINE_S = 120.0
TIMEOUT_S = 30.0


def main() -> int:
    told = json.load(sys.stdin)
    print(told["banner"], flush=True)
    try:
        for entry in told["downloads"]:
            _fetch(entry["url"], entry["sha256"])
        _cmd_exe()
        words.make_certificate(BUNDLE)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        print(f"failed: {error}", flush=True)
        return 1
    firstboot.FINISHED.unlink(missing_ok=True)
    firstboot.PLAN.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(firstboot.PLAN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(told["plan"], file)
    return firstboot.run()


def _fetch(url: str, sha256: str) -> None:
    """The bytes with this SHA-256, or ValueError."""
    kept = HOME / "downloads" / sha256
    if kept.exists():
        return
    context = ssl.create_default_context(cafile=str(BUNDLE))
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as answer:
                content: bytes = answer.read()
            break
        except (urllib.error.URLError, TimeoutError) as error:
            if time.monotonic() >= end:
                raise ValueError(f"{url} cannot be fetched: {error}") from error
            time.sleep(1.0)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"what {url} answers has the SHA-256 {found}, not {sha256}; it is not used")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(content)
    print(f"{url}: {len(content)} bytes, as announced", flush=True)


def _cmd_exe() -> None:
    """Wine's Windows directory, and drive M: on the data disk."""
    if not (words.PREFIX / "system.reg").exists():
        words.PREFIX.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["wine", "wineboot", "-i"], env=words.wine_environment(), stdin=subprocess.DEVNULL, check=True)
        subprocess.run(["wineserver", "-w"], env=words.wine_environment(), check=True)
    for drive in words.DRIVES:
        link = words.PREFIX / "dosdevices" / f"{drive.lower()}:"
        link.unlink(missing_ok=True)
        link.symlink_to(words.DRIVES[drive])
