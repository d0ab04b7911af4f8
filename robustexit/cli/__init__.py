"""The command line. Commands only parse and print; what they do lives in the packages they call."""

from __future__ import annotations

import sys

import typer

from robustexit.cli import attacks, campaigns, exits, lists, models, transfer
from robustexit.cli.shared import err, plain
from robustexit.errors import RobustExitError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does leaving early make a classifier weaker or stronger under attack? Train early-exit transformers, "
    "attack them and their full-depth control, and compare.",
)
for group in (campaigns, models, exits, attacks, transfer, lists):
    app.add_typer(group.app)


def main() -> None:
    """Run the command line; problems the user can fix end with exit code 2 and no traceback."""
    try:
        app()
    except RobustExitError as error:
        err.print(f"[bold red]error:[/bold red] {plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
