"""Masking: numbers that could be a person's are hidden, and what operators need stays."""

from __future__ import annotations

import re
from datetime import UTC

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streams.common.masking import masked, one_line, without_numbers
from streams.events.event import new_event_id

quick = settings(deadline=None, database=None, max_examples=100)

PHONES = [
    "+55 (11) 99999-9999",
    "+55 (11) 9 9999-9999",
    "+55 11 99999 9999",
    "5511999999999",
    "+5511999999999",
    "(11) 99999-9999",
    "(11) 99999 - 9999",
    "11.99999.9999",
    "11 9999-9999",
    "99999-9999",
    "+1 (202) 555-0147",
    "+44 20 7946 0958",
    "0049-89-636-48018",
    "+33 6 12 34 56 78",
    "11\u00a099999\u20119999",
    "11 99999\u20139999",
    "551199999\u200b9999",
    "5511\n99999\t9999",
    "٥٥١١٩٩٩٩٩٩٩٩٩",
]


def digits(text: str) -> str:
    return re.sub(r"\D", "", text)


@pytest.mark.parametrize("phone", PHONES)
def test_phone_numbers_are_masked(phone):
    for around in (
        "{}",
        "no such number: {}!",
        "to={} failed",
        '{{"phone":"{}"}}',
        "a{}b",
        "{}@s.whatsapp.net",
    ):
        text = masked(around.format(phone))
        assert len(digits(text)) <= 2
        assert "******" in text
        for word in re.findall(r"[a-z]{3,}", around):
            assert word in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "order 1234567 failed",
        "attempt 3 of 5",
        "HTTP 503",
        "e-17",
        "a1b2c3d4e5f6a7b8-1f",
        "port 6379",
        "12:34:56.789",
        "(404)",
        "v1.2.3",
        "1,000,000",
    ],
)
def test_short_numbers_and_ids_survive(text):
    assert masked(text) == text


# Both directions, by properties

AROUND = st.text(alphabet="abc XYZ=,;:'\"/\n(){}[]é", max_size=12)
groups = st.lists(st.integers(0, 999_999_999_999).map(str), min_size=1, max_size=4)
entry_ids = st.builds(
    "{}{}-{}".format,
    st.sampled_from(["", "0|", "10|", "-5|"]),
    st.integers(1_500_000_000_000, 1_999_999_999_999),
    st.integers(0, 99_999),
)
addresses = st.one_of(
    st.ip_addresses().map(str),
    st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(1, 65_535)),
    st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(1, 65_535)),
    st.builds("redis-{}.shop:{}".format, st.integers(0, 999), st.integers(1, 65_535)),
)
times = st.one_of(
    st.datetimes(timezones=st.sampled_from([None, UTC])).map(
        lambda at: at.replace(year=1900 + at.year % 200)
    ),
    st.dates().map(lambda at: at.replace(year=2000 + at.year % 100, day=1)),
    st.timedeltas().map(lambda by: str(abs(by)).rpartition(", ")[2]),
).map(str)
durations = st.floats(0, 86_400).map(lambda seconds: f"{seconds!r} s")
hashes = st.builds(
    "{}{}".format,
    st.sampled_from(["", "f_"]),  # How a server names the function of a script.
    st.one_of(st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32))
    .map(bytes.hex)
    .filter(lambda text: sum(c.isalpha() for c in text) >= 4),
)
kept = st.one_of(
    entry_ids,
    st.uuids().map(str),
    addresses,
    times,
    times.map(lambda at: at.replace(" ", "T")),
    durations,
    st.floats(0, 1, exclude_max=True).map(repr),
    st.builds(new_event_id),
    hashes,
)


@quick
@given(AROUND, kept, AROUND)
def test_what_operators_need_stays(before, shape, after):
    text = f"{before} {shape} {after}"
    assert shape in masked(one_line(text))


@quick
@given(st.lists(kept, min_size=2, max_size=5))
def test_several_of_them_stay_beside_each_other(shapes):
    text = "; ".join(shapes)
    assert masked(text) == text


