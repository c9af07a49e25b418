"""The seeded bugs still fit today's source; ``make mutants`` shows that each is noticed."""

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.run import ROOT, applied
from tests.servers import BINARIES, Server


@pytest.fixture(scope="module")
def server():
    """One is enough to say whether a script is Lua."""
    running = Server(BINARIES[0]).start()
    yield running
    running.close()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_to_one_place_and_leaves_valid_source(mutant, server):
    path, text = applied(mutant, ROOT)
    if path.suffix == ".py":
        compile(text, path, "exec")
    else:
        with server.client() as client:
            assert client.script_load(text)


def test_the_tests_of_each_mutant_exist():
    assert [mutant.name for mutant in MUTANTS if not mutant.tests] == []
    files = {
        (mutant.name, ROOT / path.partition("::")[0])
        for mutant in MUTANTS
        for path in mutant.tests
    }
    assert [wanted for wanted in files if not wanted[1].exists()] == []


def test_names_are_unique():
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
