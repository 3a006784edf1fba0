"""Completion scripts for `mirrorctl`, made from its parser, so that they never lag behind it.

The same is in the control plane's command: two packages, and neither may need the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Final

SHELLS: Final = ("bash", "zsh", "fish")
_BASH: Final = """_mirrorctl() {{
  local words="" path="" word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do case "$word" in -*) ;; *) path="$path $word" ;; esac; done
  case "${{path# }}" in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -F _mirrorctl mirrorctl"""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    known = list(_words(parser, ()))
    if shell == "fish":
        lines = []
        for path, words in known:
            condition = f"__fish_seen_subcommand_from {path[-1]}" if path else "__fish_use_subcommand"
            lines.append(f"complete -c mirrorctl -f -n '{condition}' -a '{' '.join(words)}'")
        return "\n".join(lines)
    # A longer path first: an argument behind the last word keeps that word's options.
    ordered = sorted(known, key=lambda entry: -len(entry[0]))
    cases = "\n".join(f'    "{" ".join(path)}"*) words="{" ".join(words)}" ;;' for path, words in ordered)
    text = _BASH.format(cases=cases)
    return f"autoload -U +X bashcompinit && bashcompinit\n{text}" if shell == "zsh" else text


def _words(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    yield path, [*(name for action in below for name in action.choices), *options]
    for action in below:
        for name, child in action.choices.items():
            yield from _words(child, (*path, name))
