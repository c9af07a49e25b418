"""Tests of the server suite, where there are several servers: the same code must say the same there.

``make conformance`` runs all of that suite there; these are the quick ones, that every change passes.
"""

from tests.server.test_cancellations import *
from tests.server.test_dead_letters import *
from tests.server.test_dedupe import *
from tests.server.test_fanout import *
from tests.server.test_groups import *
from tests.server.test_mending import *
from tests.server.test_producer import *
from tests.server.test_producer_bounds import *
from tests.server.test_reclaimer import *
from tests.server.test_scheduler import *
from tests.server.test_status import *
from tests.server.test_sweepers import *
