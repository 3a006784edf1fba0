"""Every rule of remediation with its sentence. The name stands in the row, in events, logs and docs/remediation.md.

A rule either names why nothing is done, or which step is taken and why that one. `{…}` is filled in by the decision.
"""

from __future__ import annotations

from typing import Final

QUIET: Final = {
    "nothing-sick": "no node of the cluster needs repair",
    "mode-off": "remediation of this cluster is switched off",
    "paused": "paused: {reasons}; each reason has to be removed by whoever set it",
    "maintenance-window": "maintenance until {until}: {reason}",
    "cluster-changing": "the cluster is being created, changed or deleted; the reconciler is at work",
    "storm-guard": "too large a part of the fleet looks sick at once; the fault is probably ours or the region's",
    "platform-knows": "the platform or an operator is at work: {reasons}",
    "customer-initiated": "a person stopped or restarted node {node} on purpose (customer initiated)",
    "serving-is-sacred": "node {node} serves, may serve, or is in the recorded in-sync set; it is never touched",
    "nobody-serves": "it is not certain that the peer serves; the pair decides, not the control plane",
    "witness-unread": "the safety record was not read in this look, so nobody knows that node {node} is free to act on",
    "minimum-healthy": "{healthy} other nodes of the farm are healthy and {minimum} must be; node {node} waits",
    "both-sick": "both nodes are sick; acting on one could take the last copy away",
    "stopped-by-order": "node {node} was stopped by an order of its operator",
    "not-sick-long-enough": "node {node} has been sick for {sick_s} s at {looks} audits without a gap; "
    "{wanted_s} s and 2 are needed",
    "grace": "within {grace_s} s after {what}; nodes may still be settling",
    "action-running": "step {step} on node {running} is under way; one action at a time",
    "cool-down": "{cool_s} s after the last step have not passed yet",
    "zone-busy": "another repair is under way in the zone of node {node}",
}
PEOPLE: Final = {
    "budget-spent": "{count} actions on node {node} within 24 h are all that is allowed; a person must look",
    "steps-spent": "every step that could help node {node} was taken within the last 6 h; a person must look",
    "ladder-exhausted": "every step of the ladder was tried for node {node} without a cure; a person must look",
    "self-suspended": "{ladders} ladders did not cure node {node}; remediation stopped itself until the cluster's spec "
    "is sent again",
}
STEPS: Final = {
    "restart-module": "node {node} reports to us but is not in sync: its module is restarted by command",
    "restart-farm-module": "node {node} reports to us but does not serve: its module is restarted by command",
    "restart-agent": "node {node}: its agent is restarted through the VM's run command",
    "restart-machine": "node {node}: its VM is restarted",
    "start-machine": "node {node}: its VM has no power and nobody said why; it is started",
    "redeploy-machine": "node {node}: its VM is moved to another host",
    "replace-machine": "node {node}: its VM is deleted and made anew, with a full resynchronisation",
    "recreate-machine": "node {node}: its VM is gone; it is made anew, with a full resynchronisation",
    "replace-farm-machine": "node {node}: its VM is deleted and made anew; a farm has no data to bring back",
    "recreate-farm-machine": "node {node}: its VM is gone; it is made anew",
}
REFUSALS: Final = {
    "stale-plan": "the action was planned too long ago; it is not carried out",
    "decision-changed": "the look right before acting decided otherwise: {why}",
    "zone-taken": "another repair holds the zone",
    "arm-refused": "Azure refused: {why}",
    "step-impossible": "the step cannot be taken: {why}",
}
OUTCOMES: Final = {
    "cured": "node {node} is healthy again",
    "no-cure": "step {step} showed no effect within {limit_s} s",
    "incident-opened": "node {node} is sick: {why}",
    "incident-closed": "node {node} has been healthy for {healthy_s} s; the ladder begins anew",
}
DRIFT: Final = {
    "as-wanted": "every resource is as the spec wants it",
    "drift-reported": "resources differ from the spec; managementPolicy is observe, so they are only reported: {names}",
    "drift-repaired": "resources differ from the spec and the reconciler brings them back: {names}",
    "drift-not-repairable": "resources differ in a way that cannot be changed in place; a person must decide: {names}",
    "drift-returns": "what the last repair brought back differs again; something else changes it: {names}",
    "drift-waits": "resources differ from the spec, and repair waits because {why}",
}
GROUPS: Final = {
    "Why nothing is done": QUIET,
    "Why people are called": PEOPLE,
    "Steps of the ladder": STEPS,
    "Why a planned step is not carried out": REFUSALS,
    "What became of it": OUTCOMES,
    "Drift of resources": DRIFT,
}
RULES: Final = {name: sentence for group in GROUPS.values() for name, sentence in group.items()}
assert len(RULES) == sum(len(group) for group in GROUPS.values()), "two rules have one name"


def sentence(rule: str, **values: object) -> str:
    """The sentence of a rule. Raises KeyError for an unknown rule or a value that is missing."""
    return RULES[rule].format(**values)
