"""Walking /proc: who descends from whom, and signals that reach only who was meant."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from mirror_agent.app.processes import ProcessStat, descendants, read_stat, send_signal, tagged_processes


def stat(pid: int, parent: int, state: str = "S", threads: int = 1) -> ProcessStat:
    return ProcessStat(pid, parent, state, threads, start_ticks=pid)


def test_descendants_are_found_at_any_depth_and_the_root_is_not_one() -> None:
    table = {entry.pid: entry for entry in (stat(1, 0), stat(10, 1), stat(11, 10), stat(12, 11), stat(20, 1))}
    assert {entry.pid for entry in descendants(10, table)} == {11, 12}


def test_a_zombie_is_dead_but_not_one_whose_threads_run_on() -> None:
    assert not stat(5, 1, "Z").alive
    assert stat(5, 1, "Z", threads=3).alive
    assert stat(5, 1, "D").alive


def test_a_name_with_blanks_and_parentheses_does_not_confuse_the_fields(tmp_path: Path) -> None:
    odd = tmp_path / "a) S (b"
    shutil.copy("/bin/sleep", odd)
    with subprocess.Popen([str(odd), "60"]) as process:
        try:
            seen = read_stat(process.pid)
            assert seen is not None
            assert seen.parent == os.getpid()
            assert seen.threads == 1
        finally:
            process.kill()
    assert read_stat(process.pid) is None


def test_a_signal_does_not_reach_a_later_user_of_the_number() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as process:
        try:
            seen = read_stat(process.pid)
            assert seen is not None
            earlier = ProcessStat(seen.pid, seen.parent, seen.state, seen.threads, seen.start_ticks - 1)
            assert not send_signal(earlier, signal.SIGKILL)
            assert process.poll() is None
            assert send_signal(seen, signal.SIGKILL)
        finally:
            process.kill()
    assert not send_signal(seen, signal.SIGKILL)


def test_the_mark_in_the_environment_is_matched_whole(tmp_path: Path) -> None:
    mark = str(tmp_path)
    with subprocess.Popen(["/bin/sleep", "60"], env={"MARK": mark, "OTHER": "x"}) as process:
        try:
            assert [entry.pid for entry in tagged_processes("MARK", mark)] == [process.pid]
            assert tagged_processes("MARK", mark[:-1]) == []
            assert tagged_processes("ARK", mark) == []
        finally:
            process.kill()
