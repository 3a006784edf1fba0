"""The named rules of a rollout, a sentence each: in the operation, in events, in docs/upgrade.md."""

from __future__ import annotations

from typing import Final

RULES: Final[dict[str, str]] = {
    "everywhere": "Every node has what it is to have.",
    "cannot-take-orders": "A node runs an agent that takes no such orders.",
    "versions-too-far-apart": "The nodes, or a node and the control plane, could not work together on the way.",
    "waits-for-sync": "The nodes are not all well: nothing begins while one could not stand in for another.",
    "waits-for-others": "Something else is at work on the cluster; it comes first.",
    "waited-too-long": "What kept the next turn from beginning did not end in its time.",
    "node-begins": "A node that does not serve (of a farm: one that can be missed) begins anew.",
    "node-at-work": "The node prepares, begins anew, or proves itself.",
    "node-done": "The node has proven itself and the nodes are all well again.",
    "node-refused": "The node refused its order; nothing was changed there.",
    "node-returned": "The new agent did not prove itself; the previous one is back in place.",
    "node-late": "The node did not end its turn in its time.",
    "hand-over-begins": "The serving node is the last without it; it hands its role over first.",
    "handing-over": "The role is on its way to the other node.",
    "handed-over": "The other node serves and the nodes are all well again.",
    "hand-over-failed": "The serving node could not hand its role over.",
    "hand-over-late": "The role was not handed over in its time.",
}

# A rollout that ends by one of these has left the cluster serving; the code is the operation's error.
STOPPED: Final[dict[str, str]] = {
    "cannot-take-orders": "NodeCannotTakeOrders",
    "versions-too-far-apart": "AgentVersionRefused",
    "waited-too-long": "RolloutWaitedTooLong",
    "node-refused": "NodeRefused",
    "node-returned": "NodeReturned",
    "node-late": "NodeLate",
    "hand-over-failed": "HandOverFailed",
    "hand-over-late": "HandOverFailed",
}
assert STOPPED.keys() <= RULES.keys()
