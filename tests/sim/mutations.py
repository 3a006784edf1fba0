"""The bugs that `mutants` puts into the core: each one a text of a module replaced by another, and what it breaks.

The core's own assertions are silenced in every mutant, so that what is found is found by the independent judge
(`oracle`) or by the bound on recovery. `quick` ones are hunted in every test run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One replacement; `was` occurs exactly once in the module."""

    module: str
    was: str
    becomes: str


@dataclass(frozen=True)
class Mutant:
    name: str
    breaks: str
    edits: tuple[Edit, ...]
    quick: bool = False


# The judge must not need the help of the core it judges.
SILENCED = (
    Edit("decide", "    _assert_invariants(state, decision)\n    return decision", "    return decision"),
    Edit("model", 'assert self.primary == NOBODY or self.primary in self.in_sync, f"I5', 'assert True, f"I5'),
    Edit("model", 'assert self.primary in self.in_sync, f"I5', 'assert True, f"I5'),
)
BUSY = (
    "    if engine_busy(state):\n"
    '        return stay(state, "join-require-peer", phase, detail="the engine is at work")\n'
)


NOT_IN_SYNC = (
    '    Row("not-in-sync", Source.PEERS, (), ("listed",)),\n    Row("not-in-sync", Source.PEERS, (), ("complete",)),\n'
)


def _one(name: str, breaks: str, module: str, was: str, becomes: str, *, quick: bool = False) -> Mutant:
    return Mutant(name, breaks, (Edit(module, was, becomes),), quick)


WITNESS = (
    Mutant(
        "believe-the-clock-more-than-the-epoch",
        "I1: the answer to the own write is taken for an old one, the write for settled, and the peer stays listed",
        (
            Edit(
                "reduce",
                "            return _adopt(state, record, etag, requested_at).with_(won=record.nonce)\n",
                "            won = _adopt(state, record, etag, requested_at)\n"
                "            return won.with_(won=record.nonce, witness=_witness(won.witness, unresolved=None))\n",
            ),
            Edit(
                "reduce", "    if requested_at < old.known_at and not newer:\n", "    if requested_at < old.known_at:\n"
            ),
        ),
    ),
    _one(
        "serve-before-the-witness-has-answered",
        "I3: a conditional write that was only sent counts as won",
        "reduce",
        "            return state.with_(witness=_witness(state.witness, unresolved=unresolved))\n",
        "            sent = Record(proposal.epoch, proposal.primary, proposal.in_sync, nonce, proposal.rule)\n"
        "            return _adopt(state, sent, base_etag, now).with_(won=nonce)\n",
        quick=True,
    ),
    _one(
        "unknown-is-won",
        "I3: a write without an answer counts as won",
        "reduce",
        "        case WitnessUnknown(reason):\n",
        "        case WitnessUnknown(reason) if state.witness.unresolved is not None:\n"
        "            hoped = state.witness.unresolved\n"
        "            p = hoped.proposal\n"
        "            record = Record(p.epoch, p.primary, p.in_sync, hoped.nonce, p.rule)\n"
        "            return _adopt(state, record, hoped.base_etag, now).with_(won=hoped.nonce)\n"
        "        case WitnessUnknown(reason):\n",
        quick=True,
    ),
    _one(
        "unknown-is-lost",
        "I3: a write without an answer is forgotten, although it may still land",
        "reduce",
        "    keep = old.unresolved if failure else unresolved\n",
        "    keep = unresolved\n",
    ),
    _one(
        "forget-the-own-hand",
        "liveness: a node does not know a record of its own after a crash",
        "model",
        '    return durable.identity != "" and record.nonce.startswith(durable.identity + ".")\n',
        "    return False\n",
    ),
    _one(
        "an-older-withdrawal-hides-a-publication",
        "I2: only the newest write of unknown outcome is remembered",
        "model",
        "state.peer_name in unresolved.proposal.in_sync | unresolved.earlier\n",
        "state.peer_name in unresolved.proposal.in_sync\n",
    ),
    _one(
        "the-epoch-does-not-grow",
        "I2: a record replaces another of the same epoch",
        "decision",
        "WriteWitness(Proposal(Epoch(record.epoch + 1), primary",
        "WriteWitness(Proposal(Epoch(record.epoch), primary",
        quick=True,
    ),
)

