"""Tests of the server suite on the embedded server, and by TLS with a certificate of the client.

It is the same server, reached in another way: what publishes and what reads is enough to show that. All of the suite
runs so with ``make conformance ON="embedded tls"``.
"""

import pytest

from tests.conformance.conftest import HAS_TLS
from tests.server.test_dedupe import *
from tests.server.test_reclaimer import *
from tests.server.test_scheduler import *
from tests.server.test_sweepers import *


def test_tls_is_tried_here():
    if not HAS_TLS:
        pytest.skip(
            "no server that is here was built with TLS: the wheel's is not, a system's redis-server is"
        )


@pytest.fixture(scope="session")
def server(reached):
    return reached
