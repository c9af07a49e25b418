"""Tests of the server suite with a user per role.

``make conformance ON=acl`` runs all of it so; these are the quick ones, that every change passes.
"""

import pytest

from tests.server.test_cancellations import *
from tests.server.test_dead_letters import *
from tests.server.test_fanout import *
from tests.server.test_producer import *
from tests.server.test_producer_bounds import *
from tests.server.test_reclaimer import *
from tests.server.test_scheduler import *
from tests.server.test_sweepers import *


@pytest.fixture(scope="session")
def server(guarded):
    return guarded
