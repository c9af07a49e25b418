"""Spans of time as people write them."""

from __future__ import annotations

import pytest

from streams import ConfigurationError, Settings
from streams.quantities import read_span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *[("90", 90), ("1.5", 1.5), (" 0 ", 0), ("1e3", 1000), (".5s", 0.5)],
        *[
            ("500ms", 0.5),
            ("90s", 90),
            ("5m", 300),
            ("2h", 7200),
            ("7d", 604_800),
            ("2w", 1_209_600),
        ],
        *[
            ("1d12h", 129_600),
            ("1h 30m", 5400),
            ("1.5h", 5400),
            ("5M", 300),
            ("1m500ms", 60.5),
        ],
    ],
)
def test_a_span_is_seconds_or_has_units(text, seconds):
    assert read_span(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "5x", "-5", "5m5m", "30m1h", "m", "1,5", "nan", "inf", "5 m", "\u0665m"],
)
def test_what_is_no_span_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="500ms, 90s, 5m, 2h, 7d or 1d12h"):
        read_span(text)


def test_variables_take_the_spans_that_options_take():
    assert Settings.from_env({"STREAMS_GRACE_PERIOD": "5m"}).grace_period == 300
    with pytest.raises(
        ConfigurationError, match="from 0 to 86400, or a span such as 30s or 5m"
    ):
        Settings.from_env({"STREAMS_GRACE_PERIOD": "2d"})
