"""Which agents this control plane talks to; see `mirror_agent.skew` for the rule.

A new node must fit. A node that reports is refused only if its agent is too new: its words may mean something this
control plane does not know. One that is too old is heard, as long as it speaks this contract, or nobody could ever
upgrade it; it is told nothing that it could not understand.
"""

from __future__ import annotations

import json

from mirror_agent.contract import AGENT_VERSION, HeartbeatPost, refusal, release_of

from shared.api.call import Call, body_of
from shared.api.problem import Problem


def check_agent(version: str) -> None:
    """Raises Problem for an agent that this control plane does not work with."""
    if reason := refusal("the agent", version, "the control plane", AGENT_VERSION):
        raise Problem("AgentVersionRefused", reason, "agentVersion")


def heartbeat_post(call: Call) -> HeartbeatPost:
    """The body. What a newer agent says may be refused for a field; the reason told is then its version. Raises
    Problem."""
    try:
        post = body_of(call, HeartbeatPost, strict=False)
    except Problem:
        _refuse_newer(_named_version(call.body))
        raise
    _refuse_newer(post.agent_version)
    return post


def _refuse_newer(version: str) -> None:
    one, own = release_of(version), release_of(AGENT_VERSION)
    if one is not None and own is not None and one > own:
        check_agent(version)


def _named_version(body: bytes) -> str:
    try:
        return str(json.loads(body)["agentVersion"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
