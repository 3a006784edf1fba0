"""Data disks that are file systems of their own: small, and able to fail.

The lab's data disk is a directory of the machine. For the cases about disks each node's directory is moved into an ext4
image of IMAGE_MIB, mounted through a loop device at the same place, so that it can be full, be remounted read-only by a
file system error, and stall, without touching the machine's own disk. The machine sees the same mount as the VM.
Limit: a stalled (frozen) file system holds its writers in an uninterruptible wait; no process of it can be killed until
it is thawed, so `stalled` thaws before anything else happens.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from lab.fabric.commands import run
from lab.faults.place import Place
from lab.vm.mounts import MNT_DETACH, unmount

IMAGE_MIB: Final = 192
FILLER: Final = "filler"
BLOCK_BYTES: Final = 4096
CHUNK_BYTES: Final = 1024 * 1024


def image_of(place: Place) -> Path:
    return place.data_disk.with_name(f"{place.data_disk.name}.img")


def mounted(place: Place) -> bool:
    return os.path.ismount(place.data_disk)


async def move_to_image(place: Place) -> None:
    """The node's VM is off. What the disk holds moves into the image."""
    image, disk = image_of(place), place.data_disk
    await run(["truncate", f"--size={IMAGE_MIB}M", str(image)])
    # Without reserved blocks: full is full for root too.
    await run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)])
    before = disk.with_name(f"{disk.name}.before")
    disk.rename(before)
    disk.mkdir()
    await mount_image(place)
    await run(["cp", "-a", f"{before}/.", str(disk)])
    await asyncio.to_thread(shutil.rmtree, before)


async def mount_image(place: Place) -> None:
    await run(["mount", "-o", "loop,errors=remount-ro", str(image_of(place)), str(place.data_disk)])


async def repair_image(place: Place) -> None:
    """The node's VM is off: as an operator would, check the file system and mount it anew."""
    await run(["umount", str(place.data_disk)])
    await run(["sh", "-c", f"e2fsck -fy {image_of(place)} || [ $? -eq 1 ]"])
    await mount_image(place)


def detach(place: Place) -> None:
    """Before the cluster is deleted (the lab's end does it by itself); what a VM has mounted goes with the VM."""
    if mounted(place):
        unmount(place.data_disk, MNT_DETACH)
    image_of(place).unlink(missing_ok=True)


def fill(place: Place) -> None:
    """To the last block."""
    assert mounted(place), "only an image is ever filled, never the machine's disk"
    with (place.data_disk / FILLER).open("wb", buffering=0) as file:
        for size in (CHUNK_BYTES, BLOCK_BYTES):
            block = bytes(size)
            while True:
                try:
                    if file.write(block) < size:
                        break
                except OSError:
                    break
        os.fsync(file.fileno())


def empty(place: Place) -> None:
    (place.data_disk / FILLER).unlink(missing_ok=True)


def break_file_system(place: Place) -> None:
    """ext4 is told of an error and does what errors=remount-ro says."""
    device = _device_of(place)
    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("fault matrix\n")


def _device_of(place: Place) -> str:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, where, *_ = line.split()
        if where == str(place.data_disk):
            return device.rpartition("/")[2]
    raise FileNotFoundError(f"nothing is mounted at {place.data_disk}")


@asynccontextmanager
async def stalled(place: Place) -> AsyncIterator[None]:
    """No write to the disk comes back while the block lasts."""
    assert mounted(place), "only an image is ever frozen, never the machine's disk"
    await run(["fsfreeze", "--freeze", str(place.data_disk)])
    try:
        yield
    finally:
        await run(["fsfreeze", "--unfreeze", str(place.data_disk)])
