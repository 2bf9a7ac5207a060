"""``jwt-audit sink``: the embedded receiver, for where no collector is."""

from __future__ import annotations

from pathlib import Path

import click

from .output import news


@click.command(short_help="Receive by OTLP and keep it in files, for where no collector is.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=Path("jwt-audit-sink"))
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port",
    default=4318,
    show_default=True,
    metavar="NUMBER",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
def sink(directory: Path, host: str, port: int) -> None:
    """Receive traces, metrics, logs and audit records by OTLP/HTTP; keep them in DIRECTORY.

    One JSON line a request in traces.jsonl, metrics.jsonl, logs.jsonl and audit.jsonl, each on the
    disk before the sender has its answer. A file there that a sink did not begin is not touched: it
    is named, and the sink does not start. It speaks HTTP alone: start the app with
    OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf. There is no authentication: on another address than
    loopback anyone there can write. It ends by SIGINT or SIGTERM.

    \b
      jwt-audit sink /var/lib/jwt-audit-sink
      jwt-audit sink --port 0 ./out      a free port, named in the first line

    \b
    Exit status 0  ended by a signal; what was confirmed is on disk
                1  it cannot listen or write there, or lacks the extra "sink"
                2  wrong usage
    """
    try:
        from ..sink.server import serve
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"the sink needs {error.name}: pip install 'opentelemetry-instrumentation-jwt-audit[sink]'"
        ) from error
    serve(directory, host, port, lambda url: news(f"listening on {url}, writing to {directory}"))
