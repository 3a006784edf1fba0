"""A farm behind an internal load balancer, in a network that somebody brought, without public addresses.

Its client is a machine of that network. A node is lost and comes back; the control plane can probe nothing there, and
says so of the right node all the same.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import pytest

from lab.info import LabInfo
from tests.lab.farm.farm import Farm, farm_of, record, until
from tests.lab.options.inside import InsideClient, client_inside, longest_gap_s
from tests.lab.options.team import GROUP, SUBNET, team_of

pytestmark = [pytest.mark.lab, pytest.mark.azurite, pytest.mark.farm]

VIRTUAL_IP: Final = "10.9.1.40"
ANSWERS: Final = 20
# The share of a dead node fails until its next probe: interval and timeout.
PROBED_S: Final = 12.0


def behind_a_private_frontend(wanted: dict[str, Any], subnet: str) -> None:
    wanted["resourceGroup"] = GROUP
    wanted["network"] |= {
        "subnet": SUBNET,
        "subnetId": subnet,
        "frontend": "private",
        "privateAddress": VIRTUAL_IP,
        "nodePublicAddresses": False,
    }


async def test_a_farm_behind_an_internal_load_balancer(lab: LabInfo, tmp_path: Path) -> None:
    async with team_of(lab) as team:
        subnet = await team.prepare()
        brought, subnets = await team.names(), await team.subnets()
        change = lambda wanted: behind_a_private_frontend(wanted, subnet)  # noqa: E731 - as short as a name for it
        async with farm_of(2, lab, tmp_path, "within", change) as farm:
            assert await farm.provision() == VIRTUAL_IP
            await farm.until_verdict("healthy")
            async with client_inside(lab, tmp_path, "ask", f"http://{VIRTUAL_IP}") as client:
                await answered_by_all(farm, client)
                killed = time.monotonic()
                await farm.nodes.kill("b")
                await farm.until_verdict("degraded", "b")
                settled = time.monotonic()
                await client.until_answered(ANSWERS, since=settled, by="a")
                await farm.nodes.start("b")
                await answered_by_all(farm, client)
                await farm.until_verdict("healthy")
            failed = [one for one in client.seen if one.failure]
            assert all(killed - 1.0 < one.ended for one in failed), "a request failed before anything was done"
            late = [one for one in failed if one.began > killed + PROBED_S]
            assert not late, f"requests failed long after the node was lost: {late[:3]}"
            farm.figures |= {
                "requests": len(client.seen),
                "failed": len(failed),
                "last_failed_after_s": round(max((one.began - killed for one in failed), default=0.0), 2),
                "longest_without_an_answer_s": round(longest_gap_s(client.seen), 2),
            }
            await farm.delete()
        assert await team.names() == brought
        assert await team.subnets() == subnets
    record(farm, "2 behind an internal load balancer")


async def answered_by_all(farm: Farm, client: InsideClient) -> None:
    began = time.monotonic()

    async def seen() -> bool:
        answers = await client.answered()
        return {one.said.strip() for one in answers if one.began > began} == farm.names

    await until(seen, "the client was answered by every node")
