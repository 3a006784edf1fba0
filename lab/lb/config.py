"""The load balancer resource as an HAProxy configuration. Pure text out of values.

What is kept of Azure's behaviour (Standard SKU):
- one probe per pool member and probe, shared by all rules that name it (`track`), from 168.63.129.16; HTTP(S) is
  healthy on exactly 200; `probeThreshold` consecutive answers flip it, both ways (rise = fall); a new member is down
  until it has proved itself (the state file says so);
- a member whose probe fails gets no new flow, its flows go on (HAProxy's default; no `on-marked-down`);
- all members down: new flows are refused, flows go on;
- the client's address is kept (`usesrc clientip`);
- idle flows end after idleTimeoutInMinutes.
Different: HAProxy answers the client's SYN itself, so with all members down a client sees a connection that is closed
at once, where Azure lets the SYN time out; enableTcpReset has no choice to make, HAProxy always ends an idle flow
visibly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.arm.provider import LbBackend, LbProbe, LbRule, LoadBalancer
from lab.fabric.ruleset import PROBE_SOURCE, Frontend

CONNECT_TIMEOUT_S: Final = 4
MAX_CONNECTIONS: Final = 4096
PROBE_TIMEOUT_MAX_S: Final = 30  # Azure: success within min(interval, 30 s)
STATE_HEADER: Final = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port"
)


class BalancerUnsupported(ValueError):
    """A load balancer the lab cannot be; the message names the rule."""


@dataclass(frozen=True, slots=True)
class Member:
    name: str
    address: str


def members_of(balancer: LoadBalancer, pool_ids: Sequence[str]) -> tuple[Member, ...]:
    """Pool members with a VM, named after it: `demo-a`."""
    wanted = {pool.lower() for pool in pool_ids}
    found: list[LbBackend] = [b for pool in balancer.pools if pool.id.lower() in wanted for b in pool.backends]
    return tuple(Member(b.vm_id.rpartition("/")[2], b.private_address) for b in found if b.vm_id is not None)


def frontends_of(balancer: LoadBalancer) -> tuple[Frontend, ...]:
    """What the router's packet filter must know."""
    addresses = {frontend.id.lower(): frontend.address for frontend in balancer.frontends}
    return tuple(
        Frontend(
            address=addresses[rule.frontend_id.lower()],
            port=rule.frontend_port,
            backend_port=rule.backend_port,
            backends=tuple(member.address for member in members_of(balancer, rule.pool_ids)),
        )
        for rule in balancer.rules
    )


def render(balancer: LoadBalancer, *, admin_socket: Path, state_file: Path) -> str:
    """Raises `BalancerUnsupported`."""
    return "\n".join((*_global(admin_socket, state_file), *_probes(balancer), *_rules(balancer))) + "\n"


def initial_state(balancer: LoadBalancer, previous: str) -> str:
    """A state file: what the process before knew (`show servers state`), and every other member as down."""
    known = {tuple(line.split()[i] for i in (1, 3, 4)): line for line in previous.splitlines() if _is_state(line)}
    lines = ["1", STATE_HEADER]
    for number, probe in enumerate(_used_probes(balancer), start=1):
        for position, member in enumerate(_probed(balancer, probe), start=1):
            name = _probe_backend(probe)
            state = f"0 0 1 1 0 6 1 0 6 0 0 0 - {probe.port} - 0 0 - - 0"  # operational state 0: stopped
            fresh = f"{number} {name} {position} {member.name} {member.address} {state}"
            lines.append(known.get((name, member.name, member.address), fresh))
    return "\n".join(lines) + "\n"


def _is_state(line: str) -> bool:
    return len(line.split()) >= 20 and line[0].isdigit()


def _global(admin_socket: Path, state_file: Path) -> Iterator[str]:
    yield "global"
    yield f"  maxconn {MAX_CONNECTIONS}"
    yield "  nbthread 1"
    yield f"  stats socket {admin_socket} mode 600 level admin expose-fd listeners"
    yield f"  server-state-file {state_file}"
    yield "defaults"
    yield "  mode tcp"
    yield "  log global"
    yield f"  timeout connect {CONNECT_TIMEOUT_S}s"
    yield "  timeout client 4m"
    yield "  timeout server 4m"
    yield "  retries 0"  # Azure chooses a member once per flow
    yield "  load-server-state-from-file global"
    yield f"  source {PROBE_SOURCE} usesrc clientip"


def _used_probes(balancer: LoadBalancer) -> list[LbProbe]:
    used = {rule.probe_id.lower() for rule in balancer.rules if rule.probe_id is not None}
    return [probe for probe in balancer.probes if probe.id.lower() in used]


def _probed(balancer: LoadBalancer, probe: LbProbe) -> tuple[Member, ...]:
    rules = [rule for rule in balancer.rules if (rule.probe_id or "").lower() == probe.id.lower()]
    pools = [pool for rule in rules for pool in rule.pool_ids]
    return tuple(dict.fromkeys(members_of(balancer, pools)))


def _probe_backend(probe: LbProbe) -> str:
    return f"probe.{probe.name}"


def _probes(balancer: LoadBalancer) -> Iterator[str]:
    for probe in _used_probes(balancer):
        yield f"backend {_probe_backend(probe)}"
        yield f"  timeout check {min(probe.interval_s, PROBE_TIMEOUT_MAX_S)}s"
        check = f"check port {probe.port} inter {probe.interval_s}s rise {probe.threshold} fall {probe.threshold}"
        match probe.protocol.lower():
            case "http" | "https":
                yield "  option httpchk"
                yield (
                    f"  http-check send meth GET uri {probe.path or '/'} ver HTTP/1.1 hdr Host {PROBE_SOURCE} "
                    'hdr User-Agent "Load Balancer Agent" hdr Connection close'
                )
                yield "  http-check expect status 200"
                if probe.protocol.lower() == "https":
                    check += " check-ssl verify none"
            case "tcp":
                pass
            case other:
                raise BalancerUnsupported(f"probe {probe.name!r}: protocol {other!r} is not Http, Https or Tcp")
        for member in _probed(balancer, probe):
            yield f"  server {member.name} {member.address}:{probe.port} {check}"


def _rules(balancer: LoadBalancer) -> Iterator[str]:
    addresses = {frontend.id.lower(): frontend.address for frontend in balancer.frontends}
    probes = {probe.id.lower(): probe for probe in balancer.probes}
    for rule in balancer.rules:
        _supported(rule)
        idle = f"{rule.idle_timeout_min}m"
        yield f"frontend in.{rule.name}"
        yield f"  bind {addresses[rule.frontend_id.lower()]}:{rule.frontend_port}"
        yield f"  timeout client {idle}"
        yield f"  tcp-request connection reject if {{ nbsrv(out.{rule.name}) eq 0 }}"
        yield f"  default_backend out.{rule.name}"
        yield f"backend out.{rule.name}"
        yield f"  timeout server {idle}"
        yield f"  balance {'source' if rule.distribution.startswith('SourceIP') else 'random'}"
        probe = None if rule.probe_id is None else probes[rule.probe_id.lower()]
        for member in members_of(balancer, rule.pool_ids):
            track = "" if probe is None else f" track {_probe_backend(probe)}/{member.name}"
            yield f"  server {member.name} {member.address}:{rule.backend_port}{track}"


def _supported(rule: LbRule) -> None:
    if rule.protocol.lower() != "tcp":
        raise BalancerUnsupported(f"rule {rule.name!r}: the lab balances Tcp only, not {rule.protocol}")
    if rule.floating_ip:
        raise BalancerUnsupported(f"rule {rule.name!r}: the lab does not do floating IP")
