"""The agent's main process on a node of a farm: wires the node to application, probe, console and control plane.

The same service, files, ports and commands as on a node of a mirror; without engine, witness and promise. On SIGTERM
the node leaves in order: the load balancer is told first, then the application is stopped; the operator's wish stays
what it was, so that the node comes back by itself at the next start.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import Final

from mirror_agent.app.checkers import Trip
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.app.runner import ApplicationRunner
from mirror_agent.contract import FarmConfiguration, Role
from mirror_agent.core.model import App, Wish
from mirror_agent.eventlog import EventLog
from mirror_agent.farm import maintenance
from mirror_agent.farm.commands import FarmCommands
from mirror_agent.farm.console import NotPassedOn
from mirror_agent.farm.copies import FarmCopies
from mirror_agent.farm.events import ApplicationFailed
from mirror_agent.farm.hands import FarmHands
from mirror_agent.farm.live import LiveFarmConfiguration
from mirror_agent.farm.model import MAX_DRAIN_S, Limits, State
from mirror_agent.farm.neighbours import Neighbours, NeighbourServer
from mirror_agent.farm.node import FarmNode
from mirror_agent.farm.report import FarmReporter
from mirror_agent.farm.trips import Reaction, proven, reaction
from mirror_agent.farm.turn import rollout_facts
from mirror_agent.farm.wish_store import WishStore
from mirror_agent.net.control_plane import ControlPlaneClient
from mirror_agent.net.identity import AgentFile, load_credential
from mirror_agent.net.peer import server_name
from mirror_agent.net.renewal import CertificateRenewal, control_plane_issuer
from mirror_agent.net.scheduled_events import NodeFacts, ScheduledEventWatch
from mirror_agent.node.durable import boot_id
from mirror_agent.node.keepalive import ServiceManager, kept_alive
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.node.rollout import Rollout
from mirror_agent.node.rollout_rules import RolloutFacts
from mirror_agent.node.switches import Switches
from mirror_agent.paths import Paths
from mirror_agent.platform import HOST
from mirror_agent.web.console_api import ConsoleApi
from mirror_agent.web.local_api import LocalApi
from mirror_agent.web.probe import ProbeServer
from mirror_agent.web.revoked import RevokedSerials
from mirror_agent.web.shown_configuration import shown_configuration

TICK_S: Final = 0.1
NEIGHBOUR_EVERY_S: Final = 1.0
# For the first healthy test and the word to the load balancer, beyond the application's own times.
ALLOWANCE_S: Final = 30.0
# An orderly leave, beyond draining and the application's own time to stop: what is left of it is killed.
LEAVE_ALLOWANCE_S: Final = 20.0


def limits_of(configuration: FarmConfiguration) -> Limits:
    """`drain_s`: the load balancer has asked `probe_threshold` times by then, if it asks at all."""
    timing, application = configuration.timing, configuration.application
    return Limits(
        restart_limit=application.restart_limit,
        restart_window_s=application.restart_window_s,
        drain_probes=timing.probe_threshold,
        drain_s=min(timing.probe_interval_s * timing.probe_threshold + 1.0, MAX_DRAIN_S),
    )


class FarmSupervisor:
    """Owns every part of the agent; `run` returns when the node has left."""

    def __init__(self, agent: AgentFile, configuration: FarmConfiguration, *, paths: Paths, log: EventLog) -> None:
        self._configuration = configuration
        self._paths = paths
        self._log = log
        self._service_manager = ServiceManager.of(os.environ, log=log.record)
        self._leaving = asyncio.Event()
        application, timing = configuration.application, configuration.timing
        store = WishStore(paths, log)
        kept = store.load()
        self._began_stopped = kept.wish is Wish.STOP
        state = State(limits=limits_of(configuration), wish=kept.wish, wish_reason=kept.reason)
        self.node = FarmNode(state, store=store, log=log)
        self._switches = Switches(paths.switches, configured_failover=True, log=log)
        self._tls = NodeTls(paths)
        self._runner = ApplicationRunner(
            application,
            paths.module_dir,
            configuration.node,
            log.record,
            paths=paths,
            on_lost=lambda reason: self.node.post(ApplicationFailed(reason)),
        )
        surroundings = Surroundings(
            module_dir=paths.module_dir,
            environment=lambda: {**self._runner.environment, "MODULE_ROLE": Role.UP.value},
            application_processes=self._runner.processes,
        )
        self._checkers = NodeCheckers(application, surroundings, on_trip=self._tripped, log=log.record)
        self._live = LiveFarmConfiguration(
            configuration,
            paths=paths,
            checkers=self._checkers,
            changed=lambda: self._control_plane.poke(),
            log=log,
        )
        self._rollout = Rollout(
            paths=paths,
            url=agent.control_plane_url,
            credential=lambda: load_credential(paths),
            facts=self._rollout_facts,
            in_use_version=lambda: self._live.in_use,
            leave=self._leaving.set,
            changed=lambda: self._control_plane.poke(),
            log=log,
        )
        self._hands = FarmHands(
            self.node,
            runner=self._runner,
            checkers=self._checkers,
            service_ports=application.service_ports,
            log=log,
        )
        self.node.connect(self._hands.act)
        self._neighbours = Neighbours(
            configuration.peers,
            cluster_id=configuration.cluster_id,
            context=self._tls.peer_client,
            every_s=NEIGHBOUR_EVERY_S,
            suspect_s=max(timing.suspect_s, 2 * NEIGHBOUR_EVERY_S),
            changed=lambda: self._control_plane.poke(),
        )
        self._renewal = CertificateRenewal(
            issue=control_plane_issuer(agent.control_plane_url, load_credential(paths)),
            dns_name=server_name(configuration.node, configuration.cluster_id),
            changed=self._certificate_changed,
            log=log.record,
            paths=paths,
        )
        self._reporter = FarmReporter(
            self.node,
            configuration,
            checkers=self._checkers,
            switches=self._switches,
            neighbours=self._neighbours,
            certificate=lambda: self._renewal.report,
            rollout=lambda: self._rollout.report,
            boot_id=boot_id(),
            start_id=secrets.token_hex(4),
        )
        limit_s = state.limits.drain_s + application.stop_timeout_s + application.start_timeout_s + ALLOWANCE_S
        self._commands = FarmCommands(self.node, self._reporter, switches=self._switches, log=log, limit_s=limit_s)
        self._revoked = RevokedSerials(paths.revoked, log.record)
        self._control_plane = ControlPlaneClient(
            url=agent.control_plane_url,
            credential=load_credential(paths),
            configuration_version=configuration.version,
            interval_s=timing.control_plane_heartbeat_s,
            sample=self._reporter.heartbeat,
            on_command=lambda command: self._commands.from_control_plane(command, self._control_plane.report),
            on_configuration=self._live.take,
            on_revoked=self._revoked.take,
            on_trust=self._renewal.take,
            on_rollout=self._rollout.take,
            log=log.record,
            paths=paths,
        )
        log.listen(self._control_plane.hear)
        self._maintenance = ScheduledEventWatch(
            facts=self._maintenance_facts,
            hand_over=self._commands.leave_for,
            log=log.record_decision,
            judge=maintenance.conclude,
            on_quiet=self._commands.come_back,
        )
        self.node.watch(self._control_plane.poke)
        self._switches.watch(self._switched)
        self._apply_checkers_switch()

    # -- facts that come in -------------------------------------------------------------------------------------

    def _tripped(self, trip: Trip) -> None:
        match reaction(trip.checker.action):
            case Reaction.FAIL_APPLICATION:
                self.node.post(ApplicationFailed(trip.sentence))
            case Reaction.LEAVE_FARM:
                self.node.wish(Wish.STOP, who=f"checker {trip.checker.name}", why=trip.sentence)
            case Reaction.NOTHING:
                pass

    def _proven(self) -> bool:
        reports, on = self._checkers.reports(), self._switches.checkers.on
        return proven(self._live.running.application, reports, checkers_on=on)

    def _switched(self) -> None:
        self._apply_checkers_switch()
        self._control_plane.poke()

    def _apply_checkers_switch(self) -> None:
        switch = self._switches.checkers
        if switch.on:
            self._checkers.switch_on()
        else:
            self._checkers.switch_off(f"switched off by {switch.who}: {switch.why}".rstrip(": "))

    def _rollout_facts(self) -> RolloutFacts:
        return rollout_facts(
            self.node.decision,
            others_serving=len(self._neighbours.serving()),
            minimum_healthy=self._live.running.minimum_healthy,
            began_stopped=self._began_stopped,
            delivered=self._control_plane.link.last_success_s_ago is not None,
            stored=self._live.stored,
            refused=self._live.refused,
        )

    def _certificate_changed(self) -> None:
        self._tls.reload()
        self._control_plane.poke()

    def _maintenance_facts(self) -> NodeFacts:
        timing = self._configuration.timing
        return maintenance.facts(
            serves=self.node.decision.serves,
            others_serving=len(self._neighbours.serving()),
            minimum_healthy=self._live.running.minimum_healthy,
            bridged_s=max(0.0, timing.suspect_s - timing.heartbeat_s),
        )

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then leave in order. An agent that hangs is started again by the service manager."""
        async with kept_alive(self._service_manager, promise_s=self._configuration.timing.promise_s):
            await self._run()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        HOST.on_stop(loop, self._leaving.set)
        configuration, log = self._configuration, self._log
        log.record_decision(
            "agent.start",
            node=configuration.node,
            cluster=configuration.cluster_name,
            cluster_kind=configuration.kind,  # `kind` is the event's own
            wish=self.node.state.wish.value,
        )
        copies = FarmCopies(self._reporter.metrics)
        probe = ProbeServer(
            self._reporter.probe_answer,
            application_name=configuration.application.name,
            log=log.record,
            on_load_balancer=self.node.asked_by_load_balancer,
        )
        local = LocalApi(self._commands, copies, socket_path=self._paths.agent_socket, log=log.record)
        console = ConsoleApi(
            self._commands,
            copies,
            answer=self._reporter.probe_answer,
            events_after=log.after,
            configuration=lambda: shown_configuration(self._live.running),
            cluster=configuration.cluster_name,
            node=configuration.node,
            peer=NotPassedOn(),
            tls=self._tls.console,
            log=log.record,
            revoked=self._revoked,
        )
        others = NeighbourServer(
            self._reporter.word,
            names=[server_name(peer.name, configuration.cluster_id) for peer in configuration.peers],
            context=self._tls.peer_server,
            host=configuration.address,
        )
        await probe.start()
        await local.start()
        await console.start()
        await others.start()
        tasks = [
            asyncio.create_task(self._control_plane.run(), name="control-plane"),
            asyncio.create_task(self._neighbours.run(), name="neighbours"),
            asyncio.create_task(self._maintenance.run(), name="scheduled-events"),
            asyncio.create_task(self._renewal.run(), name="certificate"),
            asyncio.create_task(self._rollout.run(), name="rollout"),
            asyncio.create_task(self.node.tick(TICK_S, self._proven), name="tick"),
        ]
        try:
            self.node.step()
            await self._until_leaving(tasks)
            await self._leave()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._hands.close()
            await self._checkers.stop()
            await self._runner.close()
            await others.stop()
            await console.stop()
            await local.stop()
            await probe.stop()

    async def _until_leaving(self, tasks: list[asyncio.Task[None]]) -> None:
        """A part of the agent that ends by itself ends the agent: the service manager starts it again."""
        leaving = asyncio.create_task(self._leaving.wait(), name="leaving")
        done, _ = await asyncio.wait({leaving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        for task in done:
            if task is not leaving and not task.cancelled() and (error := task.exception()) is not None:
                told = f"{type(error).__name__}: {error}"
                self._log.record_decision("agent.part-died", part=task.get_name(), error=told)

    async def _leave(self) -> None:
        """Stop as an operator's stop would, without changing what the operator wants."""
        application = self._configuration.application
        within_s = self.node.state.limits.drain_s + application.stop_timeout_s + LEAVE_ALLOWANCE_S
        self._service_manager.leaving(within_s)
        self.node.wish_until_restart(Wish.STOP, who="service", why="the agent is being stopped")
        try:
            async with asyncio.timeout(within_s):
                await self.node.until(lambda: self.node.state.app is App.STOPPED)
        except TimeoutError:
            self._log.record_decision("agent.leave-incomplete", application=self.node.state.app.value)
        self._log.record_decision("agent.stop", role=self.node.decision.role.value)
