"""The command line. Commands are thin and import what they need when they run, so that ``--help`` is quick.

Exit codes: 0 done (also after Ctrl-C or SIGTERM, once all is saved); 1 a check found something wrong, or a failure that is a bug; 2 wrong
usage; 3 a wrong definition; 4 input; 5 snapshot; 6 output; 130 interrupted before all was saved.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="twin-engine",
    help="Digital twins of real assets, with streaming anomaly detection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXTRAS = {
    "aiokafka": "kafka,service", "faust": "kafka,service", "pydantic": "kafka,service", "pydantic_settings": "kafka,service",
    "structlog": "kafka,service", "prometheus_client": "kafka,service", "paho": "mqtt", "amqtt": "mqtt", "influxdb_client": "influx",
}  # fmt: skip
"""Packages that are not in the core, and the extras that a command which needs them wants."""

For = Annotated[float | None, typer.Option("--for", metavar="SECONDS", min=0.0, help="Stop after that many seconds.")]


def main() -> None:
    """Run the command line; an error that a person can mend is printed as its text, without a traceback."""
    from twin_engine.errors import TwinError

    try:
        app()
    except TwinError as error:
        print(f"twin-engine: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extras = EXTRAS.get((error.name or "").partition(".")[0])
        if extras is None:
            raise
        mend = f"Install twin-engine[{extras}] (in a checkout: make all)."
        print(f"twin-engine: expected the package {error.name}, found not installed. {mend}", file=sys.stderr)
        sys.exit(4)


@app.command()
def run(
    twin: Annotated[str, typer.Argument(metavar="TWIN", help="Name of the catalogue, package.module:attribute, or a .py file.")],
    source: Annotated[str, typer.Option("--from", metavar="URI", help="Where readings come from: sim:, host:, csv:FILE, gwosc:FILE ...")],
    sinks: Annotated[
        list[str] | None, typer.Option("--to", metavar="URI", help="Where events and series go: terminal:, jsonl:FILE ... Repeatable.")
    ] = None,
    asset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The asset's name, where the source has none; t-[01-20] is 20 names. Repeatable."),
    ] = None,
    assets: Annotated[Path | None, typer.Option(metavar="FILE", help="Names of assets, one a line.")] = None,
    speed: Annotated[str, typer.Option(metavar="SPEED", help="Of a recording: max, realtime or 10x.")] = "max",
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep snapshots there and go on from the newest.")] = None,
    duration: For = None,
) -> None:
    """Run a twin on a source. Ctrl-C writes out what is held, saves a snapshot and ends."""
    from twin_engine.cli.report import exit_code, summary
    from twin_engine.service import run as serve

    report = serve(twin, source, sinks or (), assets=asset or (), assets_file=assets, speed=speed, state=state, duration=duration)
    print(summary(report), file=sys.stderr)
    if code := exit_code(report):
        raise typer.Exit(code)


@app.command()
def detect(
    source: Annotated[Path, typer.Argument(metavar="FILE_OR_DIR", help="A CSV or Parquet file, or a folder of them.")],
    time: Annotated[str, typer.Option(metavar="COL", help="The column that holds the time.")],
    value: Annotated[list[str], typer.Option(metavar="COL", help="A column of values. Repeatable.")],
    target: Annotated[Path, typer.Option("--to", metavar="FILE_OR_DIR", help="Where to write; a folder for a folder.")],
    detector: Annotated[str, typer.Option(metavar="NAME", help="Which detector.")] = "auto",
    unit: Annotated[str, typer.Option(metavar="UNIT", help="Of a numeric time: s, ms, us, ns or gps.")] = "s",
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw the series with its alarms.")] = None,
) -> None:
    """Score every row of a table by what came before it: one row out for each row in, with score, p_value and alarm."""
    from twin_engine.cli.detect import detect_path

    detect_path(source, target, time=time, values=value, detector=detector, unit=unit, plot=plot)


@app.command()
def demo(duration: For = None) -> None:
    """Show the twin of this machine and a simulated interferometer, live, through a broker of MQTT."""
    from twin_engine.demo import demo as show

    show(duration)


@app.command()
def worker(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file: see docs/reference/configuration.md.")],
) -> None:
    """Work on partitions of a twin's input in Kafka. SIGTERM saves everything, then ends."""
    from twin_engine.deploy import work

    work(config)


@app.command()
def sink(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file: see docs/reference/configuration.md.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of its sections sinks.NAME.")],
) -> None:
    """Deliver a twin's updates from Kafka into a sink."""
    from twin_engine.deploy import deliver

    deliver(config, name)


