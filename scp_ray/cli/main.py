"""The scp-ray command. Nothing heavy is imported before a subcommand runs."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from scp_ray import __version__, signals
from scp_ray.cli import compare, data, doctor, export, ls, published, report, score, status, sweep, track, trial
from scp_ray.cli.output import print_json
from scp_ray.errors import ScpError

UNFORESEEN = 70  # sysexits.h: an internal software error

_COMMANDS = {
    "sweep": sweep,
    "trial": trial,
    "status": status,
    "report": report,
    "compare": compare,
    "track": track,
    "export": export,
    "score": score,
    "data": data,
    "ls": ls,
    "published": published,
    "doctor": doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn errors into their exit codes."""
    parser = argparse.ArgumentParser(
        prog="scp-ray", description="Which pruning makes a skin-disease classifier fairer, and is the difference real?"
    )
    parser.add_argument("--version", action="version", version=f"scp-ray {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except ScpError as error:
        _answer(options, error, str(error))
        print(f"scp-ray: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if getattr(options, "json", False):
            print_json({"interrupted": True})
        print(signals.MESSAGE, file=sys.stderr)
        return signals.EXIT_CODE
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a name that is too long, a folder that may not be entered, a disk that fails
        told = f"the system refused: {error}. Check the name, its rights and its disk."
        _answer(options, error, told)
        print(f"scp-ray: {told}", file=sys.stderr)
        return 2
    except Exception as error:
        _answer(options, error, str(error))
        raise
    return code


def _answer(options: argparse.Namespace, error: Exception, told: str) -> None:
    """The one object of --json, for a command that ends with an error."""
    if getattr(options, "json", False):
        print_json({"error": type(error).__name__, "faults": told.splitlines()})


def command() -> int:
    """The command as a process of its own, which ends on a signal."""
    signals.take()
    try:
        code = _main()
    except signals.Stopped:  # before or after a subcommand
        code = signals.EXIT_CODE
    if signals.received():
        signals.end_now(code)
    return code


def _main() -> int:
    """What nobody has foreseen is told in full, with an exit code that no scheduler takes for failed trials."""
    try:
        return main()
    except Exception:
        if signals.received():  # a library has caught what the signal raised, within an import say, and is left broken
            print(signals.MESSAGE, file=sys.stderr)
            return signals.EXIT_CODE
        traceback.print_exc()
        return UNFORESEEN


if __name__ == "__main__":
    sys.exit(command())