ACKNOWLEDGING = (
    _one(
        "acknowledge-before-publish",
        "I3: waiting calls are released while the record still lists the peer",
        "serving",
        'finish = _finish(state, False, "the peer was lost") if state.order and state.order.action == "swap" else ()',
        "finish = (Release(record.epoch),)",
        quick=True,
    ),
    Mutant(
        "release-while-a-write-may-land",
        "I3: released although a publication of the peer may still land",
        (
            Edit("serving", '    if "witness" in state.doing:\n', "    if False:\n"),
            Edit("serving", "    if state.witness.unresolved is not None:\n", "    if False:\n"),
        ),
    ),
    _one(
        "abandon-while-a-write-may-land",
        "I3: a lost joiner is dropped although its publication may still land",
        "serving",
        "    if writing(state):\n        return _released(state, record, now)\n",
        "",
    ),
    _one(
        "mount-alone-whatever-the-record-says",
        "I1: acknowledged alone although the record lists the peer",
        "serving",
        "        paired = state.role is Role.PRIM\n",
        "        paired = False\n",
        quick=True,
    ),
    _one(
        "mount-while-a-hand-over-may-land",
        "I2: mounted in an epoch that may be over",
        "serving",
        "    if mirror.mode is not Mode.PRIMARY and writing(state):\n",
        "    if False:\n",
    ),
    _one(
        "stay-in-the-pair-whatever-the-record-says",
        "liveness: the role does not follow the record, calls wait for ever",
        "serving",
        "    role = Role.PRIM if state.peer_name in record.in_sync else Role.ALONE\n",
        "    role = state.role\n",
        quick=True,
    ),
)

# Not among them any more: publishing while the engine changes its mode (`BUSY` taken out alone). Since the node tells
# the core before a release that the peer is no longer required, the next rule says the same: two guards, each enough.
JOINING = (
    Mutant(
        "publish-a-peer-that-is-not-required",
        "I1: a peer is listed while the engine acknowledges without it",
        (
            Edit("serving", "    if not mirror.required:\n", "    if False:\n"),
            Edit(
                "reduce",
                "    joining = state.role is Role.ALONE and state.mirror.required\n",
                "    joining = state.role is Role.ALONE\n",
            ),
        ),
        quick=True,
    ),
    Mutant(
        "publish-a-peer-without-the-barrier",
        "I1: a peer is listed before it holds everything",
        (
            Edit(
                "serving", "    if not mirror.required:\n", "    if mirror.acknowledging is not Acknowledging.PAIRED:\n"
            ),
            Edit("serving", BUSY, ""),
            Edit(
                "reduce",
                "    joining = state.role is Role.ALONE and state.mirror.required\n",
                "    joining = state.role is Role.ALONE\n",
            ),
        ),
    ),
)

