"""The commands of `python -m lab` on a running lab: they talk to its control socket or look at its files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.control import CommandRefused, LabClient
from lab.fabric.cgroups import Group
from lab.info import LabInfo
from lab.vm.machine import enter_argv, read_pid_one


def find_node(info: LabInfo, name: str) -> dict[str, Any]:
    """Raises `CommandRefused`."""
    nodes: list[dict[str, Any]] = LabClient(info.control_socket).call("nodes")
    wanted = name.replace("/", "-").lower()
    for node in nodes:
        if str(node["name"]).lower() == wanted:
            return node
    known = ", ".join(sorted(str(node["name"]) for node in nodes)) or "none yet"
    raise CommandRefused(f"no VM {wanted!r} in this lab; there are: {known}")


def show_status(info: LabInfo) -> None:
    client = LabClient(info.control_socket)
    processes = client.call("processes")
    print(f"lab {info.id} is up, daemon process {info.pid}")
    print(f"  control plane  {info.control_plane_url or '(not started)'}   process {processes['functions']}")
    print(f"  ARM            {info.arm_url}   subscription {info.subscription_id}")
    print(f"  storage        {info.table_url}   process {processes['azurite']}")
    print(f"  authority      {info.ca}")
    print(f"  tokens         {info.tokens} (readable by root)")
    for node in client.call("nodes"):
        addresses = f"{node['privateAddress']:<12} {node['publicAddress'] or '':<15}"
        print(f"  VM {node['name']:<14} {node['power']:<12} {addresses} {node['namespace']}")
        if node["standsFor"] is not None:
            print(f"     {'':<14} Linux, stands in for {node['standsFor']}")
    for balancer in client.call("balancers"):
        members = ", ".join(f"{m['name']} {'up' if m['up'] else 'down'} {m['sinceS']} s" for m in balancer["members"])
        ports = ", ".join(map(str, balancer["ports"]))
        print(f"  LB {balancer['name']:<14} {' '.join(balancer['addresses'])} ports {ports}: {members or 'no members'}")


def power(info: LabInfo, command: str, name: str) -> None:
    node = LabClient(info.control_socket).call(command, node=name)
    words = {"kill": "has no power", "start": "boots", "freeze": "stands still", "thaw": "goes on"}
    print(f"{node['name']} {words[command]} (power state {node['power']})")


def announce(info: LabInfo, given: argparse.Namespace) -> None:
    event = LabClient(info.control_socket).call(
        "event",
        node=given.node,
        type=given.type,
        notice_s=given.notice,
        duration_s=given.duration,
        by_user=given.user,
    )
    machine = ", ".join(event["Resources"])
    print(f"{event['EventType']} of {machine} is announced, not before {event['NotBefore']} (event {event['EventId']})")


def show_notices(info: LabInfo) -> None:
    for notice in LabClient(info.control_socket).call("notices"):
        alerts = notice["data"]["alerts"]
        words = "; ".join(f"{alert['rule']} {alert['subject']} {alert['state']}" for alert in alerts)
        print(f"{notice['time']}  {notice['subject']}: {words}")


def run_inside(info: LabInfo, name: str, argv: Sequence[str]) -> None:
    """Replace this process by the command in the VM, on this terminal. Raises `CommandRefused`."""
    node = find_node(info, name)
    try:
        pid_one = read_pid_one(Path(node["directory"]))
    except FileNotFoundError:
        raise CommandRefused(f"{node['name']} does not run (power state {node['power']})") from None
    Group(Path(node["cgroup"])).join()
    command = enter_argv(pid_one, argv or ["/bin/bash", "-l"])
    sys.stdout.flush()
    os.execvp(command[0], command)


def show_logs(info: LabInfo, name: str | None, which: str | None) -> None:
    """Of a service of the lab (azurite, functions, daemon), or of a node: its console and /var/log."""
    if name is None:
        for service, path in info.logs.items():
            print(f"{service:<12} {path}")
        print("a node's logs: python -m lab logs demo/a [NAME]")
        return
    if name in info.logs:
        _show(info.logs[name])
        return
    node = find_node(info, name)
    logs = Path(node["osDisk"]) / "upper/var/log"
    available = {path.stem: path for path in sorted(logs.glob("*.log"))}
    available["console"] = Path(node["directory"]) / "console.log"
    if which is None:
        for title, path in available.items():
            print(f"==> {title} ({path})")
            _show(path, last_lines=20)
    elif which in available:
        _show(available[which])
    else:
        raise CommandRefused(f"{node['name']} has no log {which!r}; there are {', '.join(available)}")


def _show(path: Path, last_lines: int | None = None) -> None:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else ["(nothing yet)"]
    print("\n".join(lines if last_lines is None else lines[-last_lines:]))
