"""Tests of the server suite with a user per role, and by TLS with a certificate of the client.

``make conformance ON="acl tls"`` runs all of it so; these are the quick ones, that every change passes.
"""

import pytest

from tests.conformance.conftest import HAS_TLS
from tests.server.test_cancellations import *
from tests.server.test_dead_letters import *
from tests.server.test_fanout import *
from tests.server.test_producer import *
from tests.server.test_reclaimer import *
from tests.server.test_scheduler import *


def test_tls_is_tried_here():
    if not HAS_TLS:
        pytest.skip("no server that is here was built with TLS: the wheel's is not, a system's redis-server is")


@pytest.fixture(scope="session")
def server(guarded):
    return guarded