def spelled(code: str, area: str, number: str, form: int) -> str:
    """A Brazilian number in one of the ways in which people and programs write it."""
    half = (number[:-4], number[-4:])
    return [
        f"+{code} ({area}) {half[0]}-{half[1]}",
        f"+{code} {area} {half[0]} {half[1]}",
        f"{code}{area}{number}",
        f"+{code}{area}{number}",
        f"({area}) {half[0]}-{half[1]}",
        f"{area} {half[0]}-{half[1]}",
        f"{area}{number}",
        f"{area}.{half[0]}.{half[1]}",
        f"{area}.{number}",
        f"+{code}.{area}{number}",
        f"0{area} {half[0]} {half[1]}",
        f"00{code} {area} {half[0]}-{half[1]}",
        f"{code}-{area}-{half[0]}-{half[1]}",
        f"({area}) {half[0][:1]} {half[0][1:]}-{half[1]}",
        f"{code}{area}{number}@s.whatsapp.net",
        f"{code}{area}{number}:12@c.us",
        f"tel:+{code}-{area}-{half[0]}-{half[1]}",
    ][form]


brazilian = st.builds(
    spelled,
    st.just("55"),
    st.integers(11, 99).map(str),
    st.one_of(
        st.integers(910_000_000, 999_999_999), st.integers(20_000_000, 59_999_999)
    ).map(str),
    st.integers(0, 16),
)
international = st.from_regex(
    r"\+(1|7|44|49|351|33|598)[ -]?\(?[2-9][0-9]{1,2}\)?[ -][0-9]{3,4}[ -]?[0-9]{4}",
    fullmatch=True,
)


def card(start: int) -> str:
    """Sixteen digits of which the last makes them a card's."""
    text = f"{start:015d}"
    total = sum(
        int(c) if at % 2 else sum(divmod(2 * int(c), 10)) for at, c in enumerate(text)
    )
    return text + str(-total % 10)


cards = st.builds(
    lambda number, separator: separator.join(
        number[at : at + 4] for at in range(0, 16, 4)
    ),
    st.integers(2 * 10**14, 699_999_999_999_999).map(card),
    st.sampled_from(["", " ", "-"]),
)


@quick
@given(AROUND, st.one_of(brazilian, international, cards), AROUND)
def test_numbers_of_people_are_hidden(before, number, after):
    text = masked(f"{before} {number} {after}")
    assert len(digits(text)) <= len(digits(before + after)) + 4
    assert number not in text
    assert "******" in text


@quick
@given(kept, st.one_of(brazilian, international, cards), kept)
def test_they_are_hidden_beside_what_stays(before, number, after):
    text = masked(f"{before}, {number}, {after}")
    assert (before in text, number in text, after in text) == (True, False, True)


@quick
@given(
    st.text(max_size=40),
    st.from_regex(r"[1-9][0-9]{7,14}", fullmatch=True),
    st.text(max_size=40),
)
def test_a_number_inside_any_text_is_masked(before, phone, after):
    assume(not re.search(r"[0-9a-f.,|:-]\Z", before))
    assume(not re.match(r"[0-9a-f.-]", after))
    assert phone not in masked(before + phone + after)


@quick
@given(st.text(alphabet="0123456789 -()+axZ\u2013\u200b\n", max_size=60))
def test_no_eight_digits_survive_in_a_row(text):
    assume("0x" not in text)
    runs = re.findall(r"\d+", masked(text))
    assert all(len(run) < 8 for run in runs)


