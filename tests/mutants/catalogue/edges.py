"""Bugs at the edges: the dashboard, the command line, processes, arguments, and what is said of why."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import SESSIONS, WHY_HELD_BACK, WORKER_ENDS

MUTANTS = (
    Mutant(
        "trusts-every-server", "depends_on_default_user",
        "    return drops and info.get(\"aof_enabled\") == \"1\"\n", "    return False\n",
        ("tests/unit/test_doctor.py",), "a server that loses data at its next restart looks healthy",
    ),
    Mutant(
        "children-keep-the-handlers", "Service._signals",
        "            with children_without(before), interrupts_allowed():\n", "            with interrupts_allowed():\n",
        (WORKER_ENDS + "::test_a_child_that_a_handler_forks_ends_when_it_is_told_to",), "Process.terminate() takes 25 s",
    ),
    Mutant(
        "children-miss-early-signals", "_forks",
        "        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours)\n", "        pass\n",
        (WORKER_ENDS + "::test_a_child_that_a_handler_forks_ends_when_it_is_told_to",), "Process.terminate() now and then does nothing",
    ),
    Mutant(
        "log-out-ends-nothing", "Sessions.end",
        "            await EndedSessions(self._pipeline.broker).end(session.id, session.left)\n", "",
        (SESSIONS,), "a cookie that was taken goes on after its owner logged out",
    ),
    Mutant(
        "cookie-of-the-old-password", "Sessions._sign_for",
        'f"{kind} {body} {self._password_of(name)}"', 'f"{kind} {body}"',
        (SESSIONS,), "a session goes on after the password was changed",
    ),
    Mutant(
        "known-browsers-wait-with-strangers", "LogIn._keys",
        "        if browser:\n", "        if browser == name:\n",
        (SESSIONS,), "strangers who guess keep out whoever works there",
    ),
    Mutant(
        "believes-what-is-there-twice", "_doubled",
        "        if plain in seen:\n", "        if plain in ():\n",
        (SESSIONS,), "a browser says who it is, behind a proxy that appends",
    ),
    Mutant(
        "parts-of-made-up-groups", "Pages._known",
        "        if group and group not in groups:\n", "        if group == '?':\n",
        ("tests/dashboard/test_slow_clients.py",), "a viewer makes the dashboard ask for hundreds of parts",
    ),
    Mutant(
        "half-a-request-for-ever", "Bounded._expire",
        "        self._drop(f\"the {self._part} of a request did not come in time\")\n", "",
        ("tests/dashboard/test_slow_clients.py",), "half requests hold their connections for ever",
    ),
    Mutant(
        "token-of-all-streams", "_check_scope",
        "    if not token.reaches(stream):\n", "    if not token.reaches(stream or 'x') and not stream:\n",
        ("tests/dashboard/test_routes.py",), "a token for one stream publishes onto all",
    ),
    Mutant(
        "moment-without-zone", "seconds_of",
        "if now is None or value.tzinfo is None", "if now is None",
        ("tests/unit/test_wrong_arguments.py",), "a datetime without a zone delays an event by the offset of whatever machine publishes it",
    ),
    Mutant(
        "annotations-hold-nobody", "_check",
        "        if name in hints and not _fits(value, hints[name]):", "        if False:",
        ("tests/server/test_wrong_arguments.py",), "a wrong argument of what operators use is a TypeError from somewhere inside",
    ),
    Mutant(
        "foreign-level-unseen", "stored_there",
        "if not isinstance(answer, int) or answer <= 0:", "if not isinstance(answer, int) or answer <= 3:",
        ("tests/server/test_status.py",), "what another program adds on a level of its own is shown by no command",
    ),
    Mutant(
        "numbers-cut", "fitted",
        "names.get(title, sizes[title])", "names.get(title, 4)",
        ("tests/unit/test_cli_columns.py",), "the count of dead letters cannot be read in 80 columns",
    ),
    Mutant(
        "ascii-crashes", "take_what_there_is",
        "                stream.reconfigure(errors=_HANDLER)", "                pass",
        ("tests/server/test_cli_manners.py",), "a terminal without UTF-8 gets a traceback instead of a list",
    ),
    Mutant(
        "forked-child-goes-on", "Executor._attempt",
        "            if not self._origin.is_here:\n                end_copy()\n", "",
        ("tests/server/test_forks.py",), "a child that a handler forks goes on as a second worker over the same connections",
    ),
    Mutant(
        "reason-forgotten-rate", "_JUDGES",
        "_throttled, _rate, _not_due)",
        "_throttled, _not_due)",
        (WHY_HELD_BACK,), "why says of what waits for a rate that somebody snoozed it",
    ),
)  # fmt: skip
