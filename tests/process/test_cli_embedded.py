"""Looking at an embedded server that is not there makes none, and says which folder was meant."""

from __future__ import annotations

import json
from pathlib import Path

from tests import terminal
from tests.servers import clean_environment


def test_looking_makes_no_folder_and_names_it_in_full(tmp_path: Path) -> None:
    environment = clean_environment() | {"STREAMS_URL": "embedded://./data"}
    seen = terminal.run("ls", env=environment, folder=tmp_path)
    assert seen.code == 0
    assert f"the folder {tmp_path / 'data'} does not exist" in seen.err
    plain = terminal.run("ls", "--json", env=environment, folder=tmp_path)
    assert json.loads(plain.out) == {"streams": [], "totals": [], "away": []}
    assert list(tmp_path.iterdir()) == []


def test_what_makes_a_folder_says_that_it_is_new_and_then_no_more(
    tmp_path: Path,
) -> None:
    environment = clean_environment() | {"STREAMS_URL": "embedded://./data"}
    words = ("publish", "orders", "--type", "t", "--data", "1")
    first = terminal.run(*words, env=environment, folder=tmp_path)
    assert first.code == 0
    assert f"the folder {tmp_path / 'data'} is new" in first.err
    assert "is new" not in terminal.run(*words, env=environment, folder=tmp_path).err
    assert "orders" in terminal.run("ls", env=environment, folder=tmp_path).out
