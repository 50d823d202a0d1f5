"""The sink against a real InfluxDB: what is in it, what it refuses, what comes twice, and what a down server does."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np
import pytest

from compose.services import Missing, Server
from compose.services.certificates import throw_away
from streams import open_sink
from streams.spool import Spool
from tests.influx_server import Influx
from twin_engine.clock import NS
from twin_engine.errors import SinkError
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Update

START = 1_700_000_000
FAST, SLOW = Fraction(64), Fraction(2)
SPECS = {
    "strain": BlockSpec(FAST, ("h",)),
    "odd.score": BlockSpec(SLOW, ("cpu load", "id")),
}
SHOW = ("strain", "odd.score")
SECRET = "wrong-token-5f3a"  # noqa: S105 - one that opens nothing


@pytest.fixture
def bucket(influx: Influx, unique: str, monkeypatch: pytest.MonkeyPatch) -> Influx:
    monkeypatch.setenv("INFLUX_TOKEN", influx.token)
    return influx.fresh(unique)


def _uri(at: Influx, folder: Path, **options: str) -> str:
    options = {"org": at.org, "refused": str(folder / "refused.jsonl"), **options}
    return f"influx:{at.url}/{at.bucket}?" + "&".join(f"{key}={quote(value)}" for key, value in options.items())


def _event(second: int, revision: int, asset: str = "V1", **changes: Any) -> Event:
    at = (START + second) * NS
    event = Event(
        id=f"e{second}", twin="t", asset=asset, stage="alarm", kind="glitch", severity="warning", start=at, peak=at + 1, end=at + 2,
        score=10.0 + revision, p_value=1e-9, channels={"h": 1.0}, revision=revision, final=revision == 2,
        frequency=60.0, snr=8.5, class_="Blip",
    )  # fmt: skip
    return replace_event(event, **changes)


def replace_event(event: Event, **changes: Any) -> Event:
    return Event(**{**{name: getattr(event, name) for name in event.__struct_fields__}, **changes})


def _update(second: int, events: list[Event] | None = None, seconds: int = 1) -> Update:
    """Return a second of two assets: a sine's samples, and scores of which some are not valid."""
    rng = np.random.default_rng(second)
    fast = rng.standard_normal((2, 1, int(FAST) * seconds)) * 1e-21
    slow = (second + np.arange(2.0 * seconds))[None, None, :] + np.array([0.0, 100.0])[:, None, None] + np.array([0.0, 0.25])[:, None]
    rows = np.array([0, 1])
    outputs = {
        "strain": Block(fast, np.ones(fast.shape, bool), rows, np.array([(START + second) * int(FAST)] * 2)),
        "odd.score": Block(slow, slow % 2 != 1, rows, np.array([(START + second) * 2] * 2)),
    }
    until = (START + second + seconds) * NS
    return Update("t", ["V1", "a b,c=d\\"], outputs, SPECS, events or [], until, until)


def _rows(at: Influx, filters: str) -> list[dict[str, str]]:
    rows = at.query(f'from(bucket: "{at.bucket}") |> range(start: 0) |> filter(fn: (r) => {filters})')
    return [{key: value for key, value in row.items() if key not in {"table", "_start", "_stop"}} for row in rows]


def test_outputs_summaries_events_and_health_are_there(bucket: Influx, tmp_path: Path) -> None:
    sink = open_sink(_uri(bucket, tmp_path, site="cascina", worker="w1"), show=SHOW)
    sink.watch(lambda: {"dropped_late": 3.0})
    sink.open(None)
    for second in range(4):
        sink.write(_update(second, [_event(second, 0), _event(second, 1)]))
    sink.flush()
    sink.close()
    scores = _rows(bucket, 'r.stage == "odd"')
    assert {(r["_measurement"], r["port"], r["site"], r["_field"]) for r in scores} == {
        ("t", "score", "cascina", f) for f in ("cpu load", "id_")
    }
    mine = [(r["_time"], float(r["_value"])) for r in scores if r["asset"] == "V1" and r["_field"] == "cpu load"]
    expected = [(k, s + k) for s in range(4) for k in range(2) if (s + k) % 2 != 1]
    assert [value for _, value in mine] == [value for _, value in expected]
    assert mine[0][0] == "2023-11-14T22:13:20Z"
    assert {r["asset"] for r in scores} == {"V1", "a b,c=d/"}
    summaries = {(r["_field"], r["_time"]): float(r["_value"]) for r in _rows(bucket, 'r.stream == "strain" and r.asset == "V1"')}
    assert len(summaries) == 16
    x = _update(2).outputs["strain"].values[0, 0]
    for field, value in (("min", x.min()), ("max", x.max()), ("mean", x.mean()), ("rms", np.sqrt(np.mean(x**2)))):
        assert summaries[f"h_{field}", "2023-11-14T22:13:22Z"] == pytest.approx(value, rel=1e-12, abs=0)
    events = bucket.query(
        f'from(bucket: "{bucket.bucket}") |> range(start: 0) |> filter(fn: (r) => r.stage == "alarm")'
        '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
        '|> group(columns: ["id"]) |> sort(columns: ["revision"]) |> last(column: "revision")'
    )
    assert [(e["id"], e["revision"], e["class"], e["channels"], e["kind"]) for e in events] == [
        (f"e{k}", "1", "Blip", '{"h":1.0}', "glitch") for k in range(4)
    ]
    health = _rows(bucket, 'r._measurement == "twin_engine"')
    assert {r["_field"] for r in health} == {"updates", "events", "lines", "refused_lines", "lag_s", "latency_s", "dropped_late"}
    assert {(r["twin"], r["worker"]) for r in health} == {("t", "w1")}


