"""The command reference, from the parsers themselves."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from scp_ray.cli import main

OPENING = """# Commands

Made from the commands' own parsers when the site is built; `scp-ray COMMAND --help` says the same.

Exit codes: 0 done; 1 some trials failed; 2 the request is wrong; 3 the machine or cluster cannot run it; 4 another
driver holds the sweep; 70 a fault of scp_ray's own; 75 stopped by a signal, run again to go on. With `--json` a command
prints one JSON object on stdout; everything else goes to stderr. [Search spaces](spaces.md) says
what a space may hold.
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every command's parser by its name, "sweep", "data check"; of one that has actions, those alone."""
    return dict(_walk("", _top()))


def _top() -> argparse.ArgumentParser:
    """As ``scp-ray`` itself puts it together, whichever commands there are."""
    top = argparse.ArgumentParser(prog="scp-ray")
    commands = top.add_subparsers(dest="command", required=True)
    for name, module in main._COMMANDS.items():
        module.add_arguments(commands.add_parser(name, description=module.__doc__))
    return top


def commands_page() -> str:
    """Markdown: a section for each command, a smaller one for each action of it."""
    top = _top()
    sections = [OPENING]
    for name, parser in _below(top).items():
        sections.append(f"## scp-ray {name}\n\n{_prose(parser.description or '')}\n")
        actions = _below(parser)
        if not actions:
            sections.append(_arguments(parser))
        for action, own in actions.items():
            sections.append(f"### scp-ray {name} {action}\n\n{_prose(own.description or '')}\n\n{_arguments(own)}")
    return "\n".join(sections)


def _walk(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    below = _below(parser)
    if not below:
        yield name, parser
    for word, own in below.items():
        yield from _walk(f"{name} {word}".strip(), own)


def _below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _arguments(parser: argparse.ArgumentParser) -> str:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    usage = " ".join([parser.prog, *(_usage(action) for action in shown if not isinstance(action, _HELP))])
    lines = ["```text", *_wrapped(usage), "```", "", "| argument | |", "|---|---|"]
    for action in shown:
        if not isinstance(action, _HELP):
            lines.append(f"| {_name(action)} | {_what(action)} |")
    return "\n".join([*lines, ""])


_HELP = argparse._HelpAction


def _usage(action: argparse.Action) -> str:
    text = " ".join([*action.option_strings[-1:], *([_value(action)] if _takes_value(action) else [])])
    repeated = "..." if isinstance(action, argparse._AppendAction) else ""
    optional = not action.required if action.option_strings else action.nargs in ("?", "*")
    return (f"[{text}]" if optional else text) + repeated


def _name(action: argparse.Action) -> str:
    value = f" {_value(action)}" if _takes_value(action) and action.option_strings else ""
    names = ", ".join(action.option_strings) or _value(action)
    return f"`{names}{value}`".replace("|", "\\|")


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _value(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    return str(action.metavar or (action.dest.upper() if action.option_strings else action.dest))


def _what(action: argparse.Action) -> str:
    parts = [_cell((action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%"))]
    if action.choices is not None and action.metavar is not None:
        parts.append("one of " + ", ".join(f"`{choice}`" for choice in action.choices))
    told = action.default is None or action.default in (False, []) or "default" in parts[0]
    if not told and action.default != argparse.SUPPRESS and action.option_strings:
        parts.append(f"default: `{action.default}`")
    if action.option_strings and action.required:
        parts.append("has to be given")
    return "; ".join(part for part in parts if part)


def _cell(text: str) -> str:
    """Help as a table's cell: on one line, options as code."""
    text = re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![\w`-])(--[a-z][a-z-]*)", r"`\1`", text)


def _prose(text: str) -> str:
    """A docstring as paragraphs."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(re.sub(r"\s+", " ", paragraph).replace("<", "&lt;") for paragraph in paragraphs)


def _wrapped(usage: str, width: int = 80) -> list[str]:
    """Broken between arguments, never within one."""
    lines, words = [""], re.findall(r"\[[^]]*\]\S*|--\S+ [^\s[]+|\S+", usage)
    for word in words:
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines
