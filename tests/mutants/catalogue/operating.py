"""Bugs in what operators do: pauses, cancellations."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import ATTRIBUTES, CANCEL, MACHINE, PAUSES

MUTANTS = (
    Mutant(
        "held-retries-hide-others", "due.inc.lua",
        "line.offset, line.ended = offset + PAGE, #page < 2 * PAGE", "line.offset, line.ended = offset + PAGE, true",
        PAUSES, "retries of open levels wait behind those that are paused",
    ),
    Mutant(
        "paused-levels-are-read", "Fetching.hold",
        "self._open = tuple(level for level in self._levels if level not in paused)", "self._open = self._levels",
        (MACHINE, *PAUSES), "new events start in a pause",
    ),
    Mutant(
        "held-retries-forgotten", "Fetching.hold",
        "        self._open_streams = [self._keys.level(level) for level in self._open]\n        self._due_from = self._from_the_beginning()\n",
        "        self._open_streams = [self._keys.level(level) for level in self._open]\n",
        (MACHINE, *PAUSES), "retries that came due in a pause are not tried after it",
    ),
    Mutant(
        "pause-overwritten", "pause.lua",
        "if known then return {0, known} end", "",
        (*PAUSES, MACHINE), "who paused first, and why, is lost",
    ),
    Mutant(
        "resume-ends-every-pause", "resume.lua",
        "(#ARGV == 1 or wanted[scope]) and ended or others", "ended",
        (MACHINE, *PAUSES), "resuming a level lets the whole stream go",
    ),
    Mutant(
        "cancel-takes-what-runs", "cancel.lua",
        "if #held == 1 and held[1][2] == ARGV[2] then", "if #held == 1 then",
        (CANCEL,), "an event is cancelled in the midst of its handler",
    ),
    Mutant(
        "cancel-without-audit", "cancel_scheduled.lua",
        "if #members > 0 then", "if false then",
        (MACHINE, CANCEL), "nobody knows who cancelled an event",
    ),
    Mutant(
        "held-for-nothing", "admit.lua",
        "    local stored = redis.call('HGET', KEYS[3], scope)\n",
        "    local stored = redis.call('HGET', KEYS[3], scope) or '{}'\n",
        (ATTRIBUTES,), "an event that is put aside just as the pause ends waits for an hour",
    ),
    Mutant(
        "resume-brings-nothing-back", "Pauses._resume",
        "            await self._store.bring_back(group, attributes)\n", "            pass\n",
        (ATTRIBUTES,), "what a pause put aside comes back an hour after its end",
    ),
    Mutant(
        "breaker-burns-attempts", "Breaker.failed",
        "        if state == IS_OPEN or (state == OPENED and unavailable):\n", "        if False:\n",
        (ATTRIBUTES,), "events die while the breaker is open",
    ),
    Mutant(
        "breaker-tells-nobody", "Breaker._ended",
        "            self._opened[place, key] = now + _NEWS\n", "            pass\n",
        (ATTRIBUTES,), "for half a second after it opened everything of the key still starts",
    ),
    Mutant(
        "breaker-ends-any-pause", "admit.lua",
        "type(pause) == 'table' and type(pause.probe) == 'number' and type(pause.every) == 'number') then",
        "type(pause) == 'table') then pause = {} end\n      pause.probe, pause.every = pause.probe or 0, pause.every or 0\n      if false then",
        (ATTRIBUTES,), "an operator's pause lets events through",
    ),
    Mutant(
        "row-for-each-step-of-a-replay", "audited_steps.inc.lua",
        "  if id ~= '' then redis.call('XDEL', key, id) end\n", "",
        ("tests/server/test_mending.py",), "a long replay pushes everything else out of the audit record",
    ),
    Mutant(
        "dead-among-the-living", "Queries.workers_of.state",
        'state: Literal["alive", "silent"] = "alive" if silent < HEARD else "silent"', 'state: Literal["alive", "silent"] = "alive"',
        ("tests/server/test_mending.py",), "workers that crashed are listed as if they worked",
    ),
)  # fmt: skip