TAKEOVER = (
    Mutant(
        "take-over-when-not-listed",
        "I5: the record does not list the node that takes over",
        (
            Edit(
                "second",
                "state.me in record.in_sync and _data_epoch_matches(state, record)",
                "True",
            ),
            Edit("second", "    if not durable.complete:\n", "    if False:\n"),
        ),
        quick=True,
    ),
    _one(
        "start-when-not-listed",
        "I5: a starting node takes over although the record does not list it",
        "direction",
        NOT_IN_SYNC,
        "",
    ),
    _one(
        "resume-without-data",
        "I3: the record names a node whose disk is new",
        "direction",
        '    Row("recorded-without-data", Source.OPERATOR, ("named",), ("complete",)),\n',
        "",
    ),
    Mutant(
        "skip-the-seal",
        "I3: what the old primary still sends is not kept out",
        (
            Edit("second", "    if state.mirror.sealed <= record.epoch:\n", "    if False:\n"),
            Edit(
                "serving", "    if mirror.mode is Mode.REPLICA and mirror.sealed < record.epoch:\n", "    if False:\n"
            ),
        ),
        quick=True,
    ),
    _one(
        "seal-for-the-old-epoch",
        "liveness: the stream is sealed for the epoch that is over",
        "second",
        "Seal(Epoch(record.epoch + 1))",
        "Seal(record.epoch)",
    ),
    _one(
        "start-without-watching",
        "I2: a node that has just started takes over from a primary it has not heard yet",
        "direction",
        '    Row("observing", Source.PEERS, (), ("patience over",)),\n',
        "",
    ),
    _one(
        "take-back-what-was-just-handed-over",
        "liveness: a peer that was handed the role gets no time to begin",
        "second",
        "        since = max(since, state.role_since, state.witness.learnt_at)\n"
        "    elif idle:\n"
        "        since = max(since, state.role_since)\n",
        "        pass\n",
    ),
    _one(
        "take-back-in-silence-what-was-just-handed-over",
        "liveness: a peer that was handed the role and is not heard gets no time to begin",
        "waiting",
        "        watched_s = min(watched_s, now - max(state.role_since, state.witness.learnt_at))\n",
        "        watched_s = watched_s\n",
    ),
    _one(
        "never-take-over",
        "liveness: the second waits for the operator",
        "second",
        "    if not state.failover and not committed:\n",
        "    if not committed:\n",
    ),
    _one(
        "stay-behind-a-seal",
        "liveness: a sealed node that was published out has no replica",
        "second",
        "        if sealed or (not linked and (idle or not alive)):\n",
        "        if not linked and (idle or not alive):\n",
    ),
)

PROMISES = (
    _one(
        "promise-while-taking-over",
        "I2: a sealed node, or one whose write may land, still promises",
        "model",
        "    taking_over = sealed or state.witness.unresolved is not None\n",
        "    taking_over = False\n",
    ),
    _one(
        "promise-while-sealing",
        "I2: a node that is sealing still promises",
        "model",
        "    sealed = state.mirror.sealed > state.epoch or engine_busy(state)\n",
        "    sealed = state.mirror.sealed > state.epoch\n",
    ),
    _one(
        "break-the-promise",
        "I2: taken over after the time of suspicion, not of the promise",
        "second",
        "    promised_until = max(state.granted_until, since + timing.promise_s) + timing.margin_s\n",
        "    promised_until = since\n",
        quick=True,
    ),
    _one(
        "forget-the-margin",
        "I2: clocks of different rate",
        "second",
        "    promised_until = max(state.granted_until, since + timing.promise_s) + timing.margin_s\n",
        "    promised_until = max(state.granted_until, since + timing.promise_s)\n",
    ),
    _one(
        "count-the-promise-from-its-arrival",
        "I2: a promise that was long on its way",
        "reduce",
        "            held = Instant(sent_at + promise_s) if promise_s > 0 else NEVER\n",
        "            held = Instant(now + promise_s) if promise_s > 0 else NEVER\n",
    ),
    _one(
        "serve-without-a-promise",
        "I2: a primary answers the probe although its peer may take over",
        "model",
        "    if needs_promise(state) and not promise_holds(state, now):\n",
        "    if False:\n",
    ),
    _one(
        "alone-before-the-role-has-followed",
        "I2: the record lists the peer, the role does not know it yet",
        "model",
        "    return state.role is Role.PRIM or listed or uncertain\n",
        "    return state.role is Role.PRIM or uncertain\n",
    ),
    _one(
        "alone-while-a-publication-may-land",
        "I2: the peer may be listed unseen",
        "model",
        "    return state.role is Role.PRIM or listed or uncertain\n",
        "    return state.role is Role.PRIM or listed\n",
    ),
    _one(
        "serve-on-at-the-deadline",
        "I2: the application runs on when the promise has expired",
        "serving",
        "        or _promise_expired(state, now)\n",
        "",
    ),
    _one(
        "serve-on-when-superseded",
        "I2: the record names the peer and the application runs on",
        "serving",
        "    if record.primary != state.me:\n        quiet",
        "    if False:\n        quiet",
    ),
)

