"""The one exception with which the host refuses to start; its message names the value, the place and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class StartRefused(Exception):
    """The application, its settings or the command line cannot be hosted as they are."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """A sentence for an unknown word: the nearest valid one, or all of them when none is near."""
    choices = sorted(valid)
    by_lower = {choice.lower(): choice for choice in choices}
    close = get_close_matches(word.lower(), by_lower, n=1)
    return f"did you mean {by_lower[close[0]]!r}?" if close else f"valid: {', '.join(choices)}"
