"""First boot: carry out the plan the host made of the cloud-init document, once per instance.

Order as in Debian's cloud.cfg: write_files, disks and mounts, then deferred files, then runcmd as one shell script
whose lines go on after a failure. Output: /var/log/cloud-init-output.log. /var/lib/cloud/instance/boot-finished
exists when done; /var/lib/cloud/data/result.json holds the errors, as with cloud-init. A step that fails is reported
and the next one runs, again as cloud-init does.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.vm.guest import fstab

PLAN = Path("/var/lib/cloud/seed/plan.json")
INSTANCE = Path("/var/lib/cloud/instance")
RESULT = Path("/var/lib/cloud/data/result.json")
FINISHED = INSTANCE / "boot-finished"


def pending() -> bool:
    return PLAN.exists() and not FINISHED.exists()


def run() -> int:
    started = time.monotonic()
    plan = json.loads(PLAN.read_text())
    errors: list[str] = []
    INSTANCE.mkdir(parents=True, exist_ok=True)
    for entry in plan["write_files"]:
        if not entry["defer"]:
            _attempt(errors, f"write_files {entry['path']}", lambda entry=entry: _write_file(entry))
    for mount in plan["mounts"]:
        _attempt(errors, f"mounts {mount['mount_point']}", lambda mount=mount: _mount(mount))
    for entry in plan["write_files"]:
        if entry["defer"]:
            _attempt(errors, f"write_files {entry['path']}", lambda entry=entry: _write_file(entry))
    if plan["runcmd"]:
        _attempt(errors, "runcmd", lambda: _run_commands(plan["runcmd"]))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({"v1": {"datasource": "DataSourceAzure [lab]", "errors": errors}}))
    FINISHED.write_text(f"{time.monotonic() - started:.1f}\n")
    # The seed carries the enrolment token; the instance has what it needs.
    PLAN.unlink()
    print(f"cloud-init: finished after {time.monotonic() - started:.1f} s, {len(errors)} errors", flush=True)
    return 1 if errors else 0


def _attempt(errors: list[str], step: str, do: Any) -> None:
    try:
        do()
    except (OSError, ValueError, KeyError, LookupError, fstab.MountFailed, subprocess.SubprocessError) as error:
        errors.append(f"{step}: {error}")
        print(f"cloud-init: {step} failed: {error}", file=sys.stderr, flush=True)


def _write_file(entry: Mapping[str, Any]) -> None:
    path = Path(entry["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    content = base64.b64decode(entry["content_b64"])
    # Never readable to others before its mode is set: the file may hold a token.
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if entry["append"] else os.O_TRUNC)
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), int(entry["permissions"], 8))
    user, _, group = str(entry["owner"]).partition(":")
    shutil.chown(path, user=user or "root", group=group or "root")


def _mount(mount: Mapping[str, str]) -> None:
    fstab.add_entry(mount["device"], mount["mount_point"], mount["fs_type"], mount["options"])
    for sentence in fstab.mount_all():
        print(f"cloud-init: {sentence}", flush=True)


def _run_commands(script: str) -> None:
    path = INSTANCE / "scripts" / "runcmd"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o700)
    done = subprocess.run([str(path)], check=False, cwd="/")
    if done.returncode != 0:
        raise ValueError(f"the script ended with {done.returncode}")
