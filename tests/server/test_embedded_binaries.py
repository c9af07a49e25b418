"""A folder of embedded:// is opened by the server that can, whichever other one comes first; and no Ctrl-C decides."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streams.broker.server import binaries
from streams.broker.server.binaries import (
    NOTE,
    Build,
    find_server,
    find_servers,
    written_by,
)
from streams.errors import NoServer
from tests.server.test_embedded import Home, call, fake, home  # noqa: F401 - a fixture

VALKEY = next(
    (path for path in find_servers() if "alkey" in str(binaries._build_of(path))), ""
)
REDIS = next(
    (path for path in find_servers() if "Redis" in str(binaries._build_of(path))), ""
)
both = pytest.mark.skipif(not (VALKEY and REDIS), reason="needs a Valkey and a Redis")


def only(monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    monkeypatch.delenv("STREAMS_SERVER_BINARY", raising=False)
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(paths))


def written(home: Home, monkeypatch: pytest.MonkeyPatch, binary: str) -> None:  # noqa: F811
    only(monkeypatch, binary)
    server = home.use()
    call(server.acquire(), "SET", "k", "v")
    server.close(wait=True)


@both
@pytest.mark.parametrize("noted", [True, False])
def test_the_server_that_wrote_a_folder_opens_it_again(home, monkeypatch, noted):  # noqa: F811
    written(home, monkeypatch, VALKEY)
    assert (home.path / "data" / NOTE).read_text().split()[::2] == ["valkey", VALKEY]
    if not noted:
        (home.path / "data" / NOTE).unlink()
    only(monkeypatch, REDIS, VALKEY)
    server = home.use()
    assert call(server.acquire(), "GET", "k") == "v"
    assert "alkey" in str(call(server.acquire(), "INFO", "server"))
    server.close(wait=True)


@both
@pytest.mark.parametrize("noted", [True, False])
def test_without_it_the_error_says_which_server_and_where_to_name_it(
    home,  # noqa: F811
    monkeypatch,
    noted,
):
    written(home, monkeypatch, VALKEY)
    build = written_by(home.path / "data") if noted else Build("valkey", (9, 0))
    if not noted:
        (home.path / "data" / NOTE).unlink()
    only(monkeypatch, REDIS)
    with pytest.raises(NoServer) as caught:
        home.use().acquire()
    for words in (
        f"{home.path}/data were written by {build}",
        REDIS,
        "STREAMS_SERVER_BINARY=/path/to/valkey-server",
    ):
        assert words in str(caught.value)
    monkeypatch.setenv("STREAMS_SERVER_BINARY", VALKEY)
    server = home.use()
    assert call(server.acquire(), "GET", "k") == "v"
    server.close(wait=True)


@both
def test_a_named_server_that_cannot_is_told_who_could(home, monkeypatch):  # noqa: F811
    written(home, monkeypatch, VALKEY)
    monkeypatch.setenv("STREAMS_SERVER_BINARY", REDIS)
    with pytest.raises(
        NoServer,
        match=r"ended while it was starting\. The data in .* were written by Valkey",
    ):
        home.use().acquire()


@both
def test_what_redis_wrote_before_they_parted_is_opened_by_either(home, monkeypatch):  # noqa: F811
    build = binaries._build_of(REDIS)
    if build is None or build.version >= (7, 4) or build.version < (7, 0):
        pytest.skip("it is another Redis")
    written(home, monkeypatch, REDIS)
    only(monkeypatch, VALKEY)
    server = home.use()
    assert call(server.acquire(), "GET", "k") == "v"
    server.close(wait=True)
    assert written_by(home.path / "data") == binaries._build_of(VALKEY), (
        "from now on it is Valkey's"
    )


def test_who_reads_whom():
    redis7, redis8, valkey8, valkey9 = (
        Build("redis", (7, 2)), Build("redis", (8, 0)), Build("valkey", (8, 1)), Build("valkey", (9, 1)),
    )  # fmt: skip
    builds = (redis7, redis8, valkey8, valkey9)
    reads = {(one, other) for one in builds for other in builds if one.reads(other)}
    own = {(one, one) for one in builds}
    assert reads == own | {
        (redis8, redis7),
        (valkey8, redis7),
        (valkey9, redis7),
        (valkey9, valkey8),
    }


@pytest.mark.parametrize("end", ["kill -9 $$", "kill -2 $$", "sleep 60"])
def test_a_check_that_was_killed_or_took_too_long_is_no_verdict(
    tmp_path, monkeypatch, end
):
    """Another server would be taken in its place, and write a folder that this one cannot read."""
    first, second = tmp_path / "valkey-server", tmp_path / "redis-server"
    first.write_text(f"#!/bin/sh\n{end}\n")
    first.chmod(0o755)
    fake(second, "7.2.0")
    only(monkeypatch, str(first), str(second))
    monkeypatch.setattr(binaries, "_SECONDS", 0.3)
    assert find_server() == str(first)
    asked = tmp_path / "asked"
    first.write_text(f"#!/bin/sh\ntouch {asked}; echo Valkey server v=9.1.2\n")
    os.utime(first, ns=(Path(second).stat().st_mtime_ns,) * 2)
    assert find_server() == str(first)
    assert asked.exists(), "no verdict is none to keep"
