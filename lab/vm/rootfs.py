"""The OS disk of a VM: an overlay whose lower layer is the machine's own root file system.

What is written here into the upper layer makes a fresh "image" out of it: an empty /root, /home, /opt, /srv, /tmp,
/var/log and /etc/systemd/system, none of the machine's other top-level directories, a host name, a machine id,
/etc/pip.conf naming the wheelhouse, the lab's CA among the trusted ones, and the `systemctl` shim with the guest
programs. The upper layer lives as long as the OS disk; `prepare` runs once on it.

Limits: /usr, /etc and /var of the machine must lie on its root file system (an overlay does not see other mounts).
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lab.vm.guest as guest_package

KEPT: Final = frozenset(
    [
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "media",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "tmp",
        "usr",
        "var",
    ]
)
EMPTIED: Final = (
    "etc/systemd/system",
    "home",
    "media",
    "mnt",
    "opt",
    "root",
    "srv",
    "tmp",
    "usr/local",
    "var/lib/cloud",
    "var/log",
    "var/tmp",
)
STICKY: Final = ("tmp", "var/tmp")
MUST_BE_ON_ROOT: Final = ("/usr", "/etc", "/var", "/lib")
GUEST_DIRECTORY: Final = "usr/lib/lab-guest"
WHEELHOUSE: Final = "/usr/share/wheelhouse"
PREPARED: Final = "prepared"
PROVIDED_RESOLVER: Final = "168.63.129.16"  # Azure's; nobody answers there, names other than own are not resolved


class ImageUnusable(RuntimeError):
    """The machine's root file system cannot serve as the image; says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What distinguishes this VM's image from another's."""

    hostname: str
    machine_id: str  # 32 hex digits
    addresses: tuple[str, ...]
    lab_ca_pem: str


def check_image() -> None:
    """Raises `ImageUnusable` when the overlay would miss parts of the system."""
    root_device = os.stat("/").st_dev
    for directory in MUST_BE_ON_ROOT:
        if os.stat(directory).st_dev != root_device:
            raise ImageUnusable(
                f"{directory} is a file system of its own; the lab's VMs need it on the root file system"
            )


def prepare(disk: Path, identity: Identity) -> None:
    """Make the upper layer of a new OS disk below `disk`; does nothing for one that was prepared."""
    if (disk / PREPARED).exists():
        return
    check_image()
    if disk.exists():
        shutil.rmtree(disk)
    upper = disk / "upper"
    for directory in (upper, disk / "work", disk / "root"):
        directory.mkdir(parents=True)
    upper.chmod(0o755)
    _hide_the_machine(upper)
    _install_guest(upper)
    _write_identity(upper, identity)
    (disk / PREPARED).touch()


def _hide_the_machine(upper: Path) -> None:
    for entry in os.scandir("/"):
        if entry.name not in KEPT and not entry.name.startswith("."):
            # A character device 0:0 is overlayfs's "deleted" mark.
            os.mknod(upper / entry.name, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    for name in EMPTIED:
        directory = upper / name
        _copy_parents(upper, Path(name))
        directory.mkdir(mode=0o755, exist_ok=True)
        os.setxattr(directory, "trusted.overlay.opaque", b"y")
        if name in STICKY:
            directory.chmod(0o1777)
    for name in ("bin", "sbin", "lib", "share"):
        (upper / "usr/local" / name).mkdir()
    (upper / "root").chmod(0o700)


def _copy_parents(upper: Path, relative: Path) -> None:
    """Parents of a new entry keep the machine's mode: a directory in the upper layer shows its own."""
    for parent in reversed(relative.parents):
        target, original = upper / parent, Path("/") / parent
        if not target.exists():
            target.mkdir()
            target.chmod(stat.S_IMODE(original.stat().st_mode) if original.is_dir() else 0o755)


def _write(upper: Path, relative: str, content: str, mode: int = 0o644) -> None:
    path = Path(relative)
    _copy_parents(upper, path)
    target = upper / path
    target.unlink(missing_ok=True)
    target.write_text(content)
    target.chmod(mode)


def _install_guest(upper: Path) -> None:
    sources = Path(guest_package.__path__[0])
    target = upper / GUEST_DIRECTORY
    _copy_parents(upper, Path(GUEST_DIRECTORY) / "x")
    package = target / "lab" / "vm" / "guest"
    shutil.copytree(sources, package, ignore=shutil.ignore_patterns("__pycache__"))
    for directory in (target / "lab", target / "lab" / "vm"):
        (directory / "__init__.py").touch()
    (target / "__main__.py").write_text("import sys\n\nfrom lab.vm.guest.entry import main\n\nsys.exit(main())\n")
    shim = f'#!/bin/sh\nexec /usr/bin/python3 -I /{GUEST_DIRECTORY} systemctl "$@"\n'
    _write(upper, "usr/bin/systemctl", shim, 0o755)
    policy = "#!/bin/sh\nexit 101\n"  # Debian's way to say: package scripts start no service here
    _write(upper, "usr/sbin/policy-rc.d", policy, 0o755)


def _write_identity(upper: Path, identity: Identity) -> None:
    name = identity.hostname
    _write(upper, "etc/hostname", f"{name}\n")
    own = "".join(f"{address} {name}\n" for address in identity.addresses)
    _write(upper, "etc/hosts", f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{own}")
    _write(upper, "etc/resolv.conf", f"nameserver {PROVIDED_RESOLVER}\noptions timeout:1 attempts:1\n")
    _write(upper, "etc/machine-id", f"{identity.machine_id}\n")
    _write(upper, "etc/fstab", "# Data disks are added by cloud-init.\n")
    # Compiling at installation would cost each new VM seconds on a small machine; Python compiles at first import.
    pip = f"[global]\nno-index = true\nfind-links = {WHEELHOUSE}\ndisable-pip-version-check = true\n"
    _write(upper, "etc/pip.conf", f"{pip}[install]\ncompile = false\n")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    trusted = bundle.read_text() if bundle.exists() else ""
    _write(upper, "etc/ssl/certs/ca-certificates.crt", f"{trusted}\n{identity.lab_ca_pem}")
    _write(upper, "usr/local/share/ca-certificates/lab.crt", identity.lab_ca_pem)
    # OpenSSL's default is the directory of hashed names, not the bundle.
    _write(upper, f"etc/ssl/certs/{_subject_hash(identity.lab_ca_pem)}.0", identity.lab_ca_pem)


def _subject_hash(pem: str) -> str:
    argv = ["openssl", "x509", "-noout", "-subject_hash"]
    return subprocess.run(argv, input=pem, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
