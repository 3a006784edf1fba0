"""The Windows form of the platform's port: clock, boot, access lists, files, the agent's own line, the watch."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import win32security
from mirror_agent.paths import private_directory, replace_file
from mirror_agent.platform import HOST

from tests.windows.facts import PATIENCE_S

assert sys.platform == "win32"

SDDL_REVISION = 1


def program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_clock_goes_on_and_the_boot_is_the_same_for_every_process() -> None:
    before = HOST.now_s()
    other = program("from mirror_agent.platform import HOST; print(HOST.boot_id(), HOST.now_s())")
    boot, now = other.stdout.split()
    assert boot == HOST.boot_id()
    assert before <= float(now) <= HOST.now_s()


def test_a_private_directory_inherits_nothing_and_names_system_and_administrators_only(tmp_path: Path) -> None:
    made = private_directory(tmp_path / "secrets")
    wanted = win32security.DACL_SECURITY_INFORMATION
    found = win32security.GetFileSecurity(str(made), wanted)
    text = win32security.ConvertSecurityDescriptorToStringSecurityDescriptor(found, SDDL_REVISION, wanted)
    assert "(A;OICI;FA;;;SY)" in text
    assert text.count("(A;") == 2
    replace_file(made / "key", b"one", 0o600)
    replace_file(made / "key", b"two", 0o600)
    assert (made / "key").read_bytes() == b"two"


def test_room_is_told_and_flushing_what_can_be_flushed_fails_nowhere(tmp_path: Path) -> None:
    room = HOST.room(tmp_path)
    assert 0 < room.free_bytes <= room.total_bytes
    HOST.flush_directory(tmp_path)
    HOST.sync_all()


def test_the_right_to_restart_the_machine_is_asked_for_and_not_used() -> None:
    assert HOST.fence_impediment() == ""


def test_only_who_knows_the_secret_is_let_in_and_only_its_owner_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "line"
    listening = HOST.listen_local(path)
    accepted: list[bytes] = []

    def serve() -> None:
        with HOST.accept_local(path, listening) as caller:
            accepted.append(caller.recv(5))
            caller.sendall(b"there")

    serving = threading.Thread(target=serve)
    serving.start()
    with HOST.connect_local(path, PATIENCE_S) as connection:
        connection.sendall(b"hello")
        assert connection.recv(5) == b"there"
    serving.join()
    assert accepted == [b"hello"]
    listening.close()
    with pytest.raises(ConnectionError):
        HOST.connect_local(path, 5.0)
    path.write_text("{")
    with pytest.raises(ConnectionRefusedError, match="names no port"):
        HOST.connect_local(path, 5.0)


def test_a_process_that_misses_its_own_watch_ends_and_says_where_it_stood() -> None:
    hung = program("import time; from mirror_agent.platform import HOST; HOST.watch_itself(1.0); time.sleep(3600)")
    assert hung.returncode == 1
    assert "most recent call first" in hung.stderr
    calm = program("from mirror_agent.platform import HOST; HOST.watch_itself(600.0); HOST.watch_itself(0)")
    assert calm.returncode == 0, calm.stderr


def test_who_holds_its_children_ends_with_its_own_exit_status() -> None:
    done = program("import sys; from mirror_agent.platform import HOST; HOST.hold_children(); sys.exit(78)")
    assert done.returncode == 78, done.stderr


def test_the_file_of_a_line_is_replaced_although_somebody_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "agent.sock"
    with HOST.listen_local(file) as first, open(file, encoding="ascii") as reader:
        closing = threading.Timer(0.2, reader.close)
        closing.start()
        with HOST.listen_local(file) as second:
            assert json.loads(file.read_text(encoding="ascii"))["port"] == second.getsockname()[1]
            assert second.getsockname() != first.getsockname()
        closing.join()
