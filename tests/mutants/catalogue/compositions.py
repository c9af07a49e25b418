"""Bugs that only several features together show."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import (
    COMPOSITION,
    FINDINGS,
    PAUSES,
    STUCK,
    VIRTUAL_COMPOSITION,
)

MUTANTS = (
    Mutant(
        "slots-of-what-is-lined-up", "slots.inc.lua",
        "    if held and held[2] == '-waiting-' then held = nil end\n", "",
        (FINDINGS,), "after a deploy that declares an order, a slot stays with who may not start",
    ),
    Mutant(
        "slots-for-ever", "admit.lua",
        "      redis.call('PEXPIRE', KEYS[b], KEPT)\n", "",
        (FINDINGS,), "rows of erased events and of limits that are gone stay for ever",
    ),
    Mutant(
        "slots-handed-on-for-ever", "slots.inc.lua",
        "          redis.call('PEXPIRE', busy_key, KEPT)\n", "",
        (FINDINGS,), "the same of a slot that was handed on",
    ),
    Mutant(
        "slots-handed-on-in-a-pause", "hand_over.lua",
        "if all then return {} end\n", "",
        (FINDINGS,), "what waits for a slot starts although its whole group is paused",
    ),
    Mutant(
        "two-orders-wait-for-each-other", "fetch_lanes.lua",
        "  if is_lined_up(head) and key_headed(values, member) then return true end\n", "",
        (FINDINGS,), "while a deploy changes the order, events wait for each other for ever",
    ),
    Mutant(
        "held-keys-locked-away", "OrderedKeys._heads",
        """ and not any(way.partition("|")[0] for way in rules.get("ways", "").split(";"))""", "",
        (FINDINGS,), "keys that were held when the order was taken away wait for ever",
    ),
    Mutant(
        "queues-of-a-dropped-group", "GroupStore.drop",
        "            await self._forget_queues(group)\n", "",
        (FINDINGS,), "who waited for slots in a group that was given up stays for ever",
    ),
    Mutant(
        "probes-in-a-pause", "Gate._scopes_of",
        "        return sorted(found, key=lambda scope: bool(parse_scope(scope)[0]))\n", "        return found[:1]\n",
        (FINDINGS,), "the probe of a breaker starts although somebody paused its key",
    ),
    Mutant(
        "heads-that-were-erased", "mend_lanes.lua",
        "    redis.call('XACK', key, group, id)\n    row = nil\n", "",
        (FINDINGS,), "a key whose first event was erased while it waited for a slot stands still for an hour",
    ),
    Mutant(
        "records-of-the-erased", "renew.lua",
        "    redis.pcall('HDEL', KEYS[#KEYS - 2], member)\n", "",
        (FINDINGS,), "attempt records of erased events stay for ever",
    ),
    Mutant(
        "records-of-what-is-done", "ack.lua",
        "  redis.pcall('HDEL', KEYS[2], unpack(ids))\n", "",
        (COMPOSITION,), "attempt records of events that succeeded at last stay for ever",
    ),
    Mutant(
        "fields-of-what-was-cancelled", "cancel_scheduled.lua",
        "  redis.call('HDEL', KEYS[2], ARGV[i])\n", "",
        (COMPOSITION,), "the bodies of delayed events that were cancelled stay for ever",
    ),
    Mutant(
        "reason-of-another-order", "_order_keys.orders",
        "    orders = scene.orders if _is_lined_up(found) else (scene.order_by,)\n", "    orders = (scene.order_by,)\n",
        (FINDINGS,), "why says of what an order of before holds that it starts at any moment",
    ),
    Mutant(
        "reason-forgotten-pause", "_paused",
        "        if _covers(case, read_pause(stored)):", "        if False:",
        (COMPOSITION,), "why says nothing of a pause",
    ),
    Mutant(
        "reason-forgotten-slot", "_JUDGES",
        "*(_slot, _throttled,", "*(_throttled,",
        (COMPOSITION,), "why says nothing of the slots of a limit",
    ),
    Mutant(
        "reason-forgotten-key", "_key_busy",
        "    if not head:", "    if True:",
        (COMPOSITION,), "why says nothing of the event that another one of its key waits for",
    ),
    Mutant(
        "replay-of-others-is-lined-up", "lanes.inc.lua",
        "fields[i + 1] ~= '' and fields[i + 1] ~= group then", "false then",
        (FINDINGS,), "a replay for one group ends the hold of a key in another",
    ),
    Mutant(
        "why-lines-up-replays-of-others", "_is_for_others",
        'not in ("", scene.group)', 'in ("\\0",)',
        (FINDINGS,), "why names a key behind which the replay of another group does not wait",
    ),
    Mutant(
        "copy-behind-its-own-hold", "_key_held",
        "or case.wait.member) and not case.found.deliveries:", "or case.wait.member):",
        (FINDINGS,), "an event that was published twice waits for the hold of its first copy, and for no reason",
    ),
    Mutant(
        "reserved-for-ever", "_handed_a_slot",
        "is_early = case.scene.now - case.since <= case.patience", "is_early = True",
        (STUCK,), "an event has a slot, and nobody says that no worker comes for it",
    ),
    Mutant(
        "first-of-a-queue-for-ever", "_next_in_queue",
        "    if case.scene.now - looked <= HEARD:", "    if True:",
        (STUCK,), "nobody says that no sweep hands a free slot over",
    ),
    Mutant(
        "no-second-look", "Why._surely",
        'if all(reason.state != "none" for reason in reasons):', "if True:",
        (STUCK,), "an event that starts at that moment is told as a defect",
    ),
    Mutant(
        "doctor-sees-one-retry", "Oldest.of.questions",
        'before_ms, "LIMIT", 0, _MOST)', 'before_ms, "LIMIT", 0, 1)',
        (STUCK,), "a due retry that nobody fetches is hidden by one that is paused",
    ),
    Mutant(
        "doctor-sees-no-queue", "Oldest.of",
        "found += await self._first_in_queues(", "await self._first_in_queues(",
        (STUCK,), "the doctor does not find a queue that nobody hands its free slot",
    ),
    Mutant(
        "retries-looked-for-once", "Fetcher._take_due",
        "        self._due_at = time.monotonic() + POLL\n        if reply.next_due", "        self._due_at = time.monotonic() + 60\n        if reply.next_due",
        (VIRTUAL_COMPOSITION,), "a retry that another worker set waits for a minute",
    ),
    Mutant(
        "resumed-level-is-not-read", "Fetcher._hold",
        "        self._fetching.hold(paused)\n", "        self._fetching.hold(before | paused)\n",
        (VIRTUAL_COMPOSITION, *PAUSES), "a level that was paused and resumed is not read any more",
    ),
)  # fmt: skip