def test_a_replay_changes_nothing(bucket: Influx, tmp_path: Path) -> None:
    """Going on from a snapshot, the updates since come again; and older revisions come after newer ones."""
    sink = open_sink(_uri(bucket, tmp_path), show=SHOW)
    sink.open(None)
    sink.write(_update(0, [_event(0, 0)], seconds=1))
    position = json.loads(json.dumps(sink.flush()))
    sink.write(_update(1, [_event(0, 1), _event(0, 2)]))
    sink.flush()
    sink.close()
    before = _rows(bucket, 'r._measurement == "t"')
    sink.open(position)
    sink.write(_update(1, [_event(0, 1), _event(0, 2)]))
    sink.flush()
    sink.close()
    dead = open_sink(_uri(bucket, tmp_path), show=SHOW)  # a worker that was thought dead
    dead.open(None)
    dead.write(_update(0, [_event(0, 0), _event(0, 1)]))
    dead.close()
    assert _rows(bucket, 'r._measurement == "t"') == before
    assert len(before) == 2 * 2 * 4 + 2 * (2 + 4) + 3 * 13  # summaries, scores, revisions


def test_lines_that_the_server_refuses_are_kept_with_the_reason_and_the_rest_is_written(bucket: Influx, tmp_path: Path) -> None:
    sink = open_sink(_uri(bucket, tmp_path), show=SHOW)
    sink.open(None)
    bad = _event(0, 0, start=2**63 - 1)  # a time that the server does not take
    sink.write(_update(0, [_event(1, 0), bad, _event(2, 0)]))
    position = sink.flush()
    kept = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [(k["reason"], base64.b64decode(k["raw"]).split(b" ")[-1]) for k in kept] == [("refused", b"9223372036854775807")]
    assert "time" in kept[0]["detail"]
    assert {r["_value"] for r in _rows(bucket, 'r.stage == "alarm" and r._field == "id"')} == {"e1", "e2"}
    sink.write(_update(1, [bad]))
    sink.flush()
    sink.close()
    sink.open(position)  # the file is cut back
    sink.write(_update(1, [bad]))
    sink.close()
    assert len((tmp_path / "refused.jsonl").read_text().splitlines()) == 2


