"""Which agents this control plane talks to; see `mirror_agent.skew` for the rule.

A new node must fit. A node that reports is refused only if its agent is too new: its words may mean something this
control plane does not know. One that is too old is heard, as long as it speaks this contract, or nobody could ever
upgrade it; it is told nothing that it could not understand.
"""

from __future__ import annotations

import json

from mirror_agent.contract import AGENT_VERSION, refusal, release_of

from shared.api.call import Call
from shared.api.problem import Problem


def check_agent(version: str) -> None:
    """Raises Problem for an agent that this control plane does not work with."""
    if reason := refusal("the agent", version, "the control plane", AGENT_VERSION):
        raise Problem("AgentVersionRefused", reason, "agentVersion")


def refuse_newer_agent(call: Call) -> None:
    """Before the body is looked at: a newer agent's body may hold what would be refused with less to the point."""
    try:
        version = json.loads(call.body)["agentVersion"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # the check of the body says what is wrong with it
    one, own = release_of(version) if isinstance(version, str) else None, release_of(AGENT_VERSION)
    if one is not None and own is not None and one > own:
        check_agent(version)