POWER = (
    _one(
        "trust-the-recorded-primary-after-a-power-cut",
        "I3: what it had not flushed is on the peer only",
        "direction",
        '    Row("untrusted-defers", Source.PEERS, ("named", "peer listed"), ("trusted",)),\n',
        "",
    ),
    Mutant(
        "trust-any-copy-after-a-power-cut",
        "I3: a replica that lost its memory takes over",
        (
            Edit(
                "direction",
                '    Row("untrusted-defers", Source.PEERS, ("peer heard",), ("trusted",)),\n',
                "",
            ),
            Edit("direction", '    Row("untrusted-refused", Source.PEERS, (), ("trusted",)),\n', ""),
        ),
    ),
    Mutant(
        "take-over-untrusted-from-a-stopped-primary",
        "I3: the stopped node may have flushed what this one lost in its power cut",
        (
            Edit(
                "direction",
                '    Row("untrusted-defers", Source.PEERS, ("peer heard",), ("trusted",)),\n',
                '    Row("untrusted-defers", Source.PEERS, ("peer heard", "peer trusted"), ("trusted",)),\n'
                '    Row("untrusted-defers", Source.PEERS, ("peer heard", "peer waits"), ("trusted",)),\n',
            ),
            Edit(
                "direction",
                '    Row("untrusted-refused", Source.PEERS, (), ("trusted",)),\n',
                '    Row("untrusted-refused", Source.PEERS, (), ("peer heard", "trusted")),\n',
            ),
        ),
    ),
)

HANDING_OVER = (
    _one(
        "tell-a-preparation-before-the-disk-has-it",
        "liveness: published on the strength of what a crash forgets",
        "reduce",
        "        prepared=flushed.prepared if flushed is not None else NO_EPOCH,\n",
        "        prepared=state.durable.prepared,\n",
    ),
    _one(
        "an-old-heartbeat-takes-back-a-preparation",
        "liveness: published on the strength of what a late heartbeat has overwritten",
        "second",
        "    if asked == peer.epoch + 1 and asked > durable.prepared and caught_up:\n",
        "    if asked == peer.epoch + 1 and asked != durable.prepared and caught_up:\n",
    ),
    _one(
        "an-old-heartbeat-takes-the-data-of-a-prepared-node-for-incomplete",
        "liveness: the record relies on a preparation that a late heartbeat has undone",
        "second",
        "peer.epoch >= durable.prepared:\n",
        "peer.epoch != durable.prepared - 1:\n",
    ),
    _one(
        "leave-a-living-primary-for-a-write-that-may-land",
        "liveness: leaves and joins again at the same instant, without end",
        "second",
        "        if alive and linked and not idle and not sealed:\n",
        "        if False:\n",
    ),
    _one(
        "take-back-what-was-handed-over-late",
        "I2: a peer is given its time from the wish to hand over, not from the record that says so",
        "waiting",
        "        watched_s = min(watched_s, now - max(state.role_since, state.witness.learnt_at))\n",
        "        watched_s = min(watched_s, now - state.role_since)\n",
    ),
    _one(
        "hand-over-to-a-joining-peer",
        "I5: a lonely primary that stops names a peer without the data",
        "serving",
        "    ready = state.role is Role.PRIM and state.peer.role is Role.SECOND",
        "    ready = state.peer.role is Role.SECOND",
    ),
    _one(
        "leave-the-application-running",
        "I2: nobody kills what still runs where nothing may run",
        "waiting",
        'start, follow or stand by."""\n    if state.app is not App.STOPPED:\n',
        'start, follow or stand by."""\n    if False:\n',
    ),
    _one(
        "first-note-then-know",
        "liveness: a record of the own hand is no proof of the data",
        "waiting",
        "    if own and record.primary == state.me:\n",
        "    if False:\n",
    ),
)

MUTANTS = (*WITNESS, *ACKNOWLEDGING, *JOINING, *TAKEOVER, *PROMISES, *POWER, *HANDING_OVER)
