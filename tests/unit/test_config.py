"""The configuration of a service: TOML, the environment over it, mistakes told by their keys."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pydantic_settings")

from twin_engine.assets import expand
from twin_engine.config import read_config, secret
from twin_engine.deploy import delivery_of
from twin_engine.errors import InputError, SinkError
from twin_engine.loader import load


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, 'twin = "host"\n[kafka]\nbootstrap = "a:1"\nuser = "u"\npassword_env = "P"\n')
    monkeypatch.setenv("TWIN_ENGINE__KAFKA__BOOTSTRAP", "b:2")
    monkeypatch.setenv("P", "hidden")
    cluster = read_config(path).kafka.cluster()
    assert (cluster.bootstrap, cluster.password, cluster.protocol) == ("b:2", "hidden", "SASL_PLAINTEXT")
    assert "hidden" not in repr(cluster)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('twin = "host"\n[kafka]\nbotstrap = "a"\n', "Did you mean 'kafka.bootstrap'"),
        ('twin = "host"\nassetts = ["a"]\n', "Did you mean 'assets'"),
        ('twin = "host"\n[sinks.x]\ntoo = "jsonl:x"\n', "Did you mean 'sinks.x.to'"),
        ('twin = "host"\n[sinks.x]\nto = "jsonl:x"\nstat = "x"\n', "Did you mean 'sinks.x.state'"),
        ('twin = "host"\n[worker]\nruntime = "spark"\n', "worker.runtime.*'faust' or 'aiokafka'"),
        ('twin = "host"\n[worker]\nsession = 1\n', "worker.session"),
        ("assets = []\n", "twin"),
        ("twin = \n", "TOML"),
    ],
)
def test_a_mistake_names_its_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_config(written(tmp_path, text))


def test_a_variable_that_is_mistyped_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, 'twin = "host"\n')
    for name, value in (("SINKS__X__TO", "jsonl:x"), ("INPUT__OPTIONS__UNIT", "ms"), ("LOG", '{"level": "debug"}'), ("ASSETS", '["a"]')):
        monkeypatch.setenv(f"TWIN_ENGINE__{name}", value)
    config = read_config(path)
    assert (config.sinks["x"].to, config.input.options, config.log.level, config.assets) == ("jsonl:x", {"unit": "ms"}, "debug", ("a",))
    for name, told in (("WORKR__MEMBER", "worker.member"), ("ASSETTS", "assets"), ("WORKER__MEMBR", "worker.member")):
        with monkeypatch.context() as one:
            one.setenv(f"TWIN_ENGINE__{name}", "x")
            with pytest.raises(InputError, match=f"{name}.*Did you mean '{told}'"):
                read_config(path)


def test_the_place_of_a_sink_is_in_a_folder_that_is_there(tmp_path: Path) -> None:
    to = f'twin = "host"\n[sinks.x]\nto = "jsonl:{tmp_path}/x.jsonl"\nstate = "{tmp_path}/none/x.json"\n'
    config = read_config(written(tmp_path, to))
    with pytest.raises(SinkError, match=r"sinks\.x\.state.*Mount a volume"):
        delivery_of(config, load(config.twin), "x")


def test_a_secret_is_in_a_variable_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    assert secret("token", "", tmp_path / "token") == "s3cret"
    with pytest.raises(InputError, match="UNSET_VARIABLE unset"):
        secret("token", "UNSET_VARIABLE", None)
    with pytest.raises(InputError, match="can be read"):
        secret("token", "", tmp_path / "none")


def test_ranges_of_assets_are_written_out(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("x\n\nr[8-10]\n")
    assert expand(["t-[08-11]", "x"], tmp_path / "names") == ["t-08", "t-09", "t-10", "t-11", "x", "r8", "r9", "r10"]
    assert expand(["a[1-2]b[0-1]"]) == ["a1b0", "a1b1", "a2b0", "a2b1"]
    for wrong in ("a[3-1]", "a[0-99999999]"):
        with pytest.raises(InputError, match="range"):
            expand([wrong])
