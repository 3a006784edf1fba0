"""Whether the nodes of a mirror can change their durations one after the other. Pure.

On the way one node beats by the old durations and suspects by them, the other by the new ones; both mixtures must hold
what a single set has to hold, or a node would suspect its living peer until both have changed.
"""

from __future__ import annotations

from mirror_agent.contract import Timing
from pydantic import ValidationError


def mixed_timing(old: Timing, new: Timing) -> str:
    """Why they cannot, "" if they can."""
    for beats, suspects, words in ((new, old, "old suspects the new"), (old, new, "new suspects the old")):
        try:
            Timing.model_validate({**suspects.model_dump(), "heartbeat_s": beats.heartbeat_s})
        except ValidationError as error:
            text = error.errors(include_url=False, include_input=False)[0]["msg"]
            return f"on the way the node with the {words} timing ({text}); change heartbeatS and suspectS in two steps"
    return ""
