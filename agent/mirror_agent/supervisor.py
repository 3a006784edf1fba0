"""The agent's main process: wires the decision core to witness, peer, engine, application, probe and control plane.

`python -m mirror_agent.supervisor`, run by systemd. Reads /etc/mirrorplane/agent.json (written by enrolment), checks
the time budget, and runs until SIGTERM. On SIGTERM the node leaves in order: a primary hands over to a synchronised
peer, a replica is published out, then everything is flushed; the operator's wish stays what it was, so that the node
comes back by itself at the next boot.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import secrets
import sys
from pathlib import Path
from typing import Final

from mirror_agent import contract
from mirror_agent.app.checkers import Trip
from mirror_agent.app.finding import Surroundings
from mirror_agent.app.handover_relay import HandoverRelay
from mirror_agent.app.node_checkers import NodeCheckers
from mirror_agent.app.outcomes import Prepared
from mirror_agent.app.runner import ApplicationRunner
from mirror_agent.clock import BOOT_CLOCK
from mirror_agent.contract import FarmConfiguration, NodeConfiguration
from mirror_agent.core.budget import UnsafeTiming, budget
from mirror_agent.core.events import (
    ActionFailed,
    AnswerArrived,
    AppReported,
    BeatArrived,
    FailoverSet,
    MirrorReported,
)
from mirror_agent.core.model import (
    Acknowledging,
    App,
    Durable,
    Instant,
    Mirror,
    Role,
    State,
    Wish,
)
from mirror_agent.core.model import (
    Node as NodeName,
)
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.supervisor import FarmSupervisor
from mirror_agent.net.control_plane import ControlPlaneClient
from mirror_agent.net.identity import AgentFile, NotEnrolled, load_agent_file, load_credential
from mirror_agent.net.node_certificate import CertificateRefused, settle_files
from mirror_agent.net.peer import Dialogue, server_name
from mirror_agent.net.renewal import CertificateRenewal, control_plane_issuer
from mirror_agent.net.scheduled_events import ScheduledEventWatch
from mirror_agent.net.witness import TableWitness
from mirror_agent.node.build import core_timing, mirror_config, peer_paths, peer_server
from mirror_agent.node.commands import Commands
from mirror_agent.node.durable import DurableError, DurableStore, boot_id, sync_all
from mirror_agent.node.engine import Engine
from mirror_agent.node.fence import SelfFence, impediment
from mirror_agent.node.fitting import Unfit, refuse_unfit
from mirror_agent.node.handover import Handover
from mirror_agent.node.hands import Hands
from mirror_agent.node.keepalive import ServiceManager, kept_alive
from mirror_agent.node.live_configuration import LiveConfiguration
from mirror_agent.node.live_tls import NodeTls
from mirror_agent.node.maintenance import maintenance_facts
from mirror_agent.node.mirror_operations import MirrorOperations
from mirror_agent.node.node import Node
from mirror_agent.node.probe_rhythm import ProbeRhythm
from mirror_agent.node.report import Reporter
from mirror_agent.node.resync_news import ResyncNews
from mirror_agent.node.rollout import Rollout
from mirror_agent.node.rollout_note import trial_under_way
from mirror_agent.node.rollout_rules import RolloutFacts, mirror_healthy, mirror_hold
from mirror_agent.node.switches import Switches
from mirror_agent.node.trips import act_on_trip
from mirror_agent.pair.membership import pair_membership
from mirror_agent.pair.no_control_plane import NoControlPlane
from mirror_agent.paths import NODE_PATHS, Paths
from mirror_agent.platform import HOST
from mirror_agent.web.console_api import ConsoleApi
from mirror_agent.web.local_api import LocalApi
from mirror_agent.web.peer_console import peer_console
from mirror_agent.web.probe import ProbeAnswer, ProbeServer
from mirror_agent.web.revoked import RevokedSerials
from mirror_agent.web.shown_configuration import shown_configuration

TICK_S: Final = 0.1
# An orderly leave, beyond the application's own time to stop: the flush and the hand-over.
LEAVE_ALLOWANCE_S: Final = 40.0


class Supervisor:
    """Owns every part of the agent; `run` returns when the node has left."""

    def __init__(self, agent: AgentFile, configuration: NodeConfiguration, *, paths: Paths, log: EventLog) -> None:
        self._agent = agent
        self._configuration = configuration
        self._paths = paths
        self._log = log
        self._service_manager = ServiceManager.of(os.environ, log=log.record)
        self._leaving = asyncio.Event()
        start_id = secrets.token_hex(4)
        kernel_boot_id = boot_id()
        store = DurableStore(paths.state_dir, boot_id=kernel_boot_id)
        durable = store.load() or Durable(identity=secrets.token_hex(8))
        self._switches = Switches(paths.switches, configured_failover=configuration.failover, log=log)
        state = State(
            me=NodeName(configuration.node),
            peer_name=NodeName(configuration.peer.name),
            timing=core_timing(configuration),
            started_at=Instant(BOOT_CLOCK.now_s()),
            durable=durable,
            failover=self._switches.failover.on,
            restart_limit=configuration.application.restart_limit,
            restart_window_s=configuration.application.restart_window_s,
        )
        self.node = Node(state, store=store, log=log)
        self._witness = TableWitness(configuration.witness)
        self._tls = NodeTls(paths)
        self._pair = pair_membership(agent, paths)
        self._renewal = CertificateRenewal(
            issue=self._pair.issue
            if self._pair
            else control_plane_issuer(agent.control_plane_url, load_credential(paths)),
            dns_name=server_name(configuration.node, configuration.cluster_id),
            changed=self._certificate_changed,
            log=log.record,
            paths=paths,
        )
        self._engine = Engine(mirror_config(configuration, paths), on_report=self._mirror_reported, log=log.record)
        application = configuration.application
        self._runner = ApplicationRunner(
            application, paths.module_dir, configuration.node, log.record, paths=paths, on_lost=self._application_lost
        )
        surroundings = Surroundings(
            module_dir=paths.module_dir,
            environment=lambda: {**self._runner.environment, "MODULE_ROLE": self.node.state.role.value},
            application_processes=self._runner.processes,
        )
        self._checkers = NodeCheckers(application, surroundings, on_trip=self._tripped, log=log.record)
        self._live = LiveConfiguration(
            configuration,
            paths=paths,
            checkers=self._checkers,
            witness=self._witness,
            switches=self._switches,
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
        # The first address of the peer is its private one; the relay stays inside the subnet.
        self._relay = HandoverRelay(
            address=configuration.address,
            peer_address=configuration.peer.addresses[0],
            ports=application.service_ports,
            log=log.record,
        )
        self._handover = Handover(self._relay, facts=lambda: (self.node.state, self.node.decision))
        self._hands = Hands(
            self.node,
            witness=self._witness,
            engine=self._engine,
            runner=self._runner,
            checkers=self._checkers,
            service_ports=application.service_ports,
            relay_ended=self._handover.ended,
            fence=SelfFence(log=log),
            start_id=start_id,
            log=log,
        )
        self.node.connect(self._hands.act)
        self._reporter = Reporter(
            self.node,
            self._engine,
            self._checkers,
            switches=self._switches,
            peer_paths=lambda: self._peers.conditions(),
            certificate=lambda: self._renewal.report,
            rollout=lambda: self._rollout.report,
            control_plane=agent.control_plane_url,
            cluster=configuration.cluster_name,
            name=configuration.node,
            boot_id=kernel_boot_id,
            start_id=start_id,
        )
        timing = self.node.state.timing
        self._rhythm = ProbeRhythm(interval_s=timing.probe_interval_s, slack_s=timing.margin_s)
        self._commands = Commands(
            self.node,
            self._reporter,
            cluster=configuration.cluster_name,
            switches=self._switches,
            rhythm=self._rhythm,
            self_fence=impediment,
            log=log,
            doubt=lambda: self._operations.doubt(),
        )
        mirror = mirror_config(configuration, paths)
        self._operations = MirrorOperations(
            self._engine,
            self._reporter,
            state=lambda: self.node.state,
            mirror_state_dir=Path(mirror.state_dir),
            quarantine_dir=Path(mirror.quarantine_dir),
            replicated=tuple(entry.path for entry in mirror.paths),
            log=log,
        )
        self._dialogue = Dialogue(
            cluster_id=configuration.cluster_id,
            peer=configuration.peer.name,
            boot=kernel_boot_id,
            beat=self.node.beat,
            hear=lambda beat: self.node.post(BeatArrived(beat)),
            reply=self.node.reply,
            answered=lambda beat, sent_at, promise_s: self.node.post(AnswerArrived(beat, sent_at, promise_s)),
            failover=lambda: self._switches.failover,
            learn_failover=self._switches.learn_failover,
            log=log.record,
        )
        self._peers = peer_paths(configuration, self._tls, self._dialogue, timing)
        self._revoked = RevokedSerials(paths.revoked, log.record)
        self._control_plane: ControlPlaneClient | NoControlPlane = (
            NoControlPlane() if self._pair else self._line(agent.control_plane_url)
        )
        log.listen(self._control_plane.hear)
        self._resync_news = ResyncNews(self._control_plane.poke)
        self._maintenance = ScheduledEventWatch(
            facts=lambda: maintenance_facts(self.node.state, self.node.now, relaying=self._relay.accepting),
            hand_over=self._commands.hand_over,
            log=log.record_decision,
        )
        self.node.watch(self._handover.changed)
        self.node.watch(self._follow_role)
        self.node.watch(self._peers.poke)
        self.node.watch(self._control_plane.poke)
        self._switches.watch(self._switched)
        self._apply_checkers_switch()

    def _line(self, url: str) -> ControlPlaneClient:
        return ControlPlaneClient(
            url=url,
            credential=load_credential(self._paths),
            configuration_version=self._configuration.version,
            interval_s=self._configuration.timing.control_plane_heartbeat_s,
            sample=self._reporter.heartbeat,
            on_command=lambda command: self._commands.from_control_plane(command, self._control_plane.report),
            on_configuration=self._live.take,
            on_revoked=self._revoked.take,
            on_trust=self._renewal.take,
            on_rollout=self._rollout.take,
            log=self._log.record,
            paths=self._paths,
        )

    # -- facts that come in -------------------------------------------------------------------------------------

    def _mirror_reported(self, mirror: Mirror) -> None:
        self._operations.observe(self._engine.status)
        self._resync_news.observe(self._engine.status.link)
        if mirror.acknowledging is Acknowledging.PARKED:
            self._checkers.suspend("the mirror holds the application's calls")
        else:
            self._checkers.resume()
        self.node.post(MirrorReported(mirror))

    def _follow_role(self) -> None:
        if self.node.state.role is Role.SECOND:
            self._checkers.become_replica()
        else:
            self._checkers.leave_replica()

    def _application_lost(self, reason: str) -> None:
        self.node.post(AppReported(App.FAILED, reason))

    def _tripped(self, trip: Trip) -> None:
        act_on_trip(self.node, self._commands, trip)

    def _switched(self) -> None:
        """A switch was changed here or by the peer."""
        self._apply_checkers_switch()
        failover = self._switches.failover
        if failover.on != self.node.state.failover:
            by = ": ".join(word for word in (failover.who, failover.why) if word)
            self.node.post(FailoverSet(failover.on, by))
        self._peers.poke()
        self._control_plane.poke()

    def _apply_checkers_switch(self) -> None:
        switch = self._switches.checkers
        if switch.on:
            self._checkers.switch_on()
        else:
            self._checkers.switch_off(f"switched off by {switch.who}: {switch.why}".rstrip(": "))

    def _rollout_facts(self) -> RolloutFacts:
        role, phase = contract.Role(self.node.state.role.value), contract.Phase(self.node.phase.value)
        decision, line = self.node.decision, self._control_plane
        stopped = self.node.state.durable.wish is Wish.STOP
        return RolloutFacts(
            hold=mirror_hold(role, phase, stopped=stopped),
            healthy=mirror_healthy(role, phase, stopped=stopped),
            resyncing=self._engine.status.link == "resync",
            delivered=isinstance(line, ControlPlaneClient) and line.link.last_success_s_ago is not None,
            stored=self._live.stored,
            refused=self._live.refused,
            sentence=decision.sentence if decision is not None else "nothing is decided yet",
            relaying=self._relay.accepting,
        )

    def _certificate_changed(self) -> None:
        """New files: every later handshake uses them; the engine, another process, reads them for each connection."""
        self._tls.reload()
        self._control_plane.poke()

    # -- answers that go out ------------------------------------------------------------------------------------

    def _probe_answer(self) -> ProbeAnswer:
        ok, reason = self.node.probe()
        state = self.node.state
        return ProbeAnswer(
            ok=ok,
            role=contract.Role(state.role.value),
            phase=contract.Phase(self.node.phase.value),
            epoch=int(state.epoch),
            reason=reason,
            health={"application": state.app.value, "link": state.mirror.link.value},
        )

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; then leave in order. An agent that hangs is started again by the service manager."""
        async with kept_alive(self._service_manager, promise_s=self.node.state.timing.promise_s):
            await self._run()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        HOST.on_stop(loop, self._leaving.set)
        timing = self.node.state.timing
        self._log.record_decision(
            "agent.start",
            node=self._configuration.node,
            cluster=self._configuration.cluster_name,
            budget=budget(timing).explanation,
            trusted=self.node.state.durable.trusted,
        )
        paths, log = self._paths, self._log
        probe = ProbeServer(
            self._probe_answer,
            application_name=self._configuration.application.name,
            log=log.record,
            on_load_balancer=self._rhythm.asked,
        )
        local = LocalApi(self._commands, self._operations, socket_path=paths.agent_socket, log=log.record)
        console = ConsoleApi(
            self._commands,
            self._operations,
            answer=self._probe_answer,
            events_after=log.after,
            configuration=lambda: shown_configuration(self._live.running),
            cluster=self._configuration.cluster_name,
            node=self._configuration.node,
            peer=peer_console(self._configuration, self._tls.peer_client),
            tls=self._tls.console,
            log=log.record,
            revoked=self._revoked,
        )
        peers = peer_server(self._configuration, self._tls, self._dialogue, timing)
        await probe.start()
        await local.start()
        await console.start()
        await peers.start()
        tasks = [
            asyncio.create_task(self._control_plane.run(), name="control-plane"),
            asyncio.create_task(self._peers.run(), name="peer"),
            asyncio.create_task(self._maintenance.run(), name="scheduled-events"),
            asyncio.create_task(self._renewal.run(), name="certificate"),
            asyncio.create_task(self._rollout.run(), name="rollout"),
        ]
        if self._pair:
            service = self._pair.service(self._tls, self._revoked.take, log.record)
            tasks.append(asyncio.create_task(service.run(), name="pair"))
        try:
            await self._prepare_application()
            tasks.append(asyncio.create_task(self.node.tick(TICK_S), name="tick"))
            await self._until_leaving(tasks)
            await self._leave()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._handover.ended()
            await self._runner.close()
            await self._engine.stop()
            await loop.run_in_executor(None, sync_all)
            await self.node.close()
            await peers.stop()
            await console.stop()
            await local.stop()
            await probe.stop()
            await self._witness.close()

    async def _prepare_application(self) -> None:
        """Module files and the `prepare` script, on both nodes; a node that cannot prepare does not start."""
        while not self._leaving.is_set():
            outcome = await self._runner.prepare()
            if isinstance(outcome, Prepared):
                return
            self._log.record("application.prepare-failed", reason=outcome.reason)
            self.node.post(ActionFailed("Prepare", outcome.reason))
            await BOOT_CLOCK.sleep(5.0)

    async def _until_leaving(self, tasks: list[asyncio.Task[None]]) -> None:
        """A part of the agent that ends by itself ends the agent: systemd starts it again."""
        leaving = asyncio.create_task(self._leaving.wait(), name="leaving")
        done, _ = await asyncio.wait({leaving, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        for task in done:
            if task is not leaving and not task.cancelled() and (error := task.exception()) is not None:
                self._log.record_decision(
                    "agent.part-died", part=task.get_name(), error=f"{type(error).__name__}: {error}"
                )

    async def _leave(self) -> None:
        """Stop as an operator's stop would, without changing what the operator wants."""
        wanted = self.node.state.durable.wish
        within_s = self._configuration.application.stop_timeout_s + LEAVE_ALLOWANCE_S
        self._service_manager.leaving(within_s)
        if wanted is Wish.RUN:
            self.node.wish(Wish.STOP, who="service", reason="the agent is being stopped")
            try:
                async with asyncio.timeout(within_s):
                    await self._commands.until(lambda state: state.role is Role.STOP and state.app is App.STOPPED)
            except TimeoutError:
                self._log.record_decision("agent.leave-incomplete", role=self.node.state.role.value)
        self.node.restore_wish(wanted)
        self._log.record_decision("agent.stop", role=self.node.state.role.value)


def main() -> int:
    faulthandler.enable()  # where every thread was when the service manager ended an agent that hung
    HOST.hold_children()
    paths = NODE_PATHS
    log = EventLog(paths.events)
    try:
        agent = load_agent_file(paths)
        refuse_unfit(agent.configuration.application)
        settle_files(paths)
        match agent.configuration:
            case NodeConfiguration() as configuration:
                asyncio.run(Supervisor(agent, configuration, paths=paths, log=log).run())
            case FarmConfiguration() as configuration:
                asyncio.run(FarmSupervisor(agent, configuration, paths=paths, log=log).run())
    except (NotEnrolled, Unfit, CertificateRefused, DurableError, UnsafeTiming) as error:
        log.record_decision("agent.refused", reason=str(error))
        # EX_CONFIG: systemd does not start it again for nothing (RestartPreventExitStatus). A new agent that is being
        # tried is started again: the start is what returns to the previous one.
        return 1 if trial_under_way(paths, log.record) else 78
    finally:
        log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
