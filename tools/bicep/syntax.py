"""Bicep source → syntax tree (tree-sitter), with errors that name file and line.

The trees are Microsoft's grammar as `tree-sitter-bicep` has it; it does not know the spread operator. Nothing here
knows what an expression means: see `expressions` and `template`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

_QUIET: Final = frozenset({"comment", "\n", ",", "[", "]", "{", "}", "(", ")", "diagnostic_comment"})
_ESCAPES: Final = {"\\'": "'", "\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r", "\\$": "$"}


class BicepError(Exception):
    """The source is not what the compiler understands; the message names file and line."""


class Source:
    """One file: where it is, and its tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Kept: the nodes are views of the tree.
        self.tree = _parser().parse(path.read_bytes())
        for node in _broken(self.tree.root_node):
            raise self.error(node, f"does not parse near {text(node)[:40]!r}")

    def error(self, node: Node, message: str) -> BicepError:
        return BicepError(f"{self.path.name}:{node.start_point.row + 1}: {message}")

    @property
    def declarations(self) -> list[Node]:
        """Top-level nodes in order, decorators included (they precede what they decorate)."""
        return inner(self.tree.root_node)


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bicep.language()))


def _broken(node: Node) -> Iterator[Node]:
    if node.type == "ERROR" or node.is_missing:
        yield node
    for child in node.children:
        yield from _broken(child)


def text(node: Node) -> str:
    return (node.text or b"").decode()


def inner(node: Node) -> list[Node]:
    """Children that mean something: no punctuation, no comments."""
    return [child for child in node.children if child.type not in _QUIET]


def string_parts(node: Node) -> list[str | Node]:
    """A string's literal pieces (escapes resolved) and the expressions between them."""
    parts: list[str | Node] = []
    for child in node.children:
        match child.type:
            case "string_content":
                parts.append(text(child))
            case "escape_sequence":
                parts.append(_ESCAPES.get(text(child), text(child)))
            case "interpolation":
                parts.append(next(part for part in child.children if part.type not in ("${", "}")))
            case _:
                pass  # the quotes
    return parts


def literal(node: Node) -> str | None:
    """The text of a string without interpolation; None for anything else."""
    if node.type != "string":
        return None
    parts = string_parts(node)
    return None if any(not isinstance(part, str) for part in parts) else "".join(str(part) for part in parts)


def members(node: Node) -> Iterator[tuple[Node, Node]]:
    """(key, value) of an object."""
    for child in inner(node):
        if child.type == "object_property":
            parts = [part for part in inner(child) if part.type != ":"]
            yield parts[0], parts[-1]


def member(node: Node, name: str) -> Node | None:
    return next((value for key, value in members(node) if (literal(key) or text(key)) == name), None)
