"""What commands share: options, tables, JSON output, progress bars. rich is imported when something is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rheostat.serving.config import Config
    from rheostat.training.collect import Progress

State = Annotated[Path, typer.Option("--state", help="Folder that keeps engines, stores, bundles and reports.")]
Json = Annotated[
    Path | None, typer.Option("--json", dir_okay=False, help="Write the result as JSON to this file; - prints it instead of the table.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Encoder = Annotated[str, typer.Option(help="static, minilm, minilm-int8, or a folder with a sentence-transformers model.")]
ToolEncoder = Annotated[str, typer.Option(help="Encoder of the task memory and of long answers: static, minilm, minilm-int8, or a folder.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The sidecar's configuration; the local pocket engines when there is none.")]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow: http://HOST:PORT or sqlite:///FILE; the config's, else one in the state folder, when left out.")
]

Mlflow = Annotated[
    str | None,
    typer.Option("--mlflow", "--tracking", help="Log the result as a run here: http://HOST:PORT or sqlite:///FILE; nowhere when left out."),
]
# Both spellings, and names one by one or between commas: whoever knows one command knows all.
Models = Annotated[
    list[str] | None,
    typer.Option("--model", "--models", help="Only these models; repeat, or separate by commas. All when left out."),
]
Strategies = Annotated[
    list[str] | None,
    typer.Option("--strategy", "--strategies", help="Only these strategies; repeat, or separate by commas. All when left out."),
]

PIPED_WIDTH = 140  # a file or a log has no width of its own
MOST_NAMED = 8  # of what was left out, in one line
STATE = Path(".rheostat")
CONFIG = Path("rheostat.toml")
CHAMPION_FOLDER = "champion"  # in a state folder: the bundle that a sidecar follows whose configuration names none


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, json: Path | None = None, value: Any = None) -> None:
    """Print a table; with `json`, write `value` there (or print it, for `-`) and keep the table off standard output."""
    if json is not None:
        write_json(json, value)
        if str(json) == "-":
            return
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # Names and messages come from elsewhere: `[/x]` in one is no markup, and `:a:` no emoji.
    plain = Console(markup=False, emoji=False, highlight=False, width=None if Console().is_terminal else PIPED_WIDTH)
    plain.print(title, style="italic")
    plain.print(table)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; `-` is standard output."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    if str(path) == "-":
        typer.echo(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on standard error; call it with what is being done and the share done, in [0, 1]."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:  # a log would get blank lines
        task = bar.add_task(title, total=1.0, step="")

        def advance(step: str, share: float) -> None:
            bar.update(task, completed=min(share, 1.0), step=step[:60])

        yield advance


@contextlib.contextmanager
def resumable(title: str, unit: str) -> Iterator[Callable[[Progress], None]]:
    """A bar for work that a store remembers; call it with how far it is. An interrupt says that nothing is lost.

    Raises:
        typer.Exit: it was interrupted.
    """
    with progress(title) as advance:

        def tell(now: Progress) -> None:
            left = "?" if now.left_s is None else f"{now.left_s:.0f}"
            settled = now.done + now.failed
            advance(f"{settled}/{now.total} {unit}, {now.tokens_per_s:.0f} tokens/s, {left} s left", settled / max(now.total, 1))

        try:
            yield tell
        except KeyboardInterrupt:
            typer.echo("stopped: what came is stored; the same command goes on from there", err=True)
            raise typer.Exit(130) from None


def track(context: typer.Context, uri: str | None, report: object, *inputs: Path) -> None:
    """Log what a command found to MLflow, where one is named. That MLflow is away is said, and fails nothing."""
    if uri is None:
        return
    from rheostat.data.errors import RegistryError
    from rheostat.training.tables import digests_of
    from rheostat.training.tracking import log_report

    params = {name: value for name, value in context.params.items() if name not in ("mlflow", "json") and value is not None}
    digests = digests_of([path for path in inputs if path.is_file()])
    try:
        run_id = log_report(uri, context.info_name or "", report, params=params, digests=digests)
    except RegistryError as error:
        typer.echo(f"not logged: {error}", err=True)
    else:
        typer.echo(f"logged to {uri} as run {run_id}", err=True)


def load_config(path: Path, state: Path) -> Config:
    """The config file, or the built-in one for the pocket engines that the state folder knows.

    Where neither a bundle nor an MLflow is named, the bundle is what `promote` makes champion in the state folder.

    Raises:
        ConfigError: the file does not fit, or there is neither a file nor an engine.
    """
    from rheostat.data.errors import ConfigError
    from rheostat.serving import config

    if path.exists():
        return _following(config.load(path), state)
    if path != CONFIG:
        raise ConfigError(f"no config file at {path}: write one, or name none to use the local pocket engines")
    from rheostat.policies.engine import Engines

    ports = {status.name: int(status.url.rsplit(":", 1)[1]) for status in Engines(state / "engines").status() if status.state != "dead"}
    local = config.local(
        pocket_port=ports.get("pocket", 8100),
        pocket_large_port=ports.get("pocket-large", 8101),
        store=config.StoreConfig(path=str(state / "outcomes.db"), store_prompts="full"),
        router=config.RouterConfig(cache=str(state / "bundles")),
    )
    return _following(local, state)


def _following(config: Config, state: Path) -> Config:
    """The configuration with the state folder's champion, where it names nothing else to follow."""
    from msgspec.structs import replace

    if config.router.bundle or config.mlflow.tracking_uri:
        return config
    return replace(config, router=replace(config.router, bundle=str(state / CHAMPION_FOLDER)))


