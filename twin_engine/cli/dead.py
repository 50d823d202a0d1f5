"""``twin-engine dead``: dead letters, of a service in Kafka or in a file."""

from __future__ import annotations

from pathlib import Path

from twin_engine.cli.report import table
from twin_engine.errors import InputError


def show(place: Path, reason: str, *, send: bool, to: str, discard: bool) -> None:
    """Print them, and how many there are, after what was to be done with them."""
    if send and discard:
        raise InputError("--send and --discard", expected="one of them", found="both", mend="Send what is mended, then discard the rest.")
    service = place.suffix == ".toml"
    if bool(to) != (send and not service):
        mend = "Letters of a service go to its input." if service else "Write --send --to mqtt://..., influx:... or webhook:..."
        raise InputError("--send and --to", expected="--to beside --send, for letters in a file", found=to or "no --to", mend=mend)
    again = 0
    if service:
        from twin_engine.deploy import dead

        of_kafka = dead(place, reason=reason, send=send, discard=discard)
        count, head = len(of_kafka), ("partition", "offset", "asset", "reason", "detail", "bytes")
        table(head, [(str(d.partition), str(d.position), d.asset, d.reason, d.detail, repr(d.raw[:60])) for d in of_kafka])
    else:
        from streams.letters import letters

        found = letters(place, reason=reason, to=to, discard=discard)
        count, again = len(found), sum(bool(letter.again) for letter in found)
        head = ("from", "topic", "asset", "reason", "detail", "bytes")
        table(head, [(d.source, d.subject, d.asset, d.reason, d.again or d.detail, repr(d.raw[:60])) for d in found])
    told = f"{count - again} {'sent again' if send else 'thrown away' if discard else 'dead letters'}"
    print(told + (f", {again} refused once more" if again else ""))
