"""Bugs in what becomes of an entry: fetched, started, settled, retried, taken over."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import (
    CONSUMER,
    EDGES,
    ISOLATION,
    LEASES,
    MACHINE,
    PIPELINE,
    RECLAIMER,
    RETRY,
    RUNNERS,
    SUSPECTS,
    VIRTUAL,
    VIRTUAL_COMPOSITION,
)

MUTANTS = (
    Mutant(
        "ack-keeps-the-entry", "finish.inc.lua",
        "if #ids > 0 then redis.call('XDEL', key, unpack(ids)) end", "",
        (MACHINE,), "handled events fill the server's memory",
    ),
    Mutant(
        "ack-keeps-the-record", "ack.lua",
        "redis.pcall('HDEL', KEYS[2], unpack(ids))", "",
        (MACHINE,), "attempt records stay for ever",
    ),
    Mutant(
        "retry-leaves-the-pending-list", "postpone.lua",
        "local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id, 'JUSTID')",
        "redis.call('XACK', KEYS[1], ARGV[1], id) local claimed = {id}",
        (MACHINE,), "an event whose retry row is lost is lost",
    ),
    Mutant(
        "retry-row-missing", "postpone.lua",
        "redis.call('ZADD', KEYS[2], string.format('%.0f', now + delay), member)", "",
        (MACHINE,), "a failed event comes back only when the reclaimer restores its row",
    ),
    Mutant(
        "retry-forgets-attempts", "postpone.lua",
        "if record ~= '' then redis.call('HSET', KEYS[3], member, record) end", "",
        (MACHINE,), "a failing event is retried for ever",
    ),
    Mutant(
        "retry-without-owner-check", "postpone.lua",
        "if holds(", "if true or holds(",
        (MACHINE, *CONSUMER), "a worker that lost its lease takes the entry from the one that works on it",
    ),
    Mutant(
        "dead-letter-without-owner-check", "dead_letter.lua",
        "if holds(", "if true or holds(",
        (MACHINE, *CONSUMER), "an event is dead and handled",
    ),
    Mutant(
        "dead-letter-stays-pending", "dead_letter.lua",
        "redis.call('XACK', KEYS[1], ARGV[1], id)\n    delete_finished", "delete_finished",
        (MACHINE,), "an event is in two places",
    ),
    Mutant(
        "dead-letter-keeps-the-record", "dead_letter.lua",
        "redis.call('HDEL', KEYS[3], member)", "",
        (MACHINE,), "attempt records stay for ever",
    ),
    Mutant(
        "owner-not-checked", "holds.inc.lua",
        "held[1][2] == consumer and held[1][4] == count", "held[1][4] == count",
        (EDGES, MACHINE), "whoever knows the count may write in another's name",
    ),
    Mutant(
        "count-not-checked", "holds.inc.lua",
        "held[1][2] == consumer and held[1][4] == count", "held[1][2] == consumer",
        (MACHINE, *CONSUMER), "a stalled attempt of the same worker settles the entry of a later one",
    ),
    Mutant(
        "renew-steals", "renew.lua",
        "if ok and held then", "if true then",
        (MACHINE, *CONSUMER), "a heartbeat takes back what somebody else works on",
    ),
    Mutant(
        "renew-counts-a-delivery", "renew.lua",
        "ARGV[2], 0, id, 'JUSTID')", "ARGV[2], 0, id)",
        (MACHINE, *CONSUMER), "every lease is lost at its second renewal",
    ),
    Mutant(
        "no-renewal", "LeaseRenewer._renew",
        "if held and (lost := await settling.renew(held)):", "if False and (lost := await settling.renew(held)):",
        CONSUMER, "a handler longer than the lease runs twice",
    ),
    Mutant(
        "lost-lease-not-cancelled", "Executor.lost",
        'self._cancel(run, "lost")', "pass",
        CONSUMER, "two workers go on with the same event",
    ),
    Mutant(
        "sweep-too-early", "sweep.lua",
        "'IDLE', silence, '-', '+', slice, name)", "'IDLE', 0, '-', '+', slice, name) silence = 0",
        (MACHINE, *RECLAIMER), "entries are taken from workers in good health",
    ),
    Mutant(
        "sweep-takes-waiting-retries", "sweep.lua",
        "if name == parked then", "if false then",
        (MACHINE, *RECLAIMER), "a waiting retry counts as a stall",
    ),
    Mutant(
        "lost-rows-not-restored", "sweep.lua",
        "redis.call('ZADD', KEYS[2], string.format('%.0f', now), level .. '|' .. id)", "",
        (MACHINE, *RECLAIMER), "an event whose retry row is lost is never tried again",
    ),
    Mutant(
        "stall-not-counted", "_with_stall",
        'record.add("stall", cause, at=now)', "pass",
        (MACHINE, *RECLAIMER), "an event that kills its worker kills for ever",
    ),
    Mutant(
        "hand-back-takes-what-is-held", "hand_back.lua",
        "if not held[row[1]] then", "if true then",
        (MACHINE, *CONSUMER), "running events are handed to others",
    ),
    Mutant(
        "lower-levels-first", "fetch.lua",
        "for i = 1, #KEYS do", "for i = #KEYS, 1, -1 do",
        CONSUMER, "a critical event waits behind ordinary ones",
    ),
    Mutant(
        "fetch-over-the-limit", "fetch.lua",
        "left = left - #entries", "",
        (*CONSUMER, MACHINE), "a worker takes more than it can start",
    ),
    Mutant(
        "retries-before-their-time", "due.inc.lua",
        "local first, last = string.format('%.0f', start), string.format('%.0f', due.now)",
        "local first, last = string.format('%.0f', start), '+inf'",
        (MACHINE, *CONSUMER), "a retry does not wait",
    ),
    Mutant(
        "retry-steals-from-a-worker", "due.inc.lua",
        "if #held == 0 or held[1][2] ~= who.parked then", "if #held == 0 then",
        (MACHINE, *CONSUMER, *RECLAIMER), "a row that is out of date takes an entry from the worker that has it",
    ),
    Mutant(
        "suspects-run-together", "due.inc.lua",
        "if suspect and who.suspects <= 0 then return false, true end", "",
        (SUSPECTS,), "one event that kills its worker takes its neighbours with it",
    ),
    Mutant(
        "suspect-beside-a-read", "Isolation._is_quiet",
        "return not self._steps and self.is_idle", "return self.is_idle",
        (ISOLATION, VIRTUAL), "what was being fetched when a suspect started dies with it",
    ),
    Mutant(
        "suspect-beside-a-lost-read", "ConsumerState.in_hand",
        "return bool(self.held) or self.unsure", "return bool(self.held)",
        (VIRTUAL,), "what was given to a worker in an answer that was lost stalls with the suspect",
    ),
    Mutant(
        "suspect-beside-other-groups", "Isolation.is_idle",
        "return not any(hand.in_hand for hand in self._hands)",
        "return not any(hand.in_hand for hand in self._hands[:1])",
        (SUSPECTS, VIRTUAL), "an event that kills its worker takes those of the other groups with it",
    ),
    Mutant(
        "gate-rests-never", "Isolation.close",
        "self._rest_until = began + (1 + REST) * waited", "self._rest_until = began",
        (ISOLATION,), "while a handler runs for hours and a suspect waits, its process does nothing else",
    ),
    Mutant(
        "gate-stays-closed-for-a-long-suspect", "Isolation.open_when_quiet",
        "loop().call_later(LONGEST, self._open)", "loop().call_later(1e9, self._open)",
        (ISOLATION,), "a suspect that runs for hours, or waits for another event, stops its process",
    ),
    Mutant(
        "handed-over-suspect-beside-others", "hand_over.lua",
        "if string.find(record, '\"suspect\":true', 1, true) then return false end", "",
        (SUSPECTS,), "a suspect that got a slot is fetched in vain",
    ),
    Mutant(
        "group-begins-at-the-end", "declare.lua",
        "(known or start ~= 'new') and '0' or '$'", "'$'",
        (*CONSUMER, PIPELINE), "what was published before the worker started is never read",
    ),
    Mutant(
        "off-by-one-after-failures", "Retry.after_failure",
        '        if record.attempts > allowed:\n            return Bury("retries-used-up")',
        '        if record.attempts >= allowed:\n            return Bury("retries-used-up")',
        (RETRY,), "an event gets one retry less",
    ),
    Mutant(
        "off-by-one-after-stalls", "Retry.after_stall",
        "if record.attempts > allowed and was_alone:", "if record.attempts > allowed + 1 and was_alone:",
        (RETRY,), "an event that kills its worker gets one more",
    ),
    Mutant(
        "own-limit-ignored", "Retry.limit",
        "return self.max_retries if override is None else override", "return self.max_retries",
        (RETRY,), "max_retries of an event has no effect",
    ),
    Mutant(
        "snooze-burns-an-attempt", "Failing._decide",
        'self._settler.postpone(delivery, error.seconds, "snoozed", delivery.record)', "self._fail(run, error)",
        CONSUMER, "an event that is snoozed often dies",
    ),
    Mutant(
        "shutdown-burns-an-attempt", "Failing._decide",
        '        elif run.why == "shutdown" and isinstance(error, asyncio.CancelledError):\n'
        '            self._settler.postpone(delivery, 0.0, "released")\n',
        "",
        CONSUMER, "every deploy costs retries",
    ),
    Mutant(
        "timeout-not-enforced", "Executor.watch",
        "if run.deadline <= now and not run.why:", "if False and not run.why:",
        CONSUMER, "a handler that hangs keeps its slot",
    ),
    Mutant(
        "late-result-of-an-abandoned-handler", "Executor._attempt",
        "            if not run.abandoned:\n                self._settler.done", "            if True:\n                self._settler.done",
        (EDGES,), "an attempt that was counted as failed acknowledges the retry",
    ),
    Mutant(
        "a-request-to-cancel-stays", "Executor._serve",
        "            if task.cancelling():\n                await self._settle_cancellations(task)\n", "",
        (RUNNERS,), "a library that cancels and takes nothing back has the next event of the runner cancelled",
    ),
    Mutant(
        "a-dead-runner-is-not-replaced", "Executor._ended",
        "        self._add_runner()\n        self._wake(1)\n", "",
        (RUNNERS,), "a worker loses its slots one by one, and says nothing",
    ),
    Mutant(
        "an-attempt-without-an-outcome", "Executor._attempt",
        "                self._failing.defect(run.delivery, error)", "                pass",
        (RUNNERS,), "an event whose type cannot be read stays in hand for ever",
    ),
    Mutant(
        "a-policy-that-fails-decides", "Failing._decision",
        "            return DEFAULT.after_failure(_UnreadableError(), record)", "            raise",
        (RUNNERS,), "an event whose retry policy raises is not counted as the policy of the default says",
    ),
    Mutant(
        "a-missing-runner-is-not-seen", "Consumer.vitals",
        "if self._executor.missing:", "if False:",
        (RUNNERS,), "a worker without slots is healthy",
    ),
    Mutant(
        "failure-acknowledged", "Failing._fail",
        'delay=delay, **facts)\n            self._settler.postpone(delivery, decision.delay, "retried", record.to_json())',
        "delay=delay, **facts)\n            self._settler.done(delivery)",
        CONSUMER, "a failed event is lost",
    ),
    Mutant(
        "settled-entries-stay-held", "Settler._let_go",
        "            del self._held[delivery.place]", "            pass",
        (EDGES,), "a worker's memory grows, and it renews what is gone",
    ),
    Mutant(
        "prefetches", "Fetcher._step",
        "        free = self._executor.free\n        if free <= 0 or", "        free = self._executor.free + 50\n        if free <= 0 or",
        CONSUMER, "entries wait in memory although other workers are free",
    ),
    Mutant(
        "expired-events-handled", "Gate._is_over",
        "bool(expires <= self._state.clock.now())", "bool(expires <= 0)",
        CONSUMER, "a one-time password arrives after its time",
    ),
    Mutant(
        "surplus-forgotten", "Gate._act",
        "                self._settler.postpone(delivery, 0.0, \"released\")\n                soonest = 0.0\n", "                pass\n",
        (VIRTUAL,), "what is read while a worker stops waits until its lease has run out",
    ),
    Mutant(
        "lost-reads-not-found", "Fetcher._step",
        "            self._check_at = now + self._idling.check_again_in(self._state.options.lease / 2)\n"
        "            await self._find_lost_reads()\n",
        "            self._check_at = now + self._idling.check_again_in(self._state.options.lease / 2)\n",
        (VIRTUAL, EDGES), "events of a read whose answer was lost stay with a consumer that does not know of them",
    ),
    Mutant(
        "lost-read-left-at-shutdown", "Fetcher._fetch",
        "        if self._check_at == 0.0:\n", "        if False:\n",
        (EDGES,), "events of a read whose answer was lost wait for their lease after an orderly stop, and count as stalled",
    ),
    Mutant(
        "outcomes-of-an-outage-forgotten", "Settler.run",
        "                    await asyncio.sleep(backoff.next())\n                    continue\n",
        "                    await asyncio.sleep(backoff.next())\n                    break\n",
        (VIRTUAL,), "what was handled during an outage is never acknowledged",
    ),
    Mutant(
        "abandoned-place-not-filled", "Executor._abandon",
        "            self._settler.postpone(run.delivery, 0.0, \"released\")\n        self._add_runner()\n",
        "            self._settler.postpone(run.delivery, 0.0, \"released\")\n",
        (VIRTUAL, *CONSUMER), "each handler that does not end takes a place of the worker away for ever",
    ),
    Mutant(
        "pause-of-a-group-ignored", "due.inc.lua",
        "if marks[1] or marks[2] or marks[at]", "if marks[1] or marks[at]",
        (MACHINE,), "a group goes on while it is paused",
    ),
    Mutant(
        "pause-of-one-group-holds-all", "due.inc.lua",
        "key_of.paused, 'group=' .. name", "key_of.paused, 'group=' .. (redis.call('HKEYS', key_of.paused)[1] or '=g'):match('=(%w+)')",
        (MACHINE,), "a pause of one group stops another",
    ),
    Mutant(
        "retries-start-in-a-pause", "due.inc.lua",
        "      paused[#paused + 1] = level\n    elseif froms[i] >= 0 then\n",
        "      paused[#paused + 1] = level\n    end\n    if froms[i] >= 0 then\n",
        (MACHINE,), "what failed before the pause is tried again in the midst of it",
    ),
    Mutant(
        "cancelled-entry-stays", "cancel.lua",
        "delete_finished(KEYS[1], KEYS[5], ARGV[1], ids)\n", "",
        (MACHINE,), "cancelled events fill the server's memory",
    ),
    Mutant(
        "cancelled-entry-stays-pending", "cancel.lua",
        "    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])\n", "",
        (MACHINE,), "a cancelled event stays in the pending list",
    ),
    Mutant(
        "cancelled-record-stays", "cancel.lua",
        "redis.call('HDEL', KEYS[3], unpack(members))\n", "",
        (MACHINE,), "attempt records of cancelled events stay for ever",
    ),
    Mutant(
        "cancelled-body-stays", "cancel_scheduled.lua",
        "  redis.call('HDEL', KEYS[2], ARGV[i])\n", "",
        (MACHINE,), "bodies of cancelled events stay for ever",
    ),
    Mutant(
        "sweeps-by-its-own-lease", "sweep.lua",
        "local silence = lease_of(name)\n", "local silence = lease\n",
        (LEASES,), "a deployment with a shorter lease takes their events from healthy workers",
    ),
    Mutant(
        "slots-by-the-askers-lease", "slots.inc.lua",
        "held[3] < lease_of(held[2])\n", "held[3] < lease_of('')\n",
        (LEASES,), "more of a key run at once than its limit allows, while a deployment shortens the lease",
    ),
    Mutant(
        "unknown-is-short", "leases.inc.lua",
        "longest = math.max(own, UNKNOWN)\n", "longest = own\n",
        (LEASES,), "a worker whose lease is not known loses what it runs",
    ),
    Mutant(
        "announces-once", "Fetcher._find_lost_reads",
        "await self._fetching.announce()", "pass",
        (LEASES,), "what a worker with a short lease held comes back late, once its row was lost",
    ),
    Mutant(
        "leases-stay", "sweep.lua",
        "    redis.call('HDEL', KEYS[4], rows[i])\n", "",
        (LEASES,), "each killed worker leaves its lease behind for ever",
    ),
    Mutant(
        "stands-still-in-silence", "LeaseRenewer._say_still",
        "        if seconds < _STILL or not self._state.held:\n", "        if True:\n",
        (LEASES,), "a handler that keeps the GIL loses its lease, and nothing says why",
    ),
    Mutant(
        "buried-beside-a-killer", "Retry.after_stall",
        "if record.attempts > allowed and was_alone:", "if record.attempts > allowed:",
        (RETRY, VIRTUAL_COMPOSITION), "an event without retries that only stood beside a killer is buried",
    ),
    Mutant(
        "suspect-handed-out-of-a-lane", "fetch_lanes.lua",
        "      set_due(key, level, id)\n", "      taken[#taken + 1], count = {level, id, 2, record, fields_of[id]}, count + 1\n",
        (SUSPECTS,), "a suspect that is lined up may stall among others, and is buried",
    ),
    Mutant(
        "expiry-not-asked", "Gate._told_here",
        "decided.append((delivery, EXPIRED if self._is_over(delivery) else START))",
        "decided.append((delivery, START))",
        CONSUMER, "expired events are handled",
    ),
)  # fmt: skip
