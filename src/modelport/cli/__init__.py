"""The command line: one small file per subcommand, each mapping its options to one library call.

Nothing heavy is imported before a subcommand runs, so `modelport --help` answers at once.
"""

from __future__ import annotations

import logging
import signal
import sys

import click

from .. import __version__
from ..errors import ModelportError, StoppedError
from ..printable import printable
from .lazy import LazyGroup

_COMMANDS = {  # name: module in this package that defines `command`; in the order of a model's way
    "run": "run",
    "export": "export",
    "optimize": "optimize",
    "compile": "compile",
    "pack": "pack",
    "infer": "infer",
    "evaluate": "evaluate",
    "forecast-fp16": "forecast_fp16",
    "bench": "bench",
    "profile": "profile",
    "diff": "diff",
    "sweep": "sweep",
    "tune": "tune",
    "plan": "plan",
    "history": "history",
    "compare": "compare",
    "gate": "gate",
    "guide": "guide",
    "doctor": "doctor",
}


@click.group(
    cls=LazyGroup,
    package=__name__,
    table=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, message="modelport %(version)s")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr.")
def cli(quiet: bool) -> None:
    """Carry a trained image classifier to the hardware it will run on, and prove that nothing was lost.

    `run` does a recipe's whole job; the other commands do one step each.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logger = logging.getLogger("modelport")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


_INTERRUPTED = (
    "modelport: interrupted; nothing half-written was left behind. What run, infer, pack, preprocess, sweep and tune had finished is "
    "kept: the same command goes on there"
)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"modelport: {level}{printable(record.getMessage())}"


def main() -> None:
    """The entry point: 0 fine, 1 an error told in one line, 2 wrong usage, 3 a failed gate, 130 interrupted or told to stop."""
    # As Ctrl-C: what is open is closed, and children are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = cli.main(standalone_mode=False, prog_name="modelport")
    except StoppedError as stopped:
        print(f"modelport: {printable(str(stopped))}", file=sys.stderr)
        code = 130
    except ModelportError as error:
        print(f"modelport: error: {printable(str(error))}", file=sys.stderr)
        code = 1
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print(_INTERRUPTED, file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)
