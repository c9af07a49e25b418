"""A pipeline for the tests of the harness."""

from __future__ import annotations

import pytest

from streams import Pipeline, Settings
from streams.testing import Harness
from tests.servers import Server


@pytest.fixture
def pipeline():
    return Pipeline(
        "redis://production.invalid/0", settings=Settings(namespace="production")
    )


@pytest.fixture
def bind(server: Server, pipeline):
    return lambda **options: Harness(pipeline, url=server.url, **options)
