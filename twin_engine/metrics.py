"""What a service tells of itself over HTTP: ``/metrics`` for Prometheus, ``/livez``, ``/readyz``. On loopback unless told otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from twin_engine.errors import InputError

Figure = tuple[str, str, dict[str, str], float]  # name (a counter's ends in _total), help, labels, value


class Observed(Protocol):
    """A job that can be looked at from another thread."""

    def figures(self) -> Iterable[Figure]:
        """Return what it has done and how it stands."""
        ...

    @property
    def ready(self) -> str:
        """What it waits for, empty when it works."""
        ...

    @property
    def alive(self) -> str:
        """What it is stuck on, empty when it goes on."""
        ...


class _Collector:
    """Asks the job at each scrape."""

    def __init__(self, job: Observed) -> None:
        self._job = job

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for name, about, labels, value in self._job.figures():
            kind: Callable[..., Any] = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family: Any = families.setdefault(name, kind(f"twin_engine_{name}", about, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        return families.values()


class Metrics:
    """The server, in a thread of its own. ``port`` 0: a free one, found in ``address``."""

    def __init__(self, job: Observed, host: str = "127.0.0.1", port: int = 0) -> None:
        registry = CollectorRegistry()
        registry.register(_Collector(job))  # type: ignore[arg-type] # it collects
        ProcessCollector(registry=registry)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif path in {"/livez", "/readyz"}:
                    wrong = job.alive or (job.ready if path == "/readyz" else "")
                    self._answer(503 if wrong else 200, (wrong or "ok").encode() + b"\n", "text/plain; charset=utf-8")
                else:
                    self._answer(404, b"/metrics, /livez, /readyz\n", "text/plain; charset=utf-8")

            def _answer(self, code: int, body: bytes, kind: str) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Scrapes are not logged."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise InputError(
                f"metrics at {host}:{port}", expected="a port that is free", found=str(error), mend="Give another metrics.port."
            ) from None
        self._server.daemon_threads = True
        self.address = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def served(job: Observed, host: str, port: int) -> Generator[None]:
    """While inside, a job can be looked at (port 0: it cannot)."""
    server = Metrics(job, host, port) if port else None
    try:
        yield
    finally:
        if server:
            server.close()