@pytest.mark.parametrize(
    "text",
    [
        "MOVED 3839 127.0.0.1:39937",
        "Error 111 connecting to 192.168.10.12:6379",
        "no answer within 0.5712345678901234 s",
        "no answer within 57.12345678 s",
        "took 57.12345678901234",
        "1.0000000000000002e-06",
        "from 2026-12-01T10:11:12.123456+00:00 to 2026-12-01 10:11:13,123",
        "at 20261201T101112Z",
        "at 10:11:12.123456789",
        "event 12345678a0123456-1f failed",
        "0|1712345678901-0 5|1712345678902-1",
        "550e8400-e29b-41d4-a716-446655440000",
        "order-550e8400-e29b-41d4-a716-446655440000",
        "4bf92f3577b34da6a3ce929d12345678",
        "fe80::1 and 2001:0db8:85a3:0000:0000:8a2e:0370:7334 2001",
        "redis://[::ffff:10.100.12.34]:6379/0",
        "ip-10-100-12-34:6379",
        "since 1712345678.123456",
        "WRONGTYPE Operation against a key script: e46b1796038289702ab3c4d5e6f708192a3b4c5d, on @user_script:12.",
        "ERR Error running script (call to f_e46b1796038289702ab3c4d5e6f708192a3b4c5d): @user_script:12: full",
        f"sha256:{'1a' * 32}",
    ],
)
def test_what_was_met_in_log_lines_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "+45 12.34.56.78", "+1.7035555555", "11.999999999", "99999.9999", "5511999999999.0", "5511999999999-0",
        "1712345678901", "41111111111111111111111111111111", "4111111111111111-1", "x1796038289702-0",
        "1" * 40, "1" * 37 + "abc", "f_5511999999999", "+abcd" + "5" * 36, "1" * 64, "abcde5511999999999",
    ],
)  # fmt: skip
def test_what_only_looks_a_bit_like_it_is_hidden(text):
    assert "******" in masked(text)
    assert len(digits(masked(text))) <= 4


@quick
@given(st.text(), st.integers(1, 50))
def test_one_printable_line_of_limited_length(text, limit):
    for line in (masked(text, limit), one_line(text, limit)):
        assert len(line) <= limit
        assert line.isprintable()


@pytest.mark.parametrize(
    "char",
    [
        "\n",
        "\r",
        "\x00",
        "\x1b",
        "\x7f",
        "\x85",
        "\u2028",
        "\u202e",
        "\u2066",
        "\u200f",
        "\ufeff",
        "\ud800",
    ],
)
def test_characters_that_could_deceive_a_reader_are_out(char):
    assert masked(f"a{char}b") == "a b"


def test_terminal_colours_are_out():
    assert masked("\x1b[31mred\x1b[0m") == " [31mred [0m"


def test_a_long_text_is_cut_and_says_so():
    assert masked("x" * 300) == "x" * 300
    assert masked("x" * 301) == "x" * 299 + "…"
    assert masked("x" * 10**6, 10) == "x" * 9 + "…"


@pytest.mark.parametrize("cut", range(1, 16))
def test_a_number_at_the_cut_is_not_shown_in_part(cut):
    text = "1" * (1200 - cut - 1) + "x" + "5511987654321" + "y" * 400
    assert "551" not in masked(text)


# What it costs: texts of log lines come from strangers


LONG = 60_000
"""Characters that take a tenth of a second where the work grows with the text. Where it
grows with its square they take minutes, and the test its whole time."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "again", ["0", "1", "a", "1a", ":", "1:", "1.", "1-", " ", "1 "]
)
@pytest.mark.parametrize(
    "head", ["", "1512345678.", "1.", "f_1a1a1a", "2026-12-01T10:11:12.", "+55"]
)
def test_a_long_text_costs_what_its_length_says(head, again):
    """Else one line that a stranger wrote stops a worker for seconds."""
    told = without_numbers(f"5511999999999 {head}{again * (LONG // len(again))}x")
    assert "5511999999999" not in told


@pytest.mark.timeout(60)
@pytest.mark.parametrize("again", ["1", "1 ", " ", "-"])
def test_the_cut_costs_what_the_limit_says(again):
    """Before the cut there is almost a number: one letter ends it."""
    text = (again * LONG)[: LONG - 2] + "x11111"
    limit = len(text) // 4 - 1
    assert len(masked(text, limit)) <= limit
