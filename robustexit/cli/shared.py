"""What every command shares: consoles, permissions as options, and how settings and data are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)

Network = Annotated[bool, typer.Option("--allow-network", help="May download models and data from the Hub.")]
Code = Annotated[bool, typer.Option("--allow-code", help="May import victims given as module:factory.")]
RemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="May run code that ships with a Hub model.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; one for each core by default.")]
Labels = Annotated[str | None, typer.Option(help="Label names in index order, e.g. negative,positive.")]
Fields = Annotated[str | None, typer.Option(help="Text columns, e.g. text or premise,hypothesis.")]
Label = Annotated[str, typer.Option(help="Label column.")]
Duplicates = Annotated[
    str, typer.Option(help="What becomes of repeated texts without ids: error, or drop to keep the first.")
]
Resource = Annotated[
    list[str] | None, typer.Option("--resource", help="Where a resource lies, e.g. --resource masked-lm=PATH.")
]
Setting = Annotated[list[str] | None, typer.Option("--set", help="A parameter by name, e.g. --set t=0.3.")]


def plain(text: object) -> str:
    """Return text that rich prints as it stands."""
    from rich.markup import escape

    return escape(str(text))


def network(allow: bool) -> None:
    """Allow or forbid the network for this process."""
    from robustexit.network import set_network

    set_network(allowed=allow)


def checked(kind: Any, values: dict[str, Any]) -> Any:
    """Check settings; a problem becomes one readable line for each."""
    from robustexit.validation import validate

    return validate(kind, {key: value for key, value in values.items() if value is not None}, "settings")


def parameters(settings: list[str], option: str = "--set") -> dict[str, Any]:
    """Read ``name=value`` settings; values are YAML.

    Args:
        settings: What stood after each `option`.
        option: The option, for messages.

    Raises:
        ConfigError: Not name=value, a name twice, or a value that is not YAML.
    """
    import yaml

    from robustexit.errors import ConfigError

    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"{option}: expected name=value, got {setting!r}")
        if name in found:
            raise ConfigError(f"{option}: expected {name!r} once, got it again in {setting!r}")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            raise ConfigError(f"{option}: expected a YAML value for {name!r}, got {value!r} ({problem})") from error
    return found


def configure_resources(given: list[str] | None) -> None:
    """Say where resources lie, from ``--resource NAME=PATH`` options; without any, what was said before stays.

    Raises:
        ConfigError: Not NAME=PATH, no such resource.
    """
    if given:
        from robustexit.attacks.resources import configure

        configure(parameters(given, "--resource"))


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on standard error; yields a function that is told the units finished."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


def load_data(
    source: str,
    *,
    split: str,
    sample: int | None = None,
    columns: dict[str, Any] | None = None,
    duplicates: str = "error",
    allow_network: bool = False,
    unlabelled: Sequence[str] | None = None,
) -> Any:
    """Read a dataset named on the command line: a file, or ``reviews`` for the generated corpus.

    Args:
        source: A file, or ``reviews``.
        split: Split of the generated corpus.
        sample: Size of a stratified sample (of the generated corpus: its size).
        columns: What `columns_of` returns.
        duplicates: What becomes of repeated texts; see `robustexit.data.DataSpec`.
        allow_network: Let the Hub be asked.
        unlabelled: Label names, if the file may lack labels; see `robustexit.data.load_dataset_spec`.
    """
    from robustexit.data import DataSpec, load_dataset_spec

    generated = source == "reviews"
    own = {"builtin": source, "split": split, "n": sample}
    read = {"path": source, "duplicates": duplicates, "sample": sample, **(columns or {})}
    spec = checked(DataSpec, own if generated else read)
    name = Path(source).stem
    return load_dataset_spec(spec, name=name, base=Path.cwd(), allow_network=allow_network, unlabelled=unlabelled)


def columns_of(labels: str | None, fields: str | None, label: str) -> dict[str, Any]:
    """Return the columns of a file as `robustexit.data.DataSpec` wants them."""
    return {
        "labels": labels.split(",") if labels else None,
        "fields": fields.split(",") if fields else None,
        "label": label,
    }
