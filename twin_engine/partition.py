"""One partition of a fleet: records in, updates and rejects out, a snapshot with the input position. Knows no broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from twin_engine.engine import Engine
from twin_engine.errors import InputError, SnapshotError
from twin_engine.records import COMMAND, Codec, Command, Reason, Record, Reject, Update
from twin_engine.regroup import commanded
from twin_engine.snapshot import Snapshot, pack
from twin_engine.twin import Twin


@dataclass
class Taken:
    """What a batch of records gave."""

    updates: list[Update] = field(default_factory=list[Update])
    rejects: list[Reject] = field(default_factory=list[Reject])
    records: int = 0  # those that were not skipped
    samples: int = 0


class Partition:
    """The assets of a twin in one partition of its input.

    codec: of this partition alone, for it may remember. snapshot: what ``pack`` gave. partitions: how many the input has. Raises
    SnapshotError where the snapshot is of a newer definition or of another number of partitions.
    """

    def __init__(self, twin: Twin, assets: Sequence[str], codec: Codec, snapshot: Snapshot | None, partition: int, partitions: int) -> None:
        self.twin, self.codec, self.number, self.partitions = twin, codec, partition, partitions
        place: dict[str, Any] = snapshot.document["source"] if snapshot else {"offset": 0, "memory": None}
        if snapshot:
            self._check(place)
        self.removed = set[str](place.get("removed", ()))  # by commands; they stay so though the configuration lists them
        self.engine = Engine(twin, [name for name in assets if name not in self.removed], snapshot)
        self.offset: int = place["offset"]  # of the next record
        codec.recall(place["memory"])

    def _check(self, place: dict[str, Any]) -> None:
        where = f"snapshot of twin {self.twin.name!r}, partition {self.number}"
        if place["partitions"] != self.partitions:
            raise SnapshotError(
                where, expected=f"an input of {place['partitions']} partitions", found=str(self.partitions),
                mend="Assets would change places: stop the workers and run twin-engine migrate.",
            )  # fmt: skip
        if place["version"] > self.twin.version:
            raise SnapshotError(
                where, expected=f"a definition of version {place['version']} or newer", found=f"version {self.twin.version}",
                mend="Update this worker: a newer one has been here.",
            )  # fmt: skip

    def take(self, records: Sequence[Record]) -> Taken:
        """Take records in the order of their positions (offsets); those below its own are skipped."""
        taken, begin = Taken(), self.offset
        if records and records[0].position < begin:
            records = [record for record in records if record.position >= begin]
        run: list[Record] = []
        for record in records:
            if record.headers and COMMAND in record.headers:
                self._read(run, taken)  # what came before it is under the old order
                run = []
                self._refuse(self._command(record), taken)
            else:
                run.append(record)
        self._read(run, taken)
        if records:
            self.offset = records[-1].position + 1
            taken.records = len(records)
        return taken

    def _read(self, records: Sequence[Record], taken: Taken) -> None:
        readings, rejects = self.codec.decode_all(records)
        taken.samples += sum(reading.values.size for reading in readings)
        self._refuse(rejects, taken)
        taken.updates += self.engine.put_all(readings)

    def _refuse(self, rejects: Sequence[Reject], taken: Taken) -> None:
        if rejects:
            self.engine.telemetry.rejects.update([reject.reason for reject in rejects])
            taken.rejects += rejects

    def _command(self, record: Record) -> Sequence[Reject]:
        """Do what a command says; one that makes no sense is a reject."""
        try:
            command = msgspec.json.decode(record.raw, type=Command)
            self.engine = commanded(self.engine, command)
            self.removed -= {command.asset}
            if command.kind == "remove":
                self.removed.add(command.asset)
        except (msgspec.DecodeError, InputError) as error:
            told = f"command: {error}"
            return [Reject(Reason.MALFORMED, told, record.source, record.raw, record.position, "", record.headers, record.subject)]
        return []

    def pack(self) -> bytes:
        """Return a snapshot as bytes."""
        place = {
            "partition": self.number, "partitions": self.partitions, "offset": self.offset, "version": self.twin.version,
            "memory": self.codec.memory, "removed": sorted(self.removed),
        }  # fmt: skip
        return pack(self.engine.snapshot(place))