def test_mistakes_are_told_and_the_token_is_not(bucket: Influx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    for options, match in (
        ({"org": "nobody"}, "organisation"),
        ({"token_env": "NOT_SET_HERE"}, r"a token in \$NOT_SET_HERE"),
        ({"token_file": str(token)}, "may write to this bucket"),
        ({"interval": "0 s"}, "interval"),
        ({"summarise_above": "often"}, "summarise_above"),
        ({"intervall": "1 s"}, "interval"),
        ({"token": SECRET}, "apart from the address"),
    ):
        token.write_text(SECRET + "\n")
        with pytest.raises(SinkError, match=match) as failure:
            open_sink(_uri(bucket, tmp_path, **options)).open(None)
        assert SECRET not in str(failure.value)
    for address in ("influx:http://h/", "influx:ftp://h/b?org=o", "influx:http://u:p@h/b?org=o", "influx:b"):
        with pytest.raises(SinkError) as failure:
            open_sink(address)
        assert ":p@" not in str(failure.value)
    with pytest.raises(SinkError, match="Create the bucket"):
        open_sink(_uri(replace(bucket, bucket="none"), tmp_path)).open(None)
    monkeypatch.setenv("INFLUX_TOKEN", "two\nlines")
    with pytest.raises(SinkError, match="other characters"):
        open_sink(_uri(bucket, tmp_path))


class _Flaky(http.server.BaseHTTPRequestHandler):
    """Answers what ``answers`` says, one a request, then 204."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[list[int]] = []
    got: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers and body else 204
        if status == 0:  # the connection breaks
            self.close_connection = True
            return
        if status == 204 and body:
            self.got.append(body)
        self.send_response(status)
        text = b"" if status == 204 else b'{"message": "not now"}'
        if text:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[Influx]:
    _Flaky.answers, _Flaky.got = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Flaky) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield Influx(f"http://127.0.0.1:{listening.server_port}", "x", "o", "b")
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("answer", [503, 429, 500])
def test_a_server_in_trouble_is_a_sink_error_and_a_spool_loses_nothing(
    flaky: Influx, tmp_path: Path, answer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFLUX_TOKEN", "x")
    sink = open_sink(_uri(flaky, tmp_path), show=SHOW)
    sink.open(None)
    _Flaky.answers = [answer]
    sink.write(_update(0))
    with pytest.raises(SinkError, match=f"HTTP {answer}, not now"):
        sink.flush()
    with pytest.raises(SinkError):
        sink.close()
    spool = Spool(open_sink(_uri(flaky, tmp_path), show=SHOW), tmp_path / "spool", show=SHOW, retry=0.0)
    spool.open(None)
    for second in range(3):
        _Flaky.answers = [answer] if second == 1 else []
        spool.write(_update(second, [_event(second, 2)]))
        spool.flush()
    spool.flush()
    assert not spool.down
    spool.close()
    ids = [line.split(b'id="')[1][:2] for body in _Flaky.got for line in body.splitlines() if b"stage=alarm" in line]
    assert list(dict.fromkeys(ids)) == [b"e0", b"e1", b"e2"]


def test_a_connection_that_broke_is_opened_again(flaky: Influx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUX_TOKEN", "x")
    sink = open_sink(_uri(flaky, tmp_path), show=SHOW)
    sink.open(None)
    sink.write(_update(0))
    sink.flush()
    _Flaky.answers = [0]
    sink.write(_update(1))
    sink.flush()
    sink.close()
    assert b"odd" in b"".join(_Flaky.got)


def test_https_is_verified(flaky: Influx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUX_TOKEN", "x")
    try:
        paths = throw_away(tmp_path / "tls", host="127.0.0.1", client="nobody")
    except Missing as reason:
        pytest.skip(str(reason))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paths["server_certificate"], paths["server_key"])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Flaky) as listening:
        listening.daemon_threads = True
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            at = replace(flaky, url=f"https://127.0.0.1:{listening.server_port}")
            with pytest.raises(SinkError, match="certificate verify failed"):
                open_sink(_uri(at, tmp_path)).open(None)
            with pytest.raises(SinkError, match="certificates"):
                open_sink(_uri(at, tmp_path, ca=str(tmp_path / "none.pem")))
            sink = open_sink(_uri(at, tmp_path, ca=paths["ca"]), show=SHOW)
            sink.open(None)
            sink.write(_update(0))
            sink.flush()
            sink.close()
        finally:
            listening.shutdown()
            thread.join()
    assert b"odd" in b"".join(_Flaky.got)


def test_no_server_is_a_sink_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFLUX_TOKEN", "x")
    with pytest.raises(SinkError, match="Start it"):
        open_sink(_uri(Influx("http://127.0.0.1:9", "x", "o", "b"), tmp_path)).open(None)


def test_a_server_that_is_killed_loses_nothing(own_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while updates are on their way, some refused in part, it has in the end what an undisturbed one has, in the same points."""
    server = own_server("influx")
    at = Influx(*server.env.values())
    monkeypatch.setenv("INFLUX_TOKEN", at.token)
    quiet, broken = at.fresh("quiet"), at.fresh("broken")
    updates = [_update(k, [_event(k, r) for r in range(3)] + ([_event(k, 0, start=2**63 - 1)] if k % 5 == 2 else [])) for k in range(20)]
    for place in (quiet, broken):
        folder = tmp_path / place.bucket
        sink = Spool(open_sink(_uri(place, folder), show=SHOW), folder / "spool", show=SHOW, retry=0.0)
        sink.open(None)
        for k, update in enumerate(updates):
            if place is broken and k == 7:
                server.kill()
            if place is broken and k == 14:
                assert sink.down
                server.run()
            sink.write(update)
            if k % 2:
                sink.flush()
        sink.flush()
        assert not sink.down
        sink.close()
    first, second = (_rows(place, 'r._measurement == "t"') for place in (quiet, broken))
    assert len(first) > 500
    assert first == second
    kept = [[line.split('"raw":')[1] for line in (tmp_path / p.bucket / "refused.jsonl").read_text().splitlines()] for p in (quiet, broken)]
    assert len(kept[0]) == 4
    assert kept[0] == kept[1]