def names(given: Sequence[str] | None) -> list[str]:
    """Names that were given one by one or between commas; no log we know has names with commas."""
    return [name.strip() for text in given or () for name in text.split(",") if name.strip()]


def tell_gaps(left_out: Mapping[str, float], ungraded: Mapping[str, float], queries: int = 0) -> None:
    """What of a log was not used as it is, on standard error: nothing is judged in silence on less than the log.

    Args:
        left_out: models and strategies, with the share of queries they have.
        ungraded: models and strategies, with the share of their answers.
        queries: how many miss an outcome.
    """
    if left_out:
        typer.echo(f"left out, on too few queries or not to be replayed: {_shares(left_out, 'of the queries')}", err=True)
    if ungraded:
        typer.echo(f"without a grade, and counted as wrong: {_shares(ungraded, 'of the answers')}", err=True)
    if queries:
        typer.echo(f"left out: {queries} queries, which miss the outcome of an action", err=True)


def _shares(parts: Mapping[str, float], of_what: str) -> str:
    named = [f"{name} ({share:.1%} {of_what})" for name, share in parts.items()]
    return ", ".join(named[:MOST_NAMED]) + (f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else "")


def require_logs(logs: Sequence[Path]) -> None:
    """Refuse logs that are not there.

    Raises:
        DatasetError: one is not.
    """
    from rheostat.data.errors import DatasetError

    if missing := [path for path in logs if not path.exists()]:
        raise DatasetError(f"no log at {missing[0]}: rheostat collect --export {missing[0]} makes one")


def with_backends(config: Config, given: Sequence[str] | None) -> Config:
    """The configuration with the backends that `--backend MODEL=URL` names instead of its own, if any.

    Raises:
        ConfigError: one is not of that form.
    """
    from msgspec.structs import replace

    from rheostat.data.errors import ConfigError
    from rheostat.serving.config import BackendConfig

    pairs = [item.partition("=") for item in given or []]
    if bad := [name for name, equals, url in pairs if not (name and equals and url.startswith("http"))]:
        raise ConfigError(f"--backend {bad[0]!r} is not MODEL=URL, as in pocket=http://127.0.0.1:8100")
    named = tuple(BackendConfig(name=url, url=url, model=model) for model, _, url in pairs)
    return replace(config, backend=named or config.backend)


def tracking_uri(given: str | None, config: Config, state: Path) -> str:
    """The MLflow to use: the one given, the config's, or an embedded one in the state folder."""
    if given:
        return given
    if config.mlflow.tracking_uri:
        return config.mlflow.tracking_uri
    file = embedded_mlflow(state).resolve()
    file.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{file}"


def embedded_mlflow(state: Path) -> Path:
    """The database of the MLflow in a state folder, there or not."""
    return state / "mlflow" / "mlflow.db"
