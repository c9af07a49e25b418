"""Seeded bugs. Each replaces a piece of text that occurs exactly once at its place, however it is wrapped; the tests named must then
fail.

To add one: name the function or the Lua file, copy the exact text from it, write the bug, name the tests that should notice, say what would go
wrong for a user, and run ``make mutants ONLY=name``.
"""

from __future__ import annotations

from dataclasses import dataclass

MACHINE = "tests/server/test_state_machine.py"
CONSUMER = "tests/server/test_consumer.py"
RECLAIMER = "tests/server/test_reclaimer.py"
PRODUCER = "tests/server/test_producer.py"
TURNS_OF_RETRIES = "tests/server/test_turns_of_retries.py"
DECLARATIONS = "tests/server/test_declarations.py"
LANES = "tests/server/test_lanes.py"
FAILOVER = "tests/conformance/test_failover.py"
PLANNED = "tests/conformance/test_planned_failover.py"
SLOTS = "tests/conformance/test_slots.py"
PARTITIONS = "tests/server/test_partitions.py"
ATTRIBUTES = "tests/server/test_pauses_by_attribute.py"
LIMITS = "tests/server/test_limits.py"
LIMIT_SLOTS = "tests/server/test_slots.py"
ADMISSION = "tests/server/test_admission.py"
WHY = "tests/server/test_why.py"
SCHEDULER = "tests/server/test_scheduler.py"
DEAD = "tests/server/test_dead_letters.py"
FANOUT = "tests/server/test_fanout.py"
GROUPS = "tests/server/test_groups.py"
RUNNERS = "tests/server/test_runners.py"
FANOUT_MACHINE = "tests/server/test_fanout_machine.py"
VIRTUAL = "tests/virtual/test_interleavings.py"
PIPELINE = "tests/server/test_pipeline.py"
EDGES = "tests/server/test_consumer_edges.py"
RETRY = "tests/unit/test_retry.py"
FAULTS = "tests/process/test_server_faults.py"
PAUSES = "tests/server/test_pauses.py"
CANCEL = "tests/server/test_cancellations.py"
DEDUPE = "tests/server/test_dedupe.py"
TYPED = "tests/unit/test_typed.py"
UPCASTERS = "tests/unit/test_upcasters.py"
LOSSES = "tests/server/test_loss_watch.py"
UNREADABLE = "tests/server/test_unreadable.py"
REFUSALS = "tests/process/test_refusals.py"
SUSPECTS = "tests/server/test_suspects.py"
ISOLATION = "tests/virtual/test_isolation.py"
COMPOSITION = "tests/composition/test_composition.py"
FINDINGS = "tests/composition/test_findings.py"
STUCK = "tests/composition/test_stuck.py"
VIRTUAL_COMPOSITION = "tests/virtual/test_composition.py"
LEASES = "tests/server/test_leases.py"
WORKERS = "tests/process/test_workers.py"
RELEASED = "tests/server/test_changed_limits.py::test_a_worker_lets_go_what_waits_for_limits_that_it_does_not_have"
CHANGED_LIMITS = "tests/server/test_changed_limits.py"
SESSIONS = "tests/dashboard/test_sessions.py"
MANY = "tests/server/test_many_groups.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A seeded bug.

    Attributes:
        name: of the bug.
        place: a function, method, class or constant by its qualified name, or the name of a Lua file; wherever it is.
        old: text that occurs there once.
        new: what it is replaced by.
        tests: arguments for pytest; one failure kills the mutant.
        harm: what the bug would do to a user.
    """

    name: str
    place: str
    old: str
    new: str
    tests: tuple[str, ...]
    harm: str


MUTANTS = (
    Mutant(
        "ack-keeps-the-entry", "finish.inc.lua",
        "if #ids > 0 then redis.call('XDEL', key, unpack(ids)) end", "",
        (MACHINE,), "handled events fill the server's memory",
    ),
    Mutant(
        "ack-for-another-group", "finish.inc.lua",
        "if row[i] == 'name' and row[i + 1] ~= group then return false end", "",
        (GROUPS, FANOUT_MACHINE), "a worker of a dropped group deletes what the group that is left has not had",
    ),
    Mutant(
        "replays-for-nobody", "replay.lua",
        "  if not takes(KEYS[3 + i], KEYS[3], ARGV[1]) then\n", "  if false then\n",
        (GROUPS, FANOUT_MACHINE), "dead letters of a dropped group are put back, acknowledged by the others, and gone",
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
        (MACHINE, CONSUMER), "a worker that lost its lease takes the entry from the one that works on it",
    ),
    Mutant(
        "dead-letter-without-owner-check", "dead_letter.lua",
        "if holds(", "if true or holds(",
        (MACHINE, CONSUMER), "an event is dead and handled",
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
        "dead-letter-loses-fields", "dead_letter.lua",
        "unpack(raw, 1, kept))", "unpack(raw, 1, 2))",
        (DEAD, MACHINE), "a dead letter cannot be replayed as it was",
    ),
    Mutant(
        "owner-not-checked", "holds.inc.lua",
        "held[1][2] == consumer and held[1][4] == count", "held[1][4] == count",
        (EDGES, MACHINE), "whoever knows the count may write in another's name",
    ),
    Mutant(
        "count-not-checked", "holds.inc.lua",
        "held[1][2] == consumer and held[1][4] == count", "held[1][2] == consumer",
        (MACHINE, CONSUMER), "a stalled attempt of the same worker settles the entry of a later one",
    ),
    Mutant(
        "renew-steals", "renew.lua",
        "if ok and held then", "if true then",
        (MACHINE, CONSUMER), "a heartbeat takes back what somebody else works on",
    ),
    Mutant(
        "renew-counts-a-delivery", "renew.lua",
        "ARGV[2], 0, id, 'JUSTID')", "ARGV[2], 0, id)",
        (MACHINE, CONSUMER), "every lease is lost at its second renewal",
    ),
    Mutant(
        "no-renewal", "LeaseRenewer._renew",
        "if held and (lost := await settling.renew(held)):", "if False and (lost := await settling.renew(held)):",
        (CONSUMER,), "a handler longer than the lease runs twice",
    ),
    Mutant(
        "lost-lease-not-cancelled", "Executor.lost",
        'self._cancel(run, "lost")', "pass",
        (CONSUMER,), "two workers go on with the same event",
    ),
    Mutant(
        "sweep-too-early", "sweep.lua",
        "'IDLE', silence, '-', '+', slice, name)", "'IDLE', 0, '-', '+', slice, name) silence = 0",
        (MACHINE, RECLAIMER), "entries are taken from workers in good health",
    ),
    Mutant(
        "sweep-takes-waiting-retries", "sweep.lua",
        "if name == parked then", "if false then",
        (MACHINE, RECLAIMER), "a waiting retry counts as a stall",
    ),
    Mutant(
        "lost-rows-not-restored", "sweep.lua",
        "redis.call('ZADD', KEYS[2], string.format('%.0f', now), level .. '|' .. id)", "",
        (MACHINE, RECLAIMER), "an event whose retry row is lost is never tried again",
    ),
    Mutant(
        "stall-not-counted", "_with_stall",
        'record.add("stall", cause, at=now)', "pass",
        (MACHINE, RECLAIMER), "an event that kills its worker kills for ever",
    ),
    Mutant(
        "hand-back-takes-what-is-held", "hand_back.lua",
        "if not held[row[1]] then", "if true then",
        (MACHINE, CONSUMER), "running events are handed to others",
    ),
    Mutant(
        "lower-levels-first", "fetch.lua",
        "for i = 1, #KEYS do", "for i = #KEYS, 1, -1 do",
        (CONSUMER,), "a critical event waits behind ordinary ones",
    ),
    Mutant(
        "fetch-over-the-limit", "fetch.lua",
        "left = left - #entries", "",
        (CONSUMER, MACHINE), "a worker takes more than it can start",
    ),
    Mutant(
        "retries-before-their-time", "due.inc.lua",
        "local first, last = string.format('%.0f', start), string.format('%.0f', due.now)",
        "local first, last = string.format('%.0f', start), '+inf'",
        (MACHINE, CONSUMER), "a retry does not wait",
    ),
    Mutant(
        "retry-steals-from-a-worker", "due.inc.lua",
        "if #held == 0 or held[1][2] ~= who.parked then", "if #held == 0 then",
        (MACHINE, CONSUMER, RECLAIMER), "a row that is out of date takes an entry from the worker that has it",
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
        "lined-up-suspect-beside-others", "Gate._told_here",
        "            if delivery.record and not alone and delivery.is_suspect:\n", "            if False:\n",
        (ADMISSION,), "under an order by key, a suspect starts beside others",
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
        (CONSUMER, PIPELINE), "what was published before the worker started is never read",
    ),
    Mutant(
        "group-comes-back-at-the-end", "declare.lua",
        "(known or start ~= 'new') and '0' or '$'", "start ~= 'new' and '0' or '$'",
        (FANOUT,), "events published while the group was gone are never read",
    ),
    Mutant(
        "second-group-takes-events-away", "declare.lua",
        "if retention == 'work' and not declared[name] and #names > 0 then", "if false then",
        (FANOUT,), "two groups believe to get every event of a stream that is declared for one",
    ),
    Mutant(
        "missing-group-is-not-waited-for", "finish.inc.lua",
        "if string.sub(fields[i], 1, 6) == 'group:' and not there[fields[i]] then return nil end", "",
        (FANOUT,), "a group that was lost misses what others finished meanwhile",
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
        "promote-twice", "promote.lua",
        "  redis.call('ZREM', KEYS[1], member)\n", "",
        (SCHEDULER, MACHINE), "a scheduled event keeps the scheduler busy for ever, or is published again",
    ),
    Mutant(
        "promote-before-time", "promote.lua",
        "'-inf', string.format('%.0f', now)", "'-inf', '+inf'",
        (SCHEDULER, MACHINE), "delayed events are not delayed",
    ),
    Mutant(
        "dedup-not-remembered", "publish_once.lua",
        "redis.call('SET', KEYS[1],", "redis.call('TOUCH', KEYS[1]) redis.pcall('NONE',",
        (PRODUCER,), "a repeated event is stored twice",
    ),
    Mutant(
        "full-stream-takes-one-more", "publish.lua",
        "if room < 0 then room = 0 end", "if room < 1 then room = 1 end",
        (PRODUCER,), "max_len is no limit",
    ),
    Mutant(
        "scheduled-not-counted", "publish.lua",
        "room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[#KEYS])", "room = tonumber(ARGV[1])",
        (PRODUCER,), "scheduled events grow without a limit",
    ),
    Mutant(
        "replay-loses-the-event-id", "put_back.inc.lua",
        "if not has_id then", "if false then",
        (DEAD, "tests/server/test_wire_format.py", MACHINE), "a replayed event has another id",
    ),
    Mutant(
        "replay-stays-dead", "put_back.inc.lua",
        "  redis.call('XDEL', key, id)\n", "",
        (DEAD, MACHINE), "an event is in two places",
    ),
    Mutant(
        "replay-for-every-group", "put_back.inc.lua",
        "fields[#fields + 1] = 'group'\n", "fields[#fields + 1] = 'for'\n",
        ("tests/server",), "other groups handle a replayed event a second time",
    ),
    Mutant(
        "discard-without-audit", "discard.lua",
        "if #letters == 0 then return {0, ARGV[4]} end", "if #letters >= 0 then return {#letters, ARGV[4]} end",
        (DEAD,), "nobody knows who deleted dead letters",
    ),
    Mutant(
        "late-places-used-at-once", "admit.lua",
        "  if state.S - tolerance <= now and state.B <= now and (reserved == 2 or not late) then return 0 end\n",
        "  if true then return 0 end\n",
        (LIMITS,), "after an outage everything that waited for a limit starts at once",
    ),
    Mutant(
        "newcomers-overtake", "admit.lua",
        "    from = math.max(state.S, state.R, state.L)\n    if", "    from = state.S\n    if",
        (LIMITS,), "whoever waits for a limit comes back again and again",
    ),
    Mutant(
        "every-limit-reserved", "admit.lua",
        "  state[frontier] = from + state.interval\n",
        "  for _, one in ipairs(entry.limits) do\n    local other = states[one.state]\n"
        "    other.R = math.max(other.R, other.S, now) + other.interval\n    other.changed = true\n  end\n"
        "  state[frontier] = from + state.interval\n",
        (LIMITS,), "a recipient with a long queue uses up the rate of its instance",
    ),
    Mutant(
        "idle-keys-stay", "limits.inc.lua",
        "redis.call('SET', key, text, 'PX', string.format('%.0f', math.ceil((last - now) / 1000)))",
        "redis.call('SET', key, text)",
        (LIMITS,), "the state of every key stays for ever",
    ),
    Mutant(
        "clock-set-back-holds", "admit.lua", "  if ahead > 0 then\n", "  if false then\n",
        (LIMITS,), "after the clock was set back by an hour a key waits an hour",
    ),
    Mutant(
        "burst-one-too-many", "admit.lua", "interval * (burst - 1)", "interval * burst",
        (LIMITS,), "one more start at once than was said",
    ),
    Mutant(
        "waiting-keep-their-time", "Limits._write",
        "        await self._limiting.hasten(name)\n        return", "        return",
        (LIMITS,), "a limit that is raised helps none of those who wait for it",
    ),
    Mutant(
        "lifted-throttle-keeps-its-time", "Limits._throttle",
        "        await self._limiting.hasten(name)\n        facts", "        facts",
        (LIMITS,), "a throttle that is lifted helps none of those who wait for it",
    ),
    Mutant(
        "slots-not-handed-on", "Settler._forget",
        "        if delivery.slots:\n            self._state.free_slots(delivery)\n",
        "",
        (LIMITS,), "who waits for a slot waits until a worker looks for what is due",
    ),
    Mutant(
        "slots-kept-by-who-ends", "ack.lua",
        "for _, member in ipairs(ended) do let_go(KEYS[4], KEYS[5], member) end\n",
        "",
        (ADMISSION, LIMIT_SLOTS), "a slot is free again only when somebody looks for the dead",
    ),
    Mutant(
        "slots-kept-by-what-is-paused", "admit.lua",
        "    if b > 0 then take_slot(KEYS[b], KEYS[q], KEYS[2], entry.member, name ~= waits_in) end\n",
        "",
        (ADMISSION, LIMITS), "what has to wait keeps the slot that it was handed",
    ),
    Mutant(
        "slots-handed-to-what-is-paused", "slots.inc.lua",
        "if there.paused[level] or (there.serves and not there.serves[level]) then", "if false then",
        (LIMIT_SLOTS,), "a paused level keeps the slots of the others",
    ),
    Mutant(
        "slots-handed-to-another-level", "slots.inc.lua",
        "if there.paused[level] or (there.serves and not there.serves[level]) then", "if there.paused[level] then",
        (LIMIT_SLOTS,), "a worker runs events of levels that it does not serve",
    ),
    Mutant(
        "slots-kept-by-what-is-buried", "dead_letter.lua",
        "    let_go(KEYS[6], KEYS[4], member)\n",
        "",
        (ADMISSION,), "an expired event keeps the slot that it was handed",
    ),
    Mutant(
        "queues-nobody-looks-after", "Reclaimer.sweep",
        "            await self._admitting.look_after_queues(self._slotted, only_release=not sweep.mine)\n", "            pass\n",
        (LIMIT_SLOTS,), "after a crash events wait an hour for a slot that is free",
    ),
    Mutant(
        "slots-of-unknown-levels-are-lost", "slots.inc.lua",
        "  if key_of[level] then return key_of[level] end\n", "  if true then return key_of[level] or key_of[next(key_of)] end\n",
        (LIMIT_SLOTS,), "a deploy that adds a level has two run at once where one may",
    ),
    Mutant(
        "slots-taken-from-the-next-holder", "ack.lua",
        "if not rows[1] or rows[1][2] == ARGV[2] then",
        "if true then",
        (LIMIT_SLOTS,), "a late acknowledgement takes the slot of who runs the entry now",
    ),
    Mutant(
        "slots-of-the-dead-stay", "admit.lua",
        "    drop_lost_slots(KEYS[b], key_of, group, parking, lease_of, now)\n", "",
        (LIMITS,), "a killed worker keeps its slots for ever",
    ),
    Mutant(
        "a-slot-for-everybody", "admit.lua",
        "  return free > 0 and before < free\n", "  return true\n",
        (LIMITS,), "more of a key at once than was said",
    ),
    Mutant(
        "queue-jumped", "admit.lua",
        "  return free > 0 and before < free\n", "  return free > 0\n",
        (LIMITS,), "who comes later starts earlier",
    ),
    Mutant(
        "taken-over-looks-lost", "Fetcher._find_lost_reads",
        "async with self._taking:", "if True:",
        (LIMITS,), "an event that was just handed a slot runs twice",
    ),
    Mutant(
        "throttle-forgotten", "admit.lua",
        "    if from - tolerance <= now and state.B <= now then return 0 end\n",
        "    if from - tolerance <= now then return 0 end\n",
        (LIMITS,), "a throttled key is not held back",
    ),
    Mutant(
        "places-lost-by-who-waits", "admit.lua",
        "      if place == 1 or place == 2 then limit.reserved = place end\n",
        "",
        (LIMITS,), "who comes at its reserved time goes behind all others again",
    ),
    Mutant(
        "snooze-burns-an-attempt", "Failing._decide",
        'self._settler.postpone(delivery, error.seconds, "snoozed", delivery.record)', "self._fail(run, error)",
        (CONSUMER,), "an event that is snoozed often dies",
    ),
    Mutant(
        "shutdown-burns-an-attempt", "Failing._decide",
        '        elif run.why == "shutdown" and isinstance(error, asyncio.CancelledError):\n'
        '            self._settler.postpone(delivery, 0.0, "released")\n',
        "",
        (CONSUMER,), "every deploy costs retries",
    ),
    Mutant(
        "timeout-not-enforced", "Executor.watch",
        "if run.deadline <= now and not run.why:", "if False and not run.why:",
        (CONSUMER,), "a handler that hangs keeps its slot",
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
        (CONSUMER,), "a failed event is lost",
    ),
    Mutant(
        "settled-entries-stay-held", "Settler._let_go",
        "            del self._held[delivery.place]", "            pass",
        (EDGES,), "a worker's memory grows, and it renews what is gone",
    ),
    Mutant(
        "prefetches", "Fetcher._step",
        "        free = self._executor.free\n        if free <= 0 or", "        free = self._executor.free + 50\n        if free <= 0 or",
        (CONSUMER,), "entries wait in memory although other workers are free",
    ),
    Mutant(
        "expired-events-handled", "Gate._is_over",
        "bool(expires <= self._state.clock.now())", "bool(expires <= 0)",
        (CONSUMER,), "a one-time password arrives after its time",
    ),
    Mutant(
        "lost-answer-sent-again", "Batcher.store",
        "            answer = (await self._publishing.store((event,)))[0]\n",
        "            try:\n                answer = (await self._publishing.store((event,)))[0]\n"
        "            except BrokerUnavailable:\n                answer = (await self._publishing.store((event,)))[0]\n",
        (FAULTS + "::test_publish_whose_answer_is_lost",), "one publish stores two events",
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
        (VIRTUAL, CONSUMER), "each handler that does not end takes a place of the worker away for ever",
    ),
    Mutant(
        "trim-takes-unfinished-work", "finish.inc.lua",
        "if after(id, reader[2]) or #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then",
        "if #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then",
        (GROUPS, FANOUT), "a slow group loses what a fast one has finished",
    ),
    Mutant(
        "trim-takes-what-is-processed", "finish.inc.lua",
        "if after(id, reader[2]) or #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then",
        "if after(id, reader[2]) then",
        (GROUPS, FANOUT), "an event vanishes under the hands of a group that is at it",
    ),
    Mutant(
        "drop-although-in-use", "drop.lua",
        "  if #alive > 0 then return {0, alive} end\n", "",
        (GROUPS,), "a group is taken away from workers that are alive",
    ),
    Mutant(
        "drop-forgets-the-declaration", "drop.lua",
        "redis.call('HDEL', KEYS[1], 'group:' .. group)\n", "",
        (GROUPS,), "events wait for ever for a group that was dropped",
    ),
    Mutant(
        "levels-not-served-are-read", "GroupConsumer.served",
        "return self.serve or self.levels", "return self.levels",
        (FANOUT,), "a pod that is kept free for what is urgent does everything",
    ),
    Mutant(
        "dropped-group-comes-back", "Fetcher._until_it_works",
        "            except (AccessDenied, WrongServer, GroupMissing):\n", "            except AccessDenied:\n",
        (GROUPS,), "a worker of a dropped group tries for ever to create it",
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
        "held-retries-hide-others", "due.inc.lua",
        "line.offset, line.ended = offset + PAGE, #page < 2 * PAGE", "line.offset, line.ended = offset + PAGE, true",
        (PAUSES,), "retries of open levels wait behind those that are paused",
    ),
    Mutant(
        "paused-levels-are-read", "Fetching.hold",
        "self._open = tuple(level for level in self._levels if level not in paused)", "self._open = self._levels",
        (MACHINE, PAUSES), "new events start in a pause",
    ),
    Mutant(
        "held-retries-forgotten", "Fetching.hold",
        "        self._open_streams = [self._keys.level(level) for level in self._open]\n        self._due_from = self._from_the_beginning()\n",
        "        self._open_streams = [self._keys.level(level) for level in self._open]\n",
        (MACHINE, PAUSES), "retries that came due in a pause are not tried after it",
    ),
    Mutant(
        "pause-overwritten", "pause.lua",
        "if known then return {0, known} end", "",
        (PAUSES, MACHINE), "who paused first, and why, is lost",
    ),
    Mutant(
        "resume-ends-every-pause", "resume.lua",
        "(#ARGV == 1 or wanted[scope]) and ended or others", "ended",
        (MACHINE, PAUSES), "resuming a level lets the whole stream go",
    ),
    Mutant(
        "cancel-takes-what-runs", "cancel.lua",
        "if #held == 1 and held[1][2] == ARGV[2] then", "if #held == 1 then",
        (CANCEL,), "an event is cancelled in the midst of its handler",
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
        "cancel-without-audit", "cancel_scheduled.lua",
        "if #members > 0 then", "if false then",
        (MACHINE, CANCEL), "nobody knows who cancelled an event",
    ),
    Mutant(
        "cancelled-body-stays", "cancel_scheduled.lua",
        "  redis.call('HDEL', KEYS[2], ARGV[i])\n", "",
        (MACHINE,), "bodies of cancelled events stay for ever",
    ),
    Mutant(
        "claim-taken-from-another-event", "claim.lua",
        "elseif held and not (held_entry == entry and tonumber(held_count) <= count) then", "elseif false then",
        (DEDUPE,), "two events with one id run at once",
    ),
    Mutant(
        "late-success-marks-a-claim-of-another", "claim_done.lua",
        "if held and held ~= mine then", "if held == 'handled' then",
        (DEDUPE,), "what a stalled attempt does late ends the claim of the one that runs",
    ),
    Mutant(
        "late-failure-frees-a-claim-of-another", "claim_release.lua",
        "if redis.call('GET', key) == 'claimed ' .. ARGV[2 * i] .. ' ' .. ARGV[2 * i - 1] then", "if true then",
        (DEDUPE,), "what a stalled attempt does late lets a duplicate run",
    ),
    Mutant(
        "failed-event-keeps-its-claim", "Dedupe.failed",
        "            claims.release(_claim(attempt))", "            pass",
        (DEDUPE,), "a duplicate of a failed event waits until the claim ends by itself",
    ),
    Mutant(
        "skipped-event-counts-as-handled", "Dedupe.after",
        "        if attempt.skipped:\n", "        if False:\n",
        (DEDUPE,), "an event that a middleware left out is never handled",
    ),
    Mutant(
        "body-of-another-type-passes", "_JsonBody.convert",
        "if not isinstance(data, self._kind):", "if False:",
        (TYPED,), "a handler is given what it does not take",
    ),
    Mutant(
        "values-in-validation-errors", "_ValidatedBody._explain",
        'if row["type"] not in self._known:', "if False:",
        (TYPED,), "bodies are quoted in dead letters and logs",
    ),
    Mutant(
        "upcast-result-not-validated", "_ValidatedBody.convert",
        "        return self._checked(self._adapter.validate_json, text, data)", "        return data",
        (UPCASTERS,), "a typed handler is given what the upcasters left",
    ),
    Mutant(
        "one-upcaster-only", "_upcast.changed",
        "        changed = True", "        return True",
        (UPCASTERS,), "events that are two versions old are given to handlers half way",
    ),
    Mutant(
        "upcast-keeps-the-old-version", "_upcast",
        'event.meta["version"] = version = to_version', "version = to_version",
        (UPCASTERS,), "a handler sees new data under the old version",
    ),
    Mutant(
        "upcaster-that-forgets-to-return", "_upcast",
        "if event.data is None and before is not None:", "if False:",
        (UPCASTERS,), "an event without a body is handled",
    ),
    Mutant(
        "order-by-nobody", "lanes.inc.lua",
        "    if head and head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then\n", "    if false then\n",
        (LANES,), "two events of a key run at once",
    ),
    Mutant(
        "replay-behind-its-key", "lanes.inc.lua",
        "head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then", "head ~= member then",
        (LANES,), "a key that is held waits for ever, replayed or not",
    ),
    Mutant(
        "followed-although-pending", "follow.lua",
        "    if #redis.call('XPENDING', key, group, id, id, 1) > 0 then\n", "    if false then\n",
        (LANES,), "an entry whose acknowledgement came late runs beside the next of its key",
    ),
    Mutant(
        "follow-not-said-again", "Settling.settle",
        "        if unsettled and following is not None and refused is None:\n", "        if False:\n",
        (LANES,), "a key stops when the server had forgotten a script",
    ),
    Mutant(
        "dead-heads-forgotten", "Settling.settle.dead",
        "        dead = [letter.delivery for letter in buried]\n", "        dead = []\n",
        (LANES,), "a key whose event died waits for a sweep",
    ),
    Mutant(
        "one-tenant-for-all", "fetch_lanes.lua",
        "key_text(values, fair_by) or '', event)", "'', event)",
        (LANES,), "whoever has the longest backlog has all the starts",
    ),
    Mutant(
        "weights-ignored", "fetch_lanes.lua",
        "turn.time = turn.time + 1 / weight_of(turn.fair)", "turn.time = turn.time + 1",
        (LANES,), "a tenant gets no more than others, whatever its weight",
    ),
    Mutant(
        "turns-for-nothing", "fetch_lanes.lua",
        "else redis.call('ZADD', ring_key, turn.time, fair) end", "else redis.call('ZADD', ring_key, 0, fair) end",
        (LANES,), "the tenant whose name sorts first has all the starts",
    ),
    Mutant(
        "busy-workers-do-not-line-up", "OrderedSource.line_up",
        "        await self._by_key.take(0)\n        while", "        while",
        (LANES,), "who comes new while every handler is busy stands behind the backlog",
    ),
    Mutant(
        "retries-first", "due.inc.lua",
        "math.floor((most + who.turn) / 2)", "most",
        (TURNS_OF_RETRIES,), "failing events take all the starts, and nothing new is ever tried",
    ),
    Mutant(
        "new-events-first", "due.inc.lua",
        "math.floor((most + who.turn) / 2)", "0",
        (TURNS_OF_RETRIES,), "a retry does not start as long as something new comes",
    ),
    Mutant(
        "no-alternation", "due.inc.lua",
        "if most % 2 == 1 then who.turn = 1 - who.turn end\n", "",
        (TURNS_OF_RETRIES,), "on a single slot one kind takes all the starts",
    ),
    Mutant(
        "retries-by-time-only", "fetch_due.lua",
        "  for _, level in ipairs(level_at) do take_due(level, limit - #taken, who, admits) end\n",
        "  for i = #level_at, 1, -1 do take_due(level_at[i], limit - #taken, who, admits) end\n",
        (TURNS_OF_RETRIES,), "retries of the highest level wait behind a backlog of lower ones",
    ),
    Mutant(
        "overdue-retries-wait", "fetch_due.lua",
        "if line.rows[n].at <= latest then", "if false then",
        (TURNS_OF_RETRIES,), "a retry of a low level waits as long as there is something above it",
    ),
    Mutant(
        "due-retries-wait-for-the-next-look", "Fetcher._take_due",
        "if reply.more:", "if False:",
        (TURNS_OF_RETRIES,), "retries get fewer starts than new events of their level",
    ),
    Mutant(
        "quiet-tenants-stay", "fetch_lanes.lua",
        "  if next(touched) and redis.call('EXISTS', lane_key) == 0 then\n", "  if false then\n",
        (LANES,), "after many tenants the next event of any waits",
    ),
    Mutant(
        "looks-without-end-are-cut-in-silence", "fetch_lanes.lua",
        "        more, is_cut = 1, true\n", "        is_cut = true\n",
        (LANES,), "behind a thousand quiet tenants an event waits half a second for each thousand",
    ),
    Mutant(
        "the-order-before-is-forgotten", "Ways.learn",
        "        self.orders = tuple(dict.fromkeys(order for order in (self.lanes.order_by, *orders) if order))\n", "",
        (DECLARATIONS,), "after order_by was changed each key goes on once per sweep",
    ),
    Mutant(
        "ranks-of-whoever-reads", "lanes.inc.lua",
        "local list = redis.call('HGET', rules_key, 'levels')\n", "local list = table.concat(level_at, ',')\n",
        (DECLARATIONS,), "after a level was added what is lined up is looked for on the wrong one",
    ),
    Mutant(
        "unlisted-ranks-believed", "lanes.inc.lua",
        "  if rank and not ranked().agreed then level = meant(rank, id, order) end\n", "",
        (DECLARATIONS,), "what a version before has lined up is looked for on the wrong level",
    ),
    Mutant(
        "keys-without-head-stay", "mend_lanes.lua",
        "  if order and redis.call('HEXISTS', heads_key, order) == 0 then followed = followed + follow(order) end\n", "",
        (DECLARATIONS,), "what a worker did not know the level of is left for ever",
    ),
    Mutant(
        "rows-of-another-fair-key-are-lost-rows", "mend_lanes.lua",
        "local known_ways = ways()\n", "local known_ways = {}\n",
        (DECLARATIONS,), "an event has two rows, and runs twice",
    ),
    Mutant(
        "nobody-is-woken", "Settler.run",
        "                if settlement.ready:\n                    self._state.keys_ready.set()\n", "",
        (LANES,), "each event of a key waits for the next poll",
    ),
    Mutant(
        "lanes-outlive-their-declaration", "Fetching.hand_back_unknown",
        "        await self._dissolve()\n        return back\n", "        return back\n",
        (LANES,), "what was lined up is stuck once order_by is taken away",
    ),
    Mutant(
        "ended-heads-stay", "mend_lanes.lua",
        "  if key and not row then\n", "  if false then\n",
        (LANES,), "a key whose first event was cancelled stops for ever",
    ),
    Mutant(
        "held-for-nothing", "admit.lua",
        "    local stored = redis.call('HGET', KEYS[3], scope)\n",
        "    local stored = redis.call('HGET', KEYS[3], scope) or '{}'\n",
        (ATTRIBUTES,), "an event that is put aside just as the pause ends waits for an hour",
    ),
    Mutant(
        "resume-brings-nothing-back", "Pauses._bring_back",
        "                await self._store.bring_back(group, scopes)\n", "                pass\n",
        (ATTRIBUTES,), "what a pause put aside comes back an hour after its end",
    ),
    Mutant(
        "everybody-probes", "admit.lua",
        "      if pause.scout ~= entry.member and type(pause.scout) == 'string' and pending_row(key_of, group, pause.scout) then\n",
        "      if false then\n",
        (ADMISSION,), "a service that is down is asked by every event that waits for it",
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
        "waits-for-the-dead", "Broker._leave",
        "            is_open |= link.leave(stay)\n", "            is_open |= link.leave(lambda *_: True)\n",
        (PLANNED,), "after a failover a read goes on waiting for the primary that was",
    ),
    Mutant(
        "replica-taken-for-primary", "_Run._leave_others",
        "if self._primary is None:", "if True:",
        (PLANNED,), "publishers and readers stay with a primary that was replaced",
    ),
    Mutant(
        "believes-the-first", "Sentinels.most",
        "votes > len(self.places) // 2", "votes > 0",
        (PLANNED,), "one Sentinel that is cut off brings everybody back to the old primary",
    ),
    Mutant(
        "asks-without-asking", "ClusterLink._trip",
        "                lines.append(_ASKING)\n", "                pass\n",
        (SLOTS,), "a publish is refused, or goes in circles, while its slot moves",
    ),
    Mutant(
        "tries-once", "ClusterLink._round",
        "again = (Redirected, TryAgain)", "again = Redirected",
        (SLOTS,), "whoever publishes is told of a slot that is half way",
    ),
    Mutant(
        "leaves-in-anger", "Assignment._look",
        "            roles.stop(_FOREVER)\n", "            roles.stop(0.0)\n",
        (PARTITIONS,), "a partition that goes to another worker cancels what runs",
    ),
    Mutant(
        "any-partition", "Spread._number",
        "        return None if value is None else partition_of(value, len(self._places))\n", "        return None\n",
        (PARTITIONS,), "events of a key are on several partitions, and out of order",
    ),
    Mutant(
        "reads-before-it-looks-back", "Fetcher._fetch",
        "                if self._is_unknown:\n", "                if False:\n",
        (LOSSES,), "a group that fell back reads on, and nobody learns what is done twice",
    ),
    Mutant(
        "only-the-tail-is-missed", "Mark.loss",
        "        if missing > 0 or had > entry_order(now.last):\n", "        if had > entry_order(now.last):\n",
        (LOSSES,), "events that are lost before others that are there are not missed",
    ),
    Mutant(
        "trusts-every-server", "depends_on_default_user",
        "    return drops and info.get(\"aof_enabled\") == \"1\"\n", "    return False\n",
        ("tests/unit/test_doctor.py",), "a server that loses data at its next restart looks healthy",
    ),
    Mutant(
        "ids-of-any-length", "members.inc.lua",
        "  return #digits < #MOST_IN_64_BITS or", "  return true or",
        (UNREADABLE,), "a row with an id that is too large stops a whole group",
    ),
    Mutant(
        "trusts-what-is-packed", "promote.lua",
        "packed and read_packed(packed)", "packed and cmsgpack.unpack(packed)",
        (UNREADABLE,), "one scheduled event that cannot be unpacked stops all others",
    ),
    Mutant(
        "a-head-is-a-head", "mend_lanes.lua",
        "  if not level and not is_held(page[2][i + 1]) then\n", "  if false then\n",
        (UNREADABLE,), "a key whose head was overwritten stands still for ever",
    ),
    Mutant(
        "reads-every-row-behind", "lanes.inc.lua",
        "      if id then return row, level, id, fair, rank end\n    end\n    if #rows < few",
        "      return row, level, id, fair, rank\n    end\n    if #rows < few",
        (UNREADABLE,), "a row that says nothing holds up all that is behind it",
    ),
    Mutant(
        "old-work-is-orphaned", "stray_orphans.lua",
        "and born >= since and", "and",
        (UNREADABLE,), "a repair gives a group events that it never was to have",
    ),
    Mutant(
        "throttled-by-the-old-clock", "admit.lua",
        "    if is_same then state.B = math.max(0, state.B - ahead) end", "    if false then state.B = 0 end",
        (UNREADABLE,), "a throttle of seconds holds its key for as long as the clock was set back",
    ),
    Mutant(
        "a-refusal-is-a-loss", "renew.lua",
        "  if not ok and not is_gone(said(held)) then", "  if false then",
        (REFUSALS,), "a refusal of the server cancels handlers whose leases hold",
    ),
    Mutant(
        "no-grace-after-a-refusal", "Reclaimer._sweep_on",
        "            except OUTAGE as error:\n", "            except BrokerUnavailable as error:\n",
        (REFUSALS,), "after a proxy refused for longer than a lease, healthy events run twice",
    ),
    # --- two features together
    Mutant(
        "slots-kept-by-what-is-put-back", "postpone.lua",
        "      if admitted then put_off(KEYS[5], KEYS[2], member) end\n",
        "",
        (ADMISSION,), "what waits for its retry keeps its slot",
    ),
    Mutant(
        "slots-kept-by-a-lost-read", "hand_back.lua",
        "    put_off(KEYS[3], KEYS[2], ARGV[4] .. '|' .. row[1])\n",
        "",
        (ADMISSION,), "an entry that is handed back keeps the slot that it was handed",
    ),
    Mutant(
        "slots-of-what-was-erased", "renew.lua",
        "    let_go(KEYS[#KEYS], KEYS[#KEYS - 1], member)\n",
        "",
        (ADMISSION,), "the slot of an event that was erased while it ran is gone until somebody asks",
    ),
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
        "slots-kept-by-what-is-cancelled", "cancel.lua",
        "for _, member in ipairs(members) do let_go(KEYS[#KEYS], KEYS[2], member) end\n",
        "",
        (ADMISSION,), "who is cancelled keeps its slot and its place",
    ),
    Mutant(
        "places-of-what-ended", "slots.inc.lua",
        "        redis.call('ZREM', queue_key, member)\n        let_go(admissions_key, retry_key, member)\n", "",
        (LIMIT_SLOTS,), "what ended stands first in a queue for ever",
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
        "records-of-erased-retries", "fetch_lanes.lua",
        "      redis.call('HDEL', attempts_key, level .. '|' .. id)\n      vanished", "      vanished",
        (DECLARATIONS,), "the same of retries that were lined up",
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
        "reason-forgotten-pause", "_JUDGES",
        "    *(_put_aside, _paused, _slot,", "    *(_put_aside, _slot,",
        (COMPOSITION,), "why says nothing of a pause",
    ),
    Mutant(
        "reason-forgotten-slot", "_JUDGES",
        "    *(_put_aside, _paused, _slot,", "    *(_put_aside, _paused,",
        (COMPOSITION,), "why says nothing of the slots of a limit",
    ),
    Mutant(
        "reason-forgotten-key", "_JUDGES",
        "    *(_key_held, _key_busy),\n", "    *(_key_held,),\n",
        (COMPOSITION,), "why says nothing of the event that another one of its key waits for",
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
        "children-keep-the-handlers", "Service._signals",
        "            with children_without(before), interrupts_allowed():\n", "            with interrupts_allowed():\n",
        (WORKERS + "::test_a_child_that_a_handler_forks_ends_when_it_is_told_to",), "Process.terminate() takes 25 s",
    ),
    Mutant(
        "children-miss-early-signals", "_forks",
        "        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours)\n", "        pass\n",
        (WORKERS + "::test_a_child_that_a_handler_forks_ends_when_it_is_told_to",), "Process.terminate() now and then does nothing",
    ),
    Mutant(
        "only-the-sweeper-releases", "Reclaimer.sweep",
        "        if sweep.mine or self._slotted is not None:\n", "        if sweep.mine:\n",
        (RELEASED,), "while an old worker sweeps, what waits for its limits goes on one event per sweep",
    ),
    Mutant(
        "queues-of-before-stay", "Redeclaring._look_anew",
        "if name.partition(\"=\")[0] in changed:\n", "if False:\n",
        (CHANGED_LIMITS,), "after a limit was changed, what waits for a slot goes on one event per sweep, or in an hour",
    ),
    Mutant(
        "places-of-before-stay", "Redeclaring._look_anew",
        "not changed.isdisjoint(admission.limits)", "False",
        (CHANGED_LIMITS,), "after a rate was raised, what waits goes on at the old one",
    ),
    Mutant(
        "queues-of-others-stay", "Admitting.look_after_queues",
        "known is not None and name.partition(\"=\")[0] not in known]", "False]",
        (CHANGED_LIMITS,), "what old workers put into a queue stays there when they are gone",
    ),
    Mutant(
        "rests-from-now-on", "Fetching.positions",
        "found[key] = mine[\"last-delivered-id\"]", "found[key] = b\"$\"",
        (MANY,), "an event that comes just before an idle group waits with the others is not heard",
    ),
    Mutant(
        "retries-of-who-rests-unseen", "Lookout._look",
        "            if counts[2 * at : 2 * at + 2] != _expected(part):\n", "            if not part:\n",
        (MANY,), "retries and pauses reach an idle group among many a minute late",
    ),
    Mutant(
        "one-odd-stream-deafens-all", "Ears._listen",
        "            await self._find_odd(link, whose)\n            return\n", "            return\n",
        (MANY,), "the groups that share a read with a broken stream hear of nothing",
    ),
    Mutant(
        "works-without-connections", "Idling.work",
        "            self._is_resting = False\n            self._fetching.rise()\n", "            self._is_resting = False\n",
        (MANY,), "a busy group of many shares its connection with the sweeps of all others",
    ),
    Mutant(
        "all-start-at-once", "Fetcher._in_turn",
        "        async with self._idling.starting:\n            if not self._stopping:\n                await call()\n", "        await call()\n",
        (MANY,), "where the server is slow, hundreds of groups wait for each other's answers until their time is over",
    ),
    Mutant(
        "lookout-never-back", "Lookout._look_on",
        "                    self._here.set()\n                    self.heard_at", "                    self.heard_at",
        (MANY,), "after an outage the groups of a large process do nothing any more",
    ),
    Mutant(
        "lease-thread-looks-at-nobody", "LeaseThread._run",
        "                    renewer.look(now)\n", "                    pass\n",
        (MANY,), "no lease is renewed",
    ),
    Mutant(
        "blames-who-never-ran", "Executor.watch",
        "            if not self.busy:\n                self._at_work.clear()\n                await self._at_work.wait()\n                last = self._at_work_since\n", "",
        (MANY,), "a warning names handlers that have not run when the event loop was blocked",
    ),
    Mutant(
        "row-for-each-step-of-a-replay", "deed.inc.lua",
        "  if id ~= '' then redis.call('XDEL', key, id) end\n", "",
        ("tests/server/test_mending.py",), "a long replay pushes everything else out of the audit record",
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
        "dead-among-the-living", "Queries.workers_of.state",
        'state: Literal["alive", "silent"] = "alive" if silent < HEARD else "silent"', 'state: Literal["alive", "silent"] = "alive"',
        ("tests/server/test_mending.py",), "workers that crashed are listed as if they worked",
    ),
    Mutant(
        "numbers-cut", "fitted",
        "loose := [name for name in kept if name in names and sizes[name] > names[name]]", "loose := [name for name in kept if sizes[name] > 4]",
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
        "lane-is-not-told", "fetch_lanes.lua",
        "      if places[i] >= 0 and ready == 0 then ready = redis.call('EXISTS', lane_key) end\n", "",
        (MANY,), "a key that an operator lets go stands still in a large process for a minute",
    ),
    Mutant(
        "gone-rows-become-heads", "lanes.inc.lua",
        "    if is_stored(level, id) then\n", "    if true then\n",
        ("tests/server/test_lanes.py",), "each entry that was deleted by hand behind a head holds its key up for a sweep",
    ),
    Mutant(
        "buried-beside-a-killer", "Retry.after_stall",
        "if record.attempts > allowed and was_alone:", "if record.attempts > allowed:",
        (RETRY, VIRTUAL_COMPOSITION), "an event without retries that only stood beside a killer is buried",
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
        "suspect-handed-out-of-a-lane", "fetch_lanes.lua",
        "      set_due(key, level, id)\n", "      taken[#taken + 1], count = {level, id, 2, record, fields_of[id]}, count + 1\n",
        (SUSPECTS,), "a suspect that is lined up may stall among others, and is buried",
    ),
    Mutant(
        "reserved-for-ever", "_handed_a_slot",
        "if case.scene.now - since_when(case.found) > case.patience:", "if False:",
        (STUCK,), "an event has a slot, and nobody says that no worker comes for it",
    ),
    Mutant(
        "first-of-a-queue-for-ever", "_next_in_queue",
        "    if now - looked <= HEARD:", "    if True:",
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
        (VIRTUAL_COMPOSITION, PAUSES), "a level that was paused and resumed is not read any more",
    ),
    Mutant(
        "turn-not-passed-on", "admissions.inc.lua",
        " and not was_first then return end",
        " then return end",
        (LIMIT_SLOTS,), "behind an event that expired in the queue others wait for an hour",
    ),
    Mutant(
        "slots-of-the-vanished", "due.inc.lua",
        "    redis.call('HDEL', attempts_key, member)\n    let_go(admissions_key, retry_key, member)\n    due.vanished",
        "    redis.call('HDEL', attempts_key, member)\n    due.vanished",
        (ADMISSION,), "an event that was erased while it waited keeps the slot that it was handed",
    ),
    Mutant(
        "slots-of-the-swept", "sweep.lua",
        "  let_go(KEYS[6], KEYS[2], level .. '|' .. id)\n",
        "",
        (ADMISSION,), "an event that was erased while its worker died keeps its slot",
    ),
    Mutant(
        "slots-of-limits-that-are-gone", "admit.lua",
        "  leave_others(entry, kept)\n",
        "",
        (ADMISSION,), "after a deploy an event keeps a slot of a limit that its handler has no more",
    ),
    Mutant(
        "slots-of-the-repaired", "stray_pending.lua",
        "    let_go(KEYS[5], KEYS[2], ARGV[3] .. '|' .. id)\n",
        "",
        (ADMISSION,), "what the doctor ends keeps its slot",
    ),
    Mutant(
        "slots-without-a-row", "slots.inc.lua",
        "          note_slot(admissions_key, member, name)\n",
        "",
        (ADMISSION,), "a slot that is handed to what an older version lined up is given back by nobody",
    ),
    Mutant(
        "rows-of-older-versions-stay", "tend_admissions.lua",
        "    let_go(KEYS[1], KEYS[2], member)\n",
        "",
        (ADMISSION,), "rows of what an older version ended stay for a month",
    ),
    Mutant(
        "pauses-ended-by-older-versions", "tend_admissions.lua",
        "redis.call('HEXISTS', KEYS[3], row.by) == 0",
        "false",
        (ADMISSION,), "what waits for a pause that an older version ended comes back in an hour",
    ),
    Mutant(
        "places-lost-by-who-is-put-back", "admissions.inc.lua",
        "  if row.kind == 'start' then redis.call('HDEL', admissions_key, member) end\n",
        "  redis.call('HDEL', admissions_key, member)\n",
        (ADMISSION,), "who comes at its reserved time and finds no handler free goes behind all others again",
    ),
    Mutant(
        "records-of-older-versions-unread", "_waiting",
        "if any(mark in record for mark in _OLD))",
        "if False)",
        (ADMISSION,), "what an older version put aside for a pause waits on for an hour",
    ),
    Mutant(
        "places-of-older-versions-unread", "Admitting.admit.before",
        "if _OLD in delivery.record else {}",
        "if False else {}",
        (ADMISSION,), "what an older version put aside for a rate goes behind all others",
    ),
    Mutant(
        "expiry-not-asked", "Gate._told_here",
        "decided.append((delivery, EXPIRED if self._is_over(delivery) else START))",
        "decided.append((delivery, START))",
        (CONSUMER,), "expired events are handled",
    ),
    Mutant(
        "expiry-beside-a-limit", "Gate.admit.is_late",
        "is_late = answer.kind is Kind.START and self._is_over(ask.delivery)",
        "is_late = False",
        (ADMISSION,), "an expired event that a pause covered starts when that is over",
    ),
    Mutant(
        "reason-forgotten-rate", "_JUDGES",
        "_throttled, _rate, _not_due)",
        "_throttled, _not_due)",
        (WHY,), "why says of what waits for a rate that somebody snoozed it",
    ),
    Mutant(
        "reason-of-another-delivery", "_of_row",
        "deliveries is not None and said.get(\"count\", deliveries) != deliveries",
        "False",
        (ADMISSION,), "why says of a retry of an older version that it waits for a limit",
    ),
    Mutant(
        "rows-outlive-what-they-are-of", "dissolve.lua",
        "  redis.call('UNLINK', KEYS[at + 1], KEYS[at + 2])\n", "",
        ("tests/server/test_declarations.py",), "a worker takes an entry from the hands of another one when order or fairness is turned off",
    ),
    Mutant(
        "too-late-is-left-behind", "Fetching.leave",
        "                    if await self.hand_back_unknown(held):\n", "                    if False:\n",
        ("tests/server/test_declarations.py",), "an event that a stopping worker was handed waits for its lease and counts as stalled",
    ),
)  # fmt: skip
