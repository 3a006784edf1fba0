"""Boot one VM: the program the lab starts as the VM's "hypervisor" process. `python -m lab.vm.boot SPEC.json`

It joins the VM's control group and network namespace, makes new pid, mount, uts, ipc and cgroup namespaces, mounts the
disks, forks PID 1 into them and waits. When this process dies, PID 1 gets SIGKILL (PR_SET_PDEATHSIG) and the kernel
ends every process of the pid namespace; the mounts go with the last of them. Its exit status says how the VM ended:
0 powered off by the guest, 64 reboot wanted, 1 could not boot, 137 killed.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import traceback
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from lab.children import die_with_parent
from lab.vm.mounts import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    bind,
    drop_from_bounding_set,
    mount,
    pivot_root,
    set_hostname,
)
from lab.vm.rootfs import GUEST_DIRECTORY, WHEELHOUSE

EXIT_REBOOT: Final = 64
EXIT_NO_BOOT: Final = 1
DEVICES: Final = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("fuse", 10, 229),
)
# What a guest must not do to the machine: load modules, raw I/O, set the clock, read the kernel log, MAC policy.
DROPPED_CAPABILITIES: Final = (16, 17, 25, 32, 33, 34)
PROC_SHIELDED: Final = ("sysrq-trigger", "kcore", "kmsg")


@dataclass(frozen=True, slots=True)
class BootSpec:
    """Everything about one boot; travels as JSON (no secret in it)."""

    hostname: str
    namespace: str
    cgroup: str
    disk: str  # OS disk: upper, work, root
    data_disks: dict[str, str]  # "lun0" -> directory
    channel: str  # shared with the guest: pid1, booted
    wheelhouse: str

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))


def main(spec_path: Path) -> int:
    spec = BootSpec(**json.loads(spec_path.read_text()))
    (Path(spec.cgroup) / "cgroup.procs").write_text("0")
    with open(f"/run/netns/{spec.namespace}") as namespace:
        os.setns(namespace.fileno(), os.CLONE_NEWNET)
    os.unshare(os.CLONE_NEWNS | os.CLONE_NEWUTS | os.CLONE_NEWIPC | os.CLONE_NEWPID | os.CLONE_NEWCGROUP)
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    parent = os.getpid()
    # Opened before the fork: the child's pivot_root moves our root as well, and paths of the machine are gone then.
    channel = os.open(spec.channel, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _pid_one(spec, parent)
    pid_file = os.open("pid1", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644, dir_fd=channel)
    os.write(pid_file, str(pid).encode())
    os.close(pid_file)
    os.close(channel)
    # The power button reaches the guest through us; the lab may also signal PID 1 itself.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        # reboot(2) in a pid namespace ends its PID 1 with SIGHUP (restart) or SIGINT (halt): pid_namespaces(7).
        match os.WTERMSIG(status):
            case signal.SIGHUP:
                return EXIT_REBOOT
            case signal.SIGINT:
                return 0
            case number:
                return 128 + number
    return os.WEXITSTATUS(status)


def _pid_one(spec: BootSpec, parent: int) -> None:
    """In the child: never returns."""
    code = EXIT_NO_BOOT
    try:
        # getppid() is 0 across the pid namespace, so the race of a parent already dead is left to the control group.
        die_with_parent(0)
        os.setsid()
        _mount_root(spec)
        set_hostname(spec.hostname)
        for capability in DROPPED_CAPABILITIES:
            drop_from_bounding_set(capability)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        os.execve("/usr/bin/python3", ["/usr/bin/python3", "-I", f"/{GUEST_DIRECTORY}", "init"], environment)
    except OSError as error:
        print(f"boot of {spec.hostname} (hypervisor {parent}): {error}", file=sys.stderr, flush=True)
    except BaseException:  # noqa: BLE001 - `finally` ends this process: nobody else will ever say what happened
        traceback.print_exc()
    finally:
        os._exit(code)


def _mount_root(spec: BootSpec) -> None:
    disk = Path(spec.disk)
    root = disk / "root"
    layers = f"lowerdir=/,upperdir={disk / 'upper'},workdir={disk / 'work'}"
    mount("overlay", root, "overlay", 0, layers)
    mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("tmpfs", root / "run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=128m")
    _devices(root / "dev")
    _sysfs(root / "sys")
    bind(Path(spec.channel), root / "run/lab/channel")
    for name, directory in spec.data_disks.items():
        bind(Path(directory), root / "run/lab/disks" / name)
    bind(Path(spec.wheelhouse), Path(f"{root}{WHEELHOUSE}"), read_only=True)
    _shield_proc(root)
    pivot_root(root)


def _devices(dev: Path) -> None:
    mount("tmpfs", dev, "tmpfs", MS_NOSUID, "mode=755,size=1m")
    os.umask(0)
    for name, major, minor in DEVICES:
        os.mknod(dev / name, stat.S_IFCHR | (0o600 if name == "fuse" else 0o666), os.makedev(major, minor))
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(target)
    (dev / "ptmx").symlink_to("pts/ptmx")
    for name in ("pts", "shm"):
        (dev / name).mkdir()
    mount("devpts", dev / "pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", dev / "shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    os.umask(0o022)


def _sysfs(sys_directory: Path) -> None:
    mount("sysfs", sys_directory, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("cgroup2", sys_directory / "fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if (sys_directory / "fs/fuse/connections").is_dir():
        mount("fusectl", sys_directory / "fs/fuse/connections", "fusectl", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _shield_proc(root: Path) -> None:
    """A fresh boot id, and no way from the guest to the machine's kernel switches."""
    boot_id = root / "run/lab/boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    proc = root / "proc"
    mount(proc / "sys", proc / "sys", "none", MS_BIND)
    mount("none", proc / "sys", "none", MS_REMOUNT | MS_BIND | MS_RDONLY)
    mount(boot_id, proc / "sys/kernel/random/boot_id", "none", MS_BIND)
    for name in PROC_SHIELDED:
        if (proc / name).exists():
            mount(root / "dev/null", proc / name, "none", MS_BIND)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
