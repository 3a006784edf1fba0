"""The data disk is full, turns read-only, or stalls; the state disk of the agent is full."""

from __future__ import annotations

import asyncio

from lab.faults import images
from lab.faults.model import Case, Primary, Service
from lab.faults.perform import settled
from lab.faults.scene import Scene, other

DISK = "disk"
STATE = "/var/lib/mirrorplane"
AGENT_UNIT = "mirrorplane-agent"
STALL_S = 15.0
# Stop the agent, lay a small memory file system with a copy of its state over the state, start it; and back.
# One command a line: `set -e` does not see what fails on the left of `&&`. The quarantine grows from case to case.
COVER = f"""set -e
systemctl stop {AGENT_UNIT}
mkdir -p /run/covered
mount -t tmpfs -o size=$(($(du -sm {STATE} | cut -f1) + 8))m,mode=700 faults /run/covered
cp -a {STATE}/. /run/covered/
mount --move /run/covered {STATE}
systemctl start {AGENT_UNIT}
"""
UNCOVER = f"""set -e
rm -f {STATE}/filler
systemctl stop {AGENT_UNIT}
rm -rf /run/uncovered
cp -a {STATE} /run/uncovered
umount {STATE}
cp -a /run/uncovered/. {STATE}/
sync
systemctl start {AGENT_UNIT}
"""
# dd ends with an error when nothing more fits; then no block may be left.
FILL_STATE = f"dd if=/dev/zero of={STATE}/filler bs=4k 2>/dev/null; test $(stat -f -c %f {STATE}) -eq 0"


async def on_images(scene: Scene) -> None:
    """Both nodes' data disks become images, once for the whole matrix; the roles may have changed afterwards."""
    for node in (scene.second, scene.prim):
        place = scene.place(node)
        if not images.mounted(place):
            await settled(scene.stage)
            await scene.stage.lab.acall("kill", node=place.vm)
            await images.move_to_image(place)
            await scene.start(node)
    scene.prim = await settled(scene.stage)
    scene.second = other(scene.prim)


async def full(scene: Scene, role: str) -> None:
    place = scene.place(scene.prim if role == "prim" else scene.second)
    await asyncio.to_thread(images.fill, place)
    scene.undo.callback(images.empty, place)
    if role == "prim":
        await scene.role(scene.second, "PRIM", "ALONE", deadline_s=60.0)
    else:
        await scene.role(scene.prim, "ALONE", deadline_s=60.0)
    await scene.writes()


async def read_only(scene: Scene, role: str) -> None:
    node = scene.prim if role == "prim" else scene.second
    place = scene.place(node)

    async def repair() -> None:
        await scene.stage.lab.acall("kill", node=place.vm)
        await images.repair_image(place)
        await scene.start(node)
        # A node that could not start its application has stopped for good; the operator who repaired it starts it.
        await scene.until(lambda: scene.seen(node).answered, 60.0, f"the agent of {node} answers")
        await scene.inside(node, "mirrorctl", "start", "--why", "the disk is repaired")

    images.break_file_system(place)
    scene.undo.push_async_callback(repair)
    await scene.role(other(node), "PRIM", "ALONE", deadline_s=60.0)
    await scene.writes()


async def stall(scene: Scene, role: str) -> None:
    place = scene.place(scene.prim if role == "prim" else scene.second)
    async with images.stalled(place):
        await scene.hold(STALL_S)


async def state_full(scene: Scene) -> None:
    """The replica cannot write down what it decides; it must not act on what is not written down."""
    await scene.inside(scene.second, "sh", "-c", COVER, timeout_s=150.0)

    async def uncover() -> None:
        await scene.inside(scene.second, "sh", "-c", UNCOVER, timeout_s=150.0)

    scene.undo.push_async_callback(uncover)
    await settled(scene.stage)
    await scene.inside(scene.second, "sh", "-c", FILL_STATE)
    await scene.kill(scene.prim)
    await scene.hold(10.0)
    await scene.inside(scene.second, "rm", "-f", f"{STATE}/filler")
    await scene.writes()
    await scene.start(scene.prim)
    await settled(scene.stage)


def on_image(name: str, must: str, fault: object, **words: object) -> Case:
    """A case that begins by giving both nodes their images."""

    async def whole(scene: Scene) -> None:
        await on_images(scene)
        scene.renew()
        await fault(scene)  # type: ignore[operator]

    return Case(name, DISK, must, whole, **words)  # type: ignore[arg-type]


CASES: tuple[Case, ...] = (
    on_image(
        "the primary's data disk is full",
        "The application gets ENOSPC, the disk checker trips, and the other node takes the service over in order.",
        lambda scene: full(scene, "prim"),
        service=Service.OPEN,
        primary=Primary.CHANGES,
        limit_s=40.0,
    ),
    on_image(
        "the replica's data disk is full",
        "The replica is taken out; the primary goes on alone and has it back when there is room.",
        lambda scene: full(scene, "second"),
        primary=Primary.STAYS,
        limit_s=10.0,
    ),
    on_image(
        "the primary's data disk turns read-only",
        "The disk checker finds a disk that takes nothing more; the node stops, and the other one takes over.",
        lambda scene: read_only(scene, "prim"),
        service=Service.OPEN,
        primary=Primary.CHANGES,
        limit_s=40.0,
    ),
    on_image(
        "the replica's data disk turns read-only",
        "The replica is taken out; the primary goes on alone.",
        lambda scene: read_only(scene, "second"),
        primary=Primary.STAYS,
        limit_s=10.0,
    ),
    on_image(
        "the primary's data disk stalls for 15 s",
        "Writes wait; nothing acknowledged is lost, whoever serves afterwards.",
        lambda scene: stall(scene, "prim"),
        service=Service.OPEN,
        limit_s=45.0,
    ),
    on_image(
        "the replica's data disk stalls for 15 s",
        "Writes wait for the replica's disk for 6 s; then the replica is taken out, and comes back by itself.",
        lambda scene: stall(scene, "second"),
        primary=Primary.STAYS,
        limit_s=20.0,
    ),
    Case(
        "the replica's state disk is full, and the primary dies",
        DISK,
        "What cannot be written down is not acted upon; with room again it takes over.",
        state_full,
        service=Service.OPEN,
        primary=Primary.CHANGES,
    ),
)
