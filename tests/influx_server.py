"""A real InfluxDB, as tests talk to it; the fixture `influx` gives one."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from dataclasses import dataclass
from typing import Any


@dataclass
class Influx:
    """Where the server is, and what it lets us do."""

    url: str
    token: str
    org: str
    bucket: str

    def request(self, path: str, body: Any = None, *, kind: str = "application/json", method: str = "POST") -> str:
        """Return what the server says."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Token {self.token}", "Content-Type": kind}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=60) as answer:  # noqa: S310
            return answer.read().decode()

    def query(self, flux: str) -> list[dict[str, str]]:
        """Return the rows of a Flux query."""
        text = self.request(f"/api/v2/query?org={self.org}", flux.encode(), kind="application/vnd.flux")
        rows: list[dict[str, str]] = []
        for table in text.replace("\r\n", "\n").strip("\n").split("\n\n"):
            rows += list(csv.DictReader(io.StringIO(table)))
        return rows

    def fresh(self, name: str) -> Influx:
        """Return an empty bucket of that name."""
        organisation = json.loads(self.request(f"/api/v2/orgs?org={self.org}", method="GET"))["orgs"][0]["id"]
        for old in json.loads(self.request(f"/api/v2/buckets?name={name}", method="GET"))["buckets"]:
            self.request(f"/api/v2/buckets/{old['id']}", method="DELETE")
        self.request("/api/v2/buckets", {"orgID": organisation, "name": name, "retentionRules": []})
        return Influx(self.url, self.token, self.org, name)