@app.command()
def bridge(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file: see docs/reference/configuration.md.")],
    state: Annotated[Path, typer.Option(metavar="DIR", help="Of the log in which messages wait for Kafka.")],
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URI", help="mqtt://USER@HOST/topic/{asset}/{channel}; else the section mqtt says it."),
    ] = None,
    late: Annotated[
        bool, typer.Option("--late", help="Acknowledge what Kafka has, not what is logged: it outlives this disk, but waits at the broker.")
    ] = False,
) -> None:
    """Send on what an MQTT broker has to a twin's input in Kafka."""
    from twin_engine.deploy import bridge as send

    send(config, source, state, late=late)


@app.command()
def record(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file: see docs/reference/configuration.md.")],
) -> None:
    """Keep a twin's input in Kafka as history, as it comes: run TWIN --from history:DIR plays it again."""
    from twin_engine.deploy import record as keep

    keep(config)


@app.command()
def migrate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file: see docs/reference/configuration.md.")],
    partitions: Annotated[int, typer.Option(metavar="N", min=1, help="How many partitions the twin's topics get.")],
) -> None:
    """Raise the number of partitions of a twin's topics; its workers have caught up and ended."""
    from twin_engine.deploy import migrate as deal

    for number, assets in enumerate(deal(config, partitions)):
        print(f"partition {number}: {assets} assets")


@app.command()
def command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file: see docs/reference/configuration.md.")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help="add, remove or restart.")],
    asset: Annotated[str, typer.Argument(metavar="ASSET", help="Its name; * for all (restart).")],
) -> None:
    """Change a running twin: the command is an input, in order with the data."""
    from msgspec import ValidationError, convert

    from twin_engine.deploy import command as give
    from twin_engine.records import Command

    try:
        order = convert({"kind": kind, "asset": asset}, Command)
    except ValidationError as error:
        raise typer.BadParameter(f"{kind!r}: {error}. Write add, remove or restart.") from None
    print(f"sent to partition {', '.join(map(str, give(config, order)))}")


@app.command()
def dead(
    place: Annotated[
        Path, typer.Argument(metavar="PLACE", help="A service's TOML file, a run's state folder, or a file of refused lines.")
    ],
    reason: Annotated[str, typer.Option(metavar="REASON", help="Only those.")] = "",
    send: Annotated[bool, typer.Option("--send", help="Send them again, once.")] = False,
    to: Annotated[str, typer.Option(metavar="URI", help="Where to, for those in a file: mqtt://..., influx:..., webhook:...")] = "",
    discard: Annotated[bool, typer.Option("--discard", help="Throw them away.")] = False,
) -> None:
    """Show what could not be read, or a sink did not take, and why; send it again once that is mended, or throw it away."""
    from twin_engine.cli.dead import show

    show(place, reason, send=send, to=to, discard=discard)


@app.command()
def twins() -> None:
    """List the catalogue."""
    from twin_engine.cli.report import table
    from twin_engine.loader import catalogue

    table(("twin", "what it is"), list(catalogue().items()))


@app.command()
def check(module: Annotated[str, typer.Argument(metavar="MODULE", help="A twin, as for run.")]) -> None:
    """Say what a twin does, or what is wrong with its definition."""
    from twin_engine.cli.report import explain
    from twin_engine.loader import load

    explain(load(module))


@app.command()
def new(name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the kind of asset, a Python identifier.")]) -> None:
    """Write a working twin module and its test into this folder."""
    from twin_engine.cli.new import write

    for path in write(name, Path.cwd()):
        print(path)


@app.command()
def history(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What --to parquet:DIR wrote.")],
    sql: Annotated[str | None, typer.Option(metavar="QUERY", help='On the tables events, latest_events, input, "stage.port".')] = None,
    output: Annotated[str | None, typer.Option(metavar="NAME", help="An output, or input; else the events are shown.")] = None,
    twin: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of which twin. Repeatable.")] = None,
    asset: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of which asset. Repeatable.")] = None,
    begin: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From that ISO time on.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until before that ISO time.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a .parquet or .csv file.")] = None,
) -> None:
    """Look at what a run kept. To run a twin on it again: run TWIN --from history:DIR."""
    from twin_engine.cli.history import show

    show(directory, sql=sql, output=output, twins=twin or (), assets=asset or (), begin=begin, end=end, target=save)


@app.command()
def dashboards(
    target: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to write; compose mounts compose/grafana.")],
    twin: Annotated[list[str] | None, typer.Argument(metavar="TWIN", help="As for run; the whole catalogue when none is named.")] = None,
) -> None:
    """Write Grafana's provisioning: data source, dashboards and alert rules of twins."""
    from twin_engine.cli.dashboards import write

    for path in write(twin or (), target):
        print(path)


@app.command()
def doctor() -> None:
    """Say what is installed and reachable: versions, GPU, free disk, servers."""
    from twin_engine.cli.doctor import examine

    if not examine():
        raise typer.Exit(1)
