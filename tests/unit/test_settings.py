"""Settings: precedence, refusals by name, the syntax of env files, and the page that documents them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.errors import ConfigurationError
from streams.pipeline import Pipeline
from streams.policy.levels import Levels
from streams.settings import Settings, gather, read_env_file, read_settings, shown_url

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
CANARY = "canary-7f3a"
SECRET_URL = f"redis://user:{CANARY}@host:6379/0"


def env_file(folder: Path, text: str | bytes, name: str = ".env") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(environ: dict[str, str], folder: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env(environ, folder)
    return str(caught.value)


def test_nothing_set_gives_the_defaults(tmp_path):
    assert Settings.from_env({}, tmp_path) == Settings()
    assert Settings().url is None


GOOD = {
    "namespace": ("shop", "shop"),
    "levels": ("0, 3,-1", Levels([0, 3, -1])),
    "serve_levels": ("1,10", Levels([1, 10])),
    "concurrency": ("7", 7),
    "lease": ("1.5", 1.5),
    "grace_period": ("0", 0.0),
    "max_event_bytes": ("1000", 1000),
    "max_len": ("5000000", 5_000_000),
    "dedup_window": ("60", 60.0),
    "timeout": ("0.5", 0.5),
    "log": ("JSON", "json"),
    "health": (" :8080 ", ":8080"),
    "telemetry": (" OTLP , prometheus ", "otlp,prometheus"),
    "log_level": ("Debug", "debug"),
    "log_tracebacks": ("YES", True),
    "url": ("redis://h:1/2", "redis://h:1/2"),
    "url_file": (str(PAGE), str(PAGE)),
    "wait": ("Always", "always"),
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_is_read_and_trimmed(name, tmp_path):
    text, value = GOOD[name]
    found = Settings.from_env({f"STREAMS_{name.upper()}": f"  {text} "}, tmp_path)
    assert getattr(found, name) == value
    url = {"url": None} if name == "url_file" else {}
    assert (
        dataclasses.replace(found, **{name: getattr(Settings(), name)}, **url)
        == Settings()
    )


def test_the_process_environment_and_folder_are_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMS_CONCURRENCY", "3")
    env_file(tmp_path, "STREAMS_LEASE=9")
    assert (Settings.from_env().concurrency, Settings.from_env().lease) == (3, 9.0)
    assert Pipeline.from_env().settings.concurrency == 3


# Precedence


@pytest.mark.parametrize(
    ("environ", "local", "shared", "value"),
    [
        ("1", "2", "3", 1),
        (None, "2", "3", 2),
        (None, None, "3", 3),
        ("1", None, "3", 1),
        ("1", "2", None, 1),
        (None, None, None, 100),
    ],
)
def test_environment_over_env_local_over_env(environ, local, shared, value, tmp_path):
    for name, text in ((".env.local", local), (".env", shared)):
        if text is not None:
            env_file(tmp_path, f"STREAMS_CONCURRENCY={text}\n", name)
    given_environ = {} if environ is None else {"STREAMS_CONCURRENCY": environ}
    assert Settings.from_env(given_environ, tmp_path).concurrency == value


@pytest.mark.parametrize(
    ("source", "origin"),
    [("environ", "the environment"), (".env", ".env"), (".env.local", ".env.local")],
)
def test_a_refusal_says_where_the_value_comes_from(source, origin, tmp_path):
    environ = {"STREAMS_LEASE": "soon"} if source == "environ" else {}
    if source != "environ":
        env_file(tmp_path, "STREAMS_LEASE=soon", source)
    assert f"STREAMS_LEASE='soon' (from {origin})" in refusal(environ, tmp_path)


def test_a_bad_value_that_another_one_covers_does_no_harm(tmp_path):
    env_file(tmp_path, "STREAMS_LEASE=soon")
    assert Settings.from_env({"STREAMS_LEASE": "5"}, tmp_path).lease == 5


def test_other_variables_are_left_alone(tmp_path):
    env_file(tmp_path, "DATABASE_URL=x\nSTREAMS_URL=redis://h\n")
    assert set(gather({"PATH": "/bin", "REDIS_URL": "redis://r"}, tmp_path)) == {
        "STREAMS_URL",
        "REDIS_URL",
    }


LOCAL = "redis://localhost:6379/0"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, None),
        ({"REDIS_URL": "redis://r"}, "redis://r"),
        ({"REDIS_URL": ""}, None),
        ({"STREAMS_URL": "redis://s", "REDIS_URL": "redis://r"}, "redis://s"),
        ({"STREAMS_URL": " ", "REDIS_URL": "redis://r"}, "redis://r"),
        ({"STREAMS_URL": "redis://s", "USE_REDIS": "false"}, "redis://s"),
        ({"USE_REDIS": "true"}, LOCAL),
        ({"USE_REDIS": "false"}, None),
        ({"USE_REDIS": "true", "REDIS_URL": "redis://r"}, "redis://r"),
        ({"USE_REDIS": "false", "REDIS_URL": "redis://r"}, None),
        *(
            ({"USE_REDIS": yes, "REDIS_URL": "redis://r"}, "redis://r")
            for yes in ("1", "TRUE", "Yes", "on", " true ")
        ),
        *(
            ({"USE_REDIS": no, "REDIS_URL": "redis://r"}, None)
            for no in ("0", "FALSE", "No", "off", "")
        ),
    ],
)
def test_which_server(environ, url, tmp_path):
    assert Settings.from_env(environ, tmp_path).url == url


@pytest.mark.parametrize("garbage", ["maybe", "2", "truee", "-1", "None"])
def test_use_redis_is_true_or_false(garbage, tmp_path):
    message = refusal({"USE_REDIS": garbage}, tmp_path)
    assert f"USE_REDIS='{garbage}' (from the environment): use true or false" in message


def test_a_url_in_a_file(tmp_path):
    file = env_file(tmp_path, f"  {SECRET_URL}\n")
    found = Settings.from_env(
        {"STREAMS_URL_FILE": str(file), "REDIS_URL": "redis://h"}, tmp_path / "none"
    )
    assert (found.url, found.url_file) == (SECRET_URL, str(file))


def test_a_url_and_a_file_with_one_contradict_each_other(tmp_path):
    message = refusal(
        {"STREAMS_URL_FILE": str(PAGE), "STREAMS_URL": SECRET_URL}, tmp_path
    )
    assert message == "STREAMS_URL and STREAMS_URL_FILE are both set: set one of them"


# Refusals

MALFORMED = {
    "namespace": ["", "a b", "-a", "a:b", "a" * 101, "é"],
    "levels": [
        "",
        "a",
        "1,,2",
        "1,1",
        "1.5",
        "1;2",
        "0x1",
        ",".join(map(str, range(33))),
        "9999999999",
    ],
    "serve_levels": ["a", "1,,2", "1,1"],
    "concurrency": ["", "0", "-1", "1.5", "many", "100001", "1e3", "9" * 30],
    "lease": ["", "0.2", "-1", "nan", "inf", "86401", "soon", "1,5"],
    "grace_period": ["", "-0.1", "nan", "inf", "86401"],
    "max_event_bytes": ["", "0", "-5", "1.5", "1MB", "536870913"],
    "max_len": ["", "-1", "1.5", "none"],
    "dedup_window": ["", "0", "-1", "nan", "31536001"],
    "timeout": ["", "0", "0.01", "3601", "nan"],
    "log": ["", "xml", "text,json"],
    "log_level": ["", "loud", "10", "critical"],
    "log_tracebacks": ["2", "maybe", "1,0"],
    "telemetry": ["statsd", "otlp prometheus"],
    "url_file": ["/does/not/exist", "/dev/null", "/"],
    "wait": ["", "yes", "server,always"],
    "health": [
        "on",
        "65536",
        "-1",
        "host",
        "host:",
        "a b:80",
        "http://host:80",
        "::1:80",
        "unix:",
        "unix:" + "x" * 101,
    ],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in MALFORMED.items() for text in texts],
)
def test_every_malformed_value_is_refused_by_name(name, text, tmp_path):
    message = refusal({f"STREAMS_{name.upper()}": text}, tmp_path)
    assert message.startswith(f"STREAMS_{name.upper()}")
    assert "(from the environment): " in message
    assert "use " in message or "levels: give" in message


def test_every_setting_but_the_url_can_be_malformed():
    assert set(MALFORMED) | {"url"} == {
        field.name for field in dataclasses.fields(Settings)
    }


@pytest.mark.parametrize("name", [*sorted(MALFORMED), "redis"])
@pytest.mark.parametrize("secret", [SECRET_URL, f"user:{CANARY}@host", CANARY * 5])
def test_a_secret_in_the_wrong_place_is_not_repeated(name, secret, tmp_path):
    variable = "USE_REDIS" if name == "redis" else f"STREAMS_{name.upper()}"
    if name == "namespace" and secret == CANARY * 5:
        secret += "!"
    message = refusal({variable: secret}, tmp_path)
    assert variable in message
    assert CANARY not in message


def test_the_url_of_a_pipeline_is_shown_without_its_password(tmp_path):
    settings_ = Settings.from_env({"STREAMS_URL": SECRET_URL}, tmp_path)
    assert settings_.url == SECRET_URL
    assert (
        repr(Pipeline(settings=settings_)) == "<Pipeline redis://host:6379/0 groups=0>"
    )


def test_settings_are_shown_without_the_password():
    for url in (SECRET_URL, f"redis://h?password={CANARY}", f"redis://:{CANARY}"):
        assert CANARY not in repr(Settings(url=url))
    assert "concurrency=100" in repr(Settings())


quick = settings(deadline=None, database=None, max_examples=50)
words = st.text("abc123", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        (SECRET_URL, "redis://***@host:6379/0"),
        (f"rediss://:{CANARY}@h/1?db=2", "rediss://***@h/1?***"),
        (f"unix://u:{CANARY}@/run/s?password={CANARY}", "unix://***@/run/s?***"),
        (f"redis://h?password={CANARY}@b", "redis://***"),
        (f"redis://h/0#{CANARY}", "redis://h/0"),
        ("memory://", "memory://"),
        ("embedded://./data", "embedded://./data"),
        (f"user:{CANARY}@host", "***"),
        (f"{CANARY}://h", "***"),
        ("", "***"),
    ],
)
def test_how_a_url_is_shown(url, shown):
    assert shown_url(url) == shown


@quick
@given(words, words, st.dictionaries(words, words, max_size=2))
def test_no_credential_of_a_url_is_shown(user, password, query):
    tail = (
        "?" + "&".join(f"k{name}=v{value}" for name, value in query.items())
        if query
        else ""
    )
    shown = shown_url(f"redis://X{user}:Y{password}@host:1/0{tail}")
    assert shown == "redis://***@host:1/0" + ("?***" if tail else "")


# Env files


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A=", ""),
        ("A = 1 ", "1"),
        ("  A=1", "1"),
        ("export A=1", "1"),
        ("export   A = 1", "1"),
        ("A='1 2'", "1 2"),
        ('A="1 2"', "1 2"),
        ('A=" 1 "', " 1 "),
        ('A=""', ""),
        ("A='it is \"so\"'", 'it is "so"'),
        ("A=1 # one", "1"),
        ("A=1\t# one", "1"),
        ("A=a#b", "a#b"),
        ("A=#b", "#b"),
        ("A= # nothing", ""),
        ("A='1 # 2'", "1 # 2"),
        ("A='1' # one", "1"),
        ("A='1'# one", "1"),
        ("A=b=c", "b=c"),
        ("A=redis://u:p@h/0?x=1", "redis://u:p@h/0?x=1"),
        ("A=it's", "it's"),
        ("A=$B", "$B"),
        ("A=1\r", "1"),
        ("\ufeffA=1", "1"),
    ],
)
def test_lines_of_an_env_file(line, value, tmp_path):
    assert read_env_file(env_file(tmp_path, f"{line}\n")) == {"A": value}


def test_a_whole_env_file(tmp_path):
    text = "# settings\n\nA=1\n  # more\nexport B='2'\nA=3\n"
    assert read_env_file(env_file(tmp_path, text)) == {"A": "3", "B": "2"}
    assert read_env_file(env_file(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{CANARY}", "expected NAME=value"),
        (f"A {CANARY}", "expected NAME=value"),
        (f"1A={CANARY}", "expected NAME=value"),
        (f"A-B={CANARY}", "expected NAME=value"),
        (f"={CANARY}", "expected NAME=value"),
        (f"A: {CANARY}", "expected NAME=value"),
        ("export", "expected NAME=value"),
        (f"A='{CANARY}", "the quote is not closed"),
        (f'A="{CANARY}', "the quote is not closed"),
        (f"A=\"{CANARY}'", "the quote is not closed"),
        ('A="', "the quote is not closed"),
        (f'A="1" {CANARY}', "something behind the closing quote"),
        (rf'A="a\"{CANARY}"', "something behind the closing quote"),
    ],
)
@pytest.mark.parametrize("name", [".env", ".env.local"])
def test_a_bad_line_is_named_by_its_number_and_not_shown(line, why, name, tmp_path):
    env_file(tmp_path, f"# first\nB=2\n{line}\nC=3\n", name)
    message = refusal({}, tmp_path)
    assert message.startswith(f"{name}, line 3: ")
    assert why in message
    assert CANARY not in message


def test_an_env_file_that_is_no_text(tmp_path):
    env_file(tmp_path, b"A=\xff")
    assert refusal({}, tmp_path) == ".env cannot be read: UnicodeDecodeError"


def test_a_folder_called_env_is_no_file(tmp_path):
    (tmp_path / ".env").mkdir()
    assert Settings.from_env({}, tmp_path) == Settings()


variables = st.sampled_from(
    [*(f"STREAMS_{name.upper()}" for name in MALFORMED), "USE_REDIS"]
)


@settings(deadline=None, database=None, max_examples=50)
@given(st.text(max_size=40), st.dictionaries(variables, st.text(max_size=12)))
def test_any_text_is_settings_or_a_configuration_error(tmp_path_factory, text, environ):
    folder = tmp_path_factory.getbasetemp()
    path = env_file(folder, text.encode("utf-8", "replace"), ".env")
    try:
        Settings.from_env(environ, folder)
    except ConfigurationError:
        pass
    finally:
        path.unlink()


# The page

ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<unit>[^|]+) \| (?P<default>[^|]+) \| (?P<effect>[^|]+) \| (?P<variable>[^|]+) \|$",
    re.MULTILINE,
)
SHOWN = {
    "url": "none",
    "url_file": "none",
    "serve_levels": "all",
    "log_tracebacks": "`auto`",
    "health": "none",
    "telemetry": "none",
    "levels": "`0,1,5,10`",
}
UNITS = {reading.name: reading.unit for reading in read_settings({}, Path("/nowhere"))}


def rows() -> dict[str, re.Match[str]]:
    return {row["name"]: row for row in ROW.finditer(PAGE.read_text())}


def test_the_page_lists_the_settings_in_their_order():
    assert list(rows()) == [field.name for field in dataclasses.fields(Settings)]


@pytest.mark.parametrize(
    "field", dataclasses.fields(Settings), ids=lambda field: field.name
)
def test_the_page_has_every_setting_with_its_default(field):
    row = rows()[field.name]
    value = field.default
    shown = SHOWN.get(
        field.name, f"`{value:g}`" if isinstance(value, float) else f"`{value}`"
    )
    assert row["default"].strip() == shown
    assert f"`STREAMS_{field.name.upper()}`" in row["variable"]
    assert row["unit"].strip() == UNITS[field.name]
    assert row["effect"].strip().endswith(".")


def test_the_levels_of_the_page_are_the_default():
    assert ",".join(map(str, Settings().levels.ascending)) == SHOWN["levels"].strip("`")


def test_the_env_files_of_the_page_can_be_read(tmp_path):
    blocks = re.findall(
        r"^```ini\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    for block in blocks:
        env_file(tmp_path, block)
        assert Settings.from_env({}, tmp_path) != Settings()
        assert all(
            name.startswith("STREAMS_") or name in ("REDIS_URL", "USE_REDIS")
            for name in read_env_file(tmp_path / ".env")
        )


def test_every_variable_of_the_page_exists():
    known = {f"STREAMS_{field.name.upper()}" for field in dataclasses.fields(Settings)}
    assert (
        set(re.findall(r"STREAMS_[A-Z_]+[A-Z]", PAGE.read_text()))
        - {"STREAMS_ENV", "STREAMS_SERVER_BINARY"}
        == known
    )
