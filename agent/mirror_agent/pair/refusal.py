"""How the pair's service says no."""

from __future__ import annotations


class Refused(Exception):
    """The answer is an error; `code` is for programs, the text for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
