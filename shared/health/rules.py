"""Every rule of the verdict by name, with the one sentence that logs, alerts, console, tests and docs share."""

from __future__ import annotations

from typing import Final

NODE_RULES: Final[dict[str, str]] = {
    "never-seen": "The node has not reported yet: it is still being made.",
    "observer-just-started": "The audit itself was away: it abstains until it has watched for three looks.",
    "not-enough-evidence": "Fewer than two independent fresh facts agree: nothing is concluded.",
    "confirming": "Seen down once: a second look must agree before the node is called down.",
    "two-sources-agree": "The node reports itself well and a second, independent source agrees.",
    "serves-alone": "The node serves without a synchronised peer, by its own word and a second source.",
    "application-failed": "The node says itself that its application has failed: bad news is believed at once.",
    "replica-failed": "The node says itself that its replication has failed, and it does not serve.",
    "mirror-reports-error": "The serving node reports an error of its replication.",
    "module-stopped": "The module is stopped on this node by request.",
    "module-waits": "The module is blocked on this node.",
    "coming-up": "The application of a farm's node starts, restarts or is drained: it does not serve just now.",
    "cannot-come-up": "The farm's node says itself that its application cannot be started.",
    "checker-failing": "A checker of the application fails on this node.",
    "copies-differ": "A verify found that the two copies differ, and nobody has repaired that yet.",
    "replica-slow": "Half of the calls on the serving node wait for the replica longer than a second.",
    "probe-path-broken": "The node reports, but our own probe does not reach it: the way is broken, not the node.",
    "probe-disagrees": "The node says that it serves, and its probe answer says that it does not.",
    "sources-contradict": "The node reports, yet the platform says that its VM does not run: one of them is old.",
    "silent-but-answering": "No heartbeat, yet our probe was answered: the module lives, its way to us does not.",
    "silent-but-replicating": "No heartbeat, yet the peer replicates to this node: it lives, its way to us does not.",
    "silent-but-seen": "No heartbeat, yet another node of the farm sees this one serve: its way to us is broken.",
    "vm-absent": "No heartbeat, and the platform has no such VM.",
    "vm-not-running": "No heartbeat, and the platform says that the VM does not run.",
    "platform-says-unavailable": "No heartbeat, and the platform's resource health says unavailable.",
    "silent-and-unreachable": "No heartbeat, and our probe was not answered either.",
    "silent-and-unreplicated": "No heartbeat, and the serving peer runs without this node.",
    "silent-and-unseen": "No heartbeat, and no other node of the farm sees this one serve.",
    "flapping": "The node went up and down again and again: it counts as degraded until it has been calm.",
}

CLUSTER_RULES: Final[dict[str, str]] = {
    "in-sync": "One node serves, the other holds every acknowledged write, both are well.",
    "runs-alone": "One node serves, without a synchronised peer.",
    "replica-down": "One node serves; the other is down.",
    "node-degraded": "One node serves with its peer in sync; something about a node needs attention.",
    "two-claims": "Both nodes report that they serve: neither is touched; the safety record decides between them.",
    "virtual-ip-unreachable": "A node serves, yet the load balancer's metric says that the virtual IP does not.",
    "nobody-serves": "Nobody serves: both nodes were heard of or found down, and neither runs the application.",
    "both-nodes-down": "Both nodes are down.",
    "stopped-by-operator": "The module is stopped on both nodes by request.",
    "farm-all-serve": "Every node of the farm serves.",
    "farm-node-degraded": "The farm serves; something about a node needs attention.",
    "farm-node-down": "The farm serves with the nodes that are left; at least one is down.",
    "farm-below-minimum": "The farm serves with fewer nodes than its minimum of healthy ones: nothing is repaired.",
    "farm-nobody-serves": "No node of the farm serves: all were heard of or found down, and none runs the application.",
    "farm-all-down": "Every node of the farm is down.",
    "farm-stopped": "The module is stopped on every node of the farm by request.",
    "cluster-never-seen": "No node has reported yet.",
    "cluster-unknown": "The facts do not suffice to say who serves.",
    "cluster-confirming": "Seen down once: a second look must agree before the cluster is called down.",
    "cluster-observer-just-started": "The audit itself was away: it abstains until it has watched for three looks.",
}

GUARD_RULES: Final[dict[str, str]] = {
    "serving-is-sacred": "A node that serves by any fresh fact, or that the safety record names, is never repaired; "
    "and nobody in a mirror is repaired unless the record and a fresh fact agree that the peer serves.",
    "storm-entered": "More than two clusters and more than a fifth of the fleet look sick at once: all actions stop.",
    "storm-continues": "The storm is not over: the fleet must have been calm for ten minutes.",
    "storm-left": "The fleet has been calm for ten minutes: actions are allowed again.",
    "calm": "No more clusters look sick than single failures explain.",
}

RULES: Final[dict[str, str]] = {**NODE_RULES, **CLUSTER_RULES, **GUARD_RULES}
assert len(RULES) == len(NODE_RULES) + len(CLUSTER_RULES) + len(GUARD_RULES), "two rules have one name"
