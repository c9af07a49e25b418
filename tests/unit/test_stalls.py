"""A failure counts on a machine that ran the test; on one that stalled, the test is repeated, alone."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

CONFTEST = """
    from tests import stalls

    stalls.STALL = {stall}
    stalls.TIMELESS = ("timeless",)

    def pytest_configure(config):
        stalls.configure(config)

    def pytest_terminal_summary(terminalreporter):
        stalls.summarize(terminalreporter)
"""

FAILS_TWICE = """
    from pathlib import Path

    def test_it(request):
        path = Path("{folder}/runs")
        runs = len(path.read_text()) if path.exists() else 0
        path.write_text("x" * (runs + 1))
        assert runs >= 2
"""

ALWAYS, NEVER = -1.0, 1e9
"""Stalls that every machine has, and none."""


@pytest.fixture
def project(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_TESTRUNUID", raising=False)
    # Most of the time of such a run is imports.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_timeout -p xdist")
    pytester.makeini("[pytest]")
    return pytester


def set_up(project: pytest.Pytester, stall: float, test: str) -> None:
    project.makeconftest(CONFTEST.format(stall=stall))
    project.makepyfile(test.replace("{folder}", str(project.path)))


def test_a_failure_is_repeated_when_the_machine_stalled(
    project: pytest.Pytester,
) -> None:
    set_up(project, ALWAYS, FAILS_TWICE)
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*repeated alone*", "*test_it: the machine stalled for 0.*, 0.* s"]
    )


def test_a_failure_on_a_quiet_machine_is_one(project: pytest.Pytester) -> None:
    set_up(project, NEVER, FAILS_TWICE)
    result = project.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*repeated alone*")


def test_a_test_that_fails_each_time_fails(project: pytest.Pytester) -> None:
    set_up(project, ALWAYS, FAILS_TWICE.replace("runs >= 2", "runs < 0"))
    project.runpytest_subprocess().assert_outcomes(failed=1)
    assert (project.path / "runs").read_text() == "xxxx"  # Once, and three times more.


def test_repeats_can_be_refused(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMS_TEST_REPEATS", "0")
    set_up(project, ALWAYS, FAILS_TWICE)
    project.runpytest_subprocess().assert_outcomes(failed=1)


def test_a_repeat_is_alone(project: pytest.Pytester) -> None:
    test = """
        import time
        from pathlib import Path

        import pytest

        @pytest.mark.parametrize("n", range(15))
        def test_it(n):
            at_work, failed = Path("{folder}/at-work"), Path(f"{folder}/failed-{n}")
            at_work.mkdir(exist_ok=True)
            mine = at_work / str(n)
            mine.touch()
            try:
                for _ in range(10):
                    time.sleep(0.002)
                    others = len(list(at_work.iterdir())) - 1
                    if failed.exists():
                        assert not others, "somebody else is at work"
            finally:
                mine.unlink()
            if n % 5 == 0 and not failed.exists():
                failed.touch()
                raise AssertionError
    """
    set_up(project, ALWAYS, test)
    result = project.runpytest_subprocess("-n", "3")
    result.assert_outcomes(passed=15)
    assert (
        len([line for line in result.outlines if "the machine stalled for" in line])
        == 3
    )
    assert all(
        line.count(", ") == 0
        for line in result.outlines
        if "the machine stalled for" in line
    )


FAILS_ONCE_EACH = """
    from pathlib import Path

    import pytest

    @pytest.mark.parametrize("n", range(4))
    def test_it(n):
        path = Path(f"{folder}/failed-{n}")
        if not path.exists():
            path.touch()
            raise AssertionError
"""


def test_repeats_have_a_budget(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMS_TEST_REPEATS", "2")
    set_up(project, ALWAYS, FAILS_ONCE_EACH)
    result = project.runpytest_subprocess("-n", "2")
    result.assert_outcomes(passed=2, failed=2)
    assert (
        len([line for line in result.outlines if "the machine stalled for" in line])
        == 2
    )


def test_a_stall_excuses_no_test_in_which_no_time_passes(
    project: pytest.Pytester,
) -> None:
    set_up(project, ALWAYS, FAILS_TWICE)
    (project.path / "timeless").mkdir()
    for path in project.path.glob("test_*.py"):
        path.rename(project.path / "timeless" / path.name)
    project.runpytest_subprocess().assert_outcomes(failed=1)


@pytest.mark.parametrize("half", ["before", "after"])
def test_a_fixture_that_fails_has_its_test_repeated_once(
    project: pytest.Pytester, half: str
) -> None:
    test = """
        from pathlib import Path

        import pytest

        def fails_once():
            path = Path("{folder}/failed")
            if not path.exists():
                path.touch()
                raise AssertionError

        @pytest.fixture
        def before():
            fails_once()

        @pytest.fixture
        def after():
            yield
            fails_once()

        def test_it(HALF):
            with Path("{folder}/ran").open("a") as file:
                file.write("x")
    """
    set_up(project, ALWAYS, test.replace("HALF", half))
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*repeated alone*"])
    assert (project.path / "ran").read_text() == {"before": "x", "after": "xx"}[half]


def test_what_the_last_repeat_printed_is_shown(project: pytest.Pytester) -> None:
    set_up(project, ALWAYS, 'def test_it():\n    raise AssertionError("its words")')
    result = project.runpytest_subprocess()
    result.stdout.fnmatch_lines(["*the last repeat, alone*", "*its words*"])
