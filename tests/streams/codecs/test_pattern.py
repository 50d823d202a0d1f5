"""Topics that name things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codecs import open_codec
from streams.codecs.pattern import Pattern
from twin_engine.errors import InputError

LEVEL = st.text(min_size=1, max_size=6).filter(lambda text: not set(text) & set("/+#\0"))


@given(LEVEL, LEVEL)
def test_a_topic_says_what_it_was_made_from(asset: str, channel: str) -> None:
    pattern = Pattern("/plant/{asset}/x-{channel}/data")
    topic = pattern.format(asset=asset, channel=channel)
    assert pattern.match(topic) == {"asset": asset, "channel": channel}
    assert pattern.subscription == "/plant/+/+/data"


@pytest.mark.parametrize(
    ("text", "topic", "names"),
    [
        ("plant/{asset}/{channel}", "plant/a/x", {"asset": "a", "channel": "x"}),
        ("plant/{asset}/{channel}", "plant/a/x/y", None),
        ("plant/{asset}/{channel}", "plant//x", None),
        ("plant/{asset}/{channel}", "Plant/a/x", None),
        ("a.b/{asset}", "axb/1", None),
        ("site/+/{asset}/#", "site/1/a", {"asset": "a"}),
        ("site/+/{asset}/#", "site/1/a/b/c", {"asset": "a"}),
        ("site/+/{asset}/#", "site/1", None),
        ("#", "anything/at/all", {}),
        ("{line}/{asset}", "l/a", {"line": "l", "asset": "a"}),
        ("{asset}", "a key/with slashes", {"asset": "a key/with slashes"}),
    ],
)
def test_what_matches(text: str, topic: str, names: dict[str, str] | None) -> None:
    assert Pattern(text).match(topic) == names


def test_a_shared_subscription_is_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match="splits one asset's stream over its consumers"):
        Pattern("$share/g/plant/{asset}")


@pytest.mark.parametrize("text", ["", "a/#/b", "a+/b", "a/{asset", "a/{asset}/{asset}", "a/{aset}/b", "a/b#", "a/{chanel}"])
def test_what_cannot_be_subscribed_to(text: str) -> None:
    with pytest.raises(InputError, match="pattern"):
        Pattern(text)


@pytest.mark.parametrize("asset", ["", "a/b", "a+", "#"])
def test_names_that_are_no_level(asset: str) -> None:
    with pytest.raises(InputError, match="asset"):
        Pattern("plant/{asset}").format(asset=asset)


@pytest.mark.parametrize("text", ["#", "a/+/{asset}", "{line}/{asset}"])
def test_a_filter_is_no_topic(text: str) -> None:
    with pytest.raises(InputError, match="filter"):
        Pattern(text).format(asset="a")


def test_mistakes_are_told_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="Did you mean 'sparkplug'"):
        open_codec("sparkplugb")
    with pytest.raises(InputError, match="Did you mean 'unit'"):
        open_codec("json", options={"units": "s"})
    with pytest.raises(InputError, match="unit"):
        open_codec("json", options={"unit": "minutes"})
    with pytest.raises(InputError, match="channels"):
        open_codec("arrakis")
