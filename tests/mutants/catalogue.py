"""Seeded bugs. Each replaces a piece of the source that occurs exactly once; the tests named must then fail.

To add one: copy the exact text from the source, write the bug, name the tests that should notice, say what would go
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
    """A seeded bug. ``file``: below ``streams/``. ``tests``: arguments for pytest; one failure kills the mutant."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    harm: str


MUTANTS = (
    Mutant(
        "ack-keeps-the-entry", "broker/finish.inc.lua",
        "if #ids > 0 then redis.call('XDEL', key, unpack(ids)) end", "",
        (MACHINE,), "handled events fill the server's memory",
    ),
    Mutant(
        "ack-for-another-group", "broker/finish.inc.lua",
        "if row[i] == 'name' and row[i + 1] ~= group then return false end", "",
        (GROUPS, FANOUT_MACHINE), "a worker of a dropped group deletes what the group that is left has not had",
    ),
    Mutant(
        "replays-for-nobody", "broker/replay.lua",
        "if not takes(KEYS[3 + i], KEYS[3], ARGV[1]) then return redis.error_reply('NOGROUP ' .. ARGV[1]) end", "",
        (GROUPS, FANOUT_MACHINE), "dead letters of a dropped group are put back, acknowledged by the others, and gone",
    ),
    Mutant(
        "ack-keeps-the-record", "broker/ack.lua",
        "redis.pcall('HDEL', KEYS[2], unpack(ids))", "",
        (MACHINE,), "attempt records stay for ever",
    ),
    Mutant(
        "retry-leaves-the-pending-list", "broker/postpone.lua",
        "local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id, 'JUSTID')",
        "redis.call('XACK', KEYS[1], ARGV[1], id) local claimed = {id}",
        (MACHINE,), "an event whose retry row is lost is lost",
    ),
    Mutant(
        "retry-row-missing", "broker/postpone.lua",
        "redis.call('ZADD', KEYS[2], string.format('%.0f', now + delay), member)", "",
        (MACHINE,), "a failed event comes back only when the reclaimer restores its row",
    ),
    Mutant(
        "retry-forgets-attempts", "broker/postpone.lua",
        "if record ~= '' then redis.call('HSET', KEYS[3], member, record) end", "",
        (MACHINE,), "a failing event is retried for ever",
    ),
    Mutant(
        "retry-without-owner-check", "broker/postpone.lua",
        "if holds(", "if true or holds(",
        (MACHINE, CONSUMER), "a worker that lost its lease takes the entry from the one that works on it",
    ),
    Mutant(
        "dead-letter-without-owner-check", "broker/dead_letter.lua",
        "if holds(", "if true or holds(",
        (MACHINE, CONSUMER), "an event is dead and handled",
    ),
    Mutant(
        "dead-letter-stays-pending", "broker/dead_letter.lua",
        "redis.call('XACK', KEYS[1], ARGV[1], id)\n    delete_finished", "delete_finished",
        (MACHINE,), "an event is in two places",
    ),
    Mutant(
        "dead-letter-keeps-the-record", "broker/dead_letter.lua",
        "redis.call('HDEL', KEYS[3], member)", "",
        (MACHINE,), "attempt records stay for ever",
    ),
    Mutant(
        "dead-letter-loses-fields", "broker/dead_letter.lua",
        "unpack(raw, 1, kept))", "unpack(raw, 1, 2))",
        (DEAD, MACHINE), "a dead letter cannot be replayed as it was",
    ),
    Mutant(
        "owner-not-checked", "broker/holds.inc.lua",
        "held[1][2] == consumer and held[1][4] == count", "held[1][4] == count",
        (EDGES, MACHINE), "whoever knows the count may write in another's name",
    ),
    Mutant(
        "count-not-checked", "broker/holds.inc.lua",
        "held[1][2] == consumer and held[1][4] == count", "held[1][2] == consumer",
        (MACHINE, CONSUMER), "a stalled attempt of the same worker settles the entry of a later one",
    ),
    Mutant(
        "renew-steals", "broker/renew.lua",
        "if ok and held then", "if true then",
        (MACHINE, CONSUMER), "a heartbeat takes back what somebody else works on",
    ),
    Mutant(
        "renew-counts-a-delivery", "broker/renew.lua",
        "ARGV[2], 0, id, 'JUSTID')", "ARGV[2], 0, id)",
        (MACHINE, CONSUMER), "every lease is lost at its second renewal",
    ),
    Mutant(
        "no-renewal", "consuming/leases.py",
        "if held and (lost := await settling.renew(held)):", "if False and (lost := await settling.renew(held)):",
        (CONSUMER,), "a handler longer than the lease runs twice",
    ),
    Mutant(
        "lost-lease-not-cancelled", "consuming/runners.py",
        'self._cancel(run, "lost")', "pass",
        (CONSUMER,), "two workers go on with the same event",
    ),
    Mutant(
        "sweep-too-early", "broker/sweep.lua",
        "'IDLE', silence, '-', '+', slice, name)", "'IDLE', 0, '-', '+', slice, name) silence = 0",
        (MACHINE, RECLAIMER), "entries are taken from workers in good health",
    ),
    Mutant(
        "sweep-takes-waiting-retries", "broker/sweep.lua",
        "if name == parked then", "if false then",
        (MACHINE, RECLAIMER), "a waiting retry counts as a stall",
    ),
    Mutant(
        "lost-rows-not-restored", "broker/sweep.lua",
        "redis.call('ZADD', KEYS[2], string.format('%.0f', now), level .. '|' .. id)", "",
        (MACHINE, RECLAIMER), "an event whose retry row is lost is never tried again",
    ),
    Mutant(
        "stall-not-counted", "reclaimer.py",
        'record.add("stall", cause, at=now)', "pass",
        (MACHINE, RECLAIMER), "an event that kills its worker kills for ever",
    ),
    Mutant(
        "hand-back-takes-what-is-held", "broker/hand_back.lua",
        "if not held[row[1]] then", "if true then",
        (MACHINE, CONSUMER), "running events are handed to others",
    ),
    Mutant(
        "lower-levels-first", "broker/fetch.lua",
        "for i = 1, #KEYS do", "for i = #KEYS, 1, -1 do",
        (CONSUMER,), "a critical event waits behind ordinary ones",
    ),
    Mutant(
        "fetch-over-the-limit", "broker/fetch.lua",
        "left = left - #entries", "",
        (CONSUMER, MACHINE), "a worker takes more than it can start",
    ),
    Mutant(
        "retries-before-their-time", "broker/due.inc.lua",
        "local first, last = string.format('%.0f', start), string.format('%.0f', due.now)",
        "local first, last = string.format('%.0f', start), '+inf'",
        (MACHINE, CONSUMER), "a retry does not wait",
    ),
    Mutant(
        "retry-steals-from-a-worker", "broker/due.inc.lua",
        "if #held == 0 or held[1][2] ~= who.parked then", "if #held == 0 then",
        (MACHINE, CONSUMER, RECLAIMER), "a row that is out of date takes an entry from the worker that has it",
    ),
    Mutant(
        "suspects-run-together", "broker/due.inc.lua",
        "if suspect and who.suspects <= 0 then return false, true end", "",
        (SUSPECTS,), "one event that kills its worker takes its neighbours with it",
    ),
    Mutant(
        "suspect-beside-a-read", "consuming/isolation.py",
        "return not self._steps and self.is_idle", "return self.is_idle",
        (ISOLATION, VIRTUAL), "what was being fetched when a suspect started dies with it",
    ),
    Mutant(
        "suspect-beside-a-lost-read", "consuming/desk.py",
        "return bool(self.held) or self.unsure", "return bool(self.held)",
        (VIRTUAL,), "what was given to a worker in an answer that was lost stalls with the suspect",
    ),
    Mutant(
        "suspect-beside-other-groups", "consuming/isolation.py",
        "return not any(hand.in_hand for hand in self._hands)",
        "return not any(hand.in_hand for hand in self._hands[:1])",
        (SUSPECTS, VIRTUAL), "an event that kills its worker takes those of the other groups with it",
    ),
    Mutant(
        "lined-up-suspect-beside-others", "consuming/gate.py",
        "            if delivery.record and not alone and delivery.is_suspect:\n", "            if False:\n",
        (ADMISSION,), "under an order by key, a suspect starts beside others",
    ),
    Mutant(
        "gate-rests-never", "consuming/isolation.py",
        "self._rest_until = began + (1 + REST) * waited", "self._rest_until = began",
        (ISOLATION,), "while a handler runs for hours and a suspect waits, its process does nothing else",
    ),
    Mutant(
        "gate-stays-closed-for-a-long-suspect", "consuming/isolation.py",
        "loop().call_later(LONGEST, self._open)", "loop().call_later(1e9, self._open)",
        (ISOLATION,), "a suspect that runs for hours, or waits for another event, stops its process",
    ),
    Mutant(
        "handed-over-suspect-beside-others", "broker/hand_over.lua",
        "if string.find(record, '\"suspect\":true', 1, true) then return false end", "",
        (SUSPECTS,), "a suspect that got a slot is fetched in vain",
    ),
    Mutant(
        "group-begins-at-the-end", "broker/declare.lua",
        "(known or start ~= 'new') and '0' or '$'", "'$'",
        (CONSUMER, PIPELINE), "what was published before the worker started is never read",
    ),
    Mutant(
        "group-comes-back-at-the-end", "broker/declare.lua",
        "(known or start ~= 'new') and '0' or '$'", "start ~= 'new' and '0' or '$'",
        (FANOUT,), "events published while the group was gone are never read",
    ),
    Mutant(
        "second-group-takes-events-away", "broker/declare.lua",
        "if retention == 'work' and not declared[name] and #names > 0 then", "if false then",
        (FANOUT,), "two groups believe to get every event of a stream that is declared for one",
    ),
    Mutant(
        "missing-group-is-not-waited-for", "broker/finish.inc.lua",
        "if string.sub(fields[i], 1, 6) == 'group:' and not there[fields[i]] then return nil end", "",
        (FANOUT,), "a group that was lost misses what others finished meanwhile",
    ),
    Mutant(
        "off-by-one-after-failures", "retry.py",
        '        if record.attempts > allowed:\n            return Bury("retries-used-up")',
        '        if record.attempts >= allowed:\n            return Bury("retries-used-up")',
        (RETRY,), "an event gets one retry less",
    ),
    Mutant(
        "off-by-one-after-stalls", "retry.py",
        "if record.attempts > allowed and was_alone:", "if record.attempts > allowed + 1 and was_alone:",
        (RETRY,), "an event that kills its worker gets one more",
    ),
    Mutant(
        "own-limit-ignored", "retry.py",
        "return self.max_retries if override is None else override", "return self.max_retries",
        (RETRY,), "max_retries of an event has no effect",
    ),
    Mutant(
        "promote-twice", "broker/promote.lua",
        "  redis.call('ZREM', KEYS[1], member)\n", "",
        (SCHEDULER, MACHINE), "a scheduled event keeps the scheduler busy for ever, or is published again",
    ),
    Mutant(
        "promote-before-time", "broker/promote.lua",
        "'-inf', string.format('%.0f', now)", "'-inf', '+inf'",
        (SCHEDULER, MACHINE), "delayed events are not delayed",
    ),
    Mutant(
        "dedup-not-remembered", "broker/publish_once.lua",
        "redis.call('SET', KEYS[1],", "redis.call('TOUCH', KEYS[1]) redis.pcall('NONE',",
        (PRODUCER,), "a repeated event is stored twice",
    ),
    Mutant(
        "full-stream-takes-one-more", "broker/publish.lua",
        "if room < 0 then room = 0 end", "if room < 1 then room = 1 end",
        (PRODUCER,), "max_len is no limit",
    ),
    Mutant(
        "scheduled-not-counted", "broker/publish.lua",
        "room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[#KEYS])", "room = tonumber(ARGV[1])",
        (PRODUCER,), "scheduled events grow without a limit",
    ),
    Mutant(
        "replay-loses-the-event-id", "broker/put_back.inc.lua",
        "if not has_id then", "if false then",
        (DEAD, "tests/server/test_wire_format.py", MACHINE), "a replayed event has another id",
    ),
    Mutant(
        "replay-stays-dead", "broker/put_back.inc.lua",
        "  redis.call('XDEL', key, id)\n", "",
        (DEAD, MACHINE), "an event is in two places",
    ),
    Mutant(
        "replay-for-every-group", "broker/put_back.inc.lua",
        "fields[#fields + 1] = 'group'\n", "fields[#fields + 1] = 'for'\n",
        ("tests/server",), "other groups handle a replayed event a second time",
    ),
    Mutant(
        "discard-without-audit", "broker/discard.lua",
        "if #letters == 0 then return {0, ARGV[4]} end", "if #letters >= 0 then return {#letters, ARGV[4]} end",
        (DEAD,), "nobody knows who deleted dead letters",
    ),
    Mutant(
        "late-places-used-at-once", "broker/admit.lua",
        "  if state.S - tolerance <= now and state.B <= now and (reserved == 2 or not late) then return 0 end\n",
        "  if true then return 0 end\n",
        (LIMITS,), "after an outage everything that waited for a limit starts at once",
    ),
    Mutant(
        "newcomers-overtake", "broker/admit.lua",
        "    from = math.max(state.S, state.R, state.L)\n    if", "    from = state.S\n    if",
        (LIMITS,), "whoever waits for a limit comes back again and again",
    ),
    Mutant(
        "every-limit-reserved", "broker/admit.lua",
        "  state[frontier] = from + state.interval\n",
        "  for _, one in ipairs(entry.limits) do\n    local other = states[one.state]\n"
        "    other.R = math.max(other.R, other.S, now) + other.interval\n    other.changed = true\n  end\n"
        "  state[frontier] = from + state.interval\n",
        (LIMITS,), "a recipient with a long queue uses up the rate of its instance",
    ),
    Mutant(
        "idle-keys-stay", "broker/limits.inc.lua",
        "redis.call('SET', key, text, 'PX', string.format('%.0f', math.ceil((last - now) / 1000)))",
        "redis.call('SET', key, text)",
        (LIMITS,), "the state of every key stays for ever",
    ),
    Mutant(
        "clock-set-back-holds", "broker/admit.lua", "  if ahead > 0 then\n", "  if false then\n",
        (LIMITS,), "after the clock was set back by an hour a key waits an hour",
    ),
    Mutant(
        "burst-one-too-many", "broker/admit.lua", "interval * (burst - 1)", "interval * burst",
        (LIMITS,), "one more start at once than was said",
    ),
    Mutant(
        "waiting-keep-their-time", "limits.py",
        "        await self._limiting.hasten(name)\n        return", "        return",
        (LIMITS,), "a limit that is raised helps none of those who wait for it",
    ),
    Mutant(
        "lifted-throttle-keeps-its-time", "limits.py",
        "        await self._limiting.hasten(name)\n        facts", "        facts",
        (LIMITS,), "a throttle that is lifted helps none of those who wait for it",
    ),
    Mutant(
        "slots-not-handed-on", "consuming/settler.py",
        "        if delivery.slots:\n            self.on_settled(delivery)  # They were given back with its outcome.\n",
        "",
        (LIMITS,), "who waits for a slot waits until a worker looks for what is due",
    ),
    Mutant(
        "slots-kept-by-who-ends", "broker/ack.lua",
        "for _, member in ipairs(ended) do let_go(KEYS[4], KEYS[5], member) end\n",
        "",
        (ADMISSION, LIMIT_SLOTS), "a slot is free again only when somebody looks for the dead",
    ),
    Mutant(
        "slots-kept-by-what-is-paused", "broker/admit.lua",
        "    if b > 0 then take_slot(KEYS[b], KEYS[q], KEYS[2], entry.member, name ~= waits_in) end\n",
        "",
        (ADMISSION, LIMITS), "what has to wait keeps the slot that it was handed",
    ),
    Mutant(
        "slots-handed-to-what-is-paused", "broker/slots.inc.lua",
        "if there.paused[level] or (there.serves and not there.serves[level]) then", "if false then",
        (LIMIT_SLOTS,), "a paused level keeps the slots of the others",
    ),
    Mutant(
        "slots-handed-to-another-level", "broker/slots.inc.lua",
        "if there.paused[level] or (there.serves and not there.serves[level]) then", "if there.paused[level] then",
        (LIMIT_SLOTS,), "a worker runs events of levels that it does not serve",
    ),
    Mutant(
        "slots-kept-by-what-is-buried", "broker/dead_letter.lua",
        "    let_go(KEYS[6], KEYS[4], member)\n",
        "",
        (ADMISSION,), "an expired event keeps the slot that it was handed",
    ),
    Mutant(
        "queues-nobody-looks-after", "reclaimer.py",
        "            await self._admitting.look_after_queues(self._slotted, only_release=not sweep.mine)\n", "            pass\n",
        (LIMIT_SLOTS,), "after a crash events wait an hour for a slot that is free",
    ),
    Mutant(
        "slots-of-unknown-levels-are-lost", "broker/slots.inc.lua",
        "  if key_of[level] then return key_of[level] end\n", "  if true then return key_of[level] or key_of[next(key_of)] end\n",
        (LIMIT_SLOTS,), "a deploy that adds a level has two run at once where one may",
    ),
    Mutant(
        "slots-taken-from-the-next-holder", "broker/ack.lua",
        "if not rows[1] or rows[1][2] == ARGV[2] then",
        "if true then",
        (LIMIT_SLOTS,), "a late acknowledgement takes the slot of who runs the entry now",
    ),
    Mutant(
        "slots-of-the-dead-stay", "broker/admit.lua",
        "    drop_lost_slots(KEYS[b], key_of, group, parking, lease_of, now)\n", "",
        (LIMITS,), "a killed worker keeps its slots for ever",
    ),
    Mutant(
        "a-slot-for-everybody", "broker/admit.lua",
        "  return free > 0 and before < free\n", "  return true\n",
        (LIMITS,), "more of a key at once than was said",
    ),
    Mutant(
        "queue-jumped", "broker/admit.lua",
        "  return free > 0 and before < free\n", "  return free > 0\n",
        (LIMITS,), "who comes later starts earlier",
    ),
    Mutant(
        "taken-over-looks-lost", "consuming/fetcher.py",
        "        async with self._taking:  # What is just being taken over is not held yet, and not lost either.\n",
        "        if True:\n",
        (LIMITS,), "an event that was just handed a slot runs twice",
    ),
    Mutant(
        "throttle-forgotten", "broker/admit.lua",
        "    if from - tolerance <= now and state.B <= now then return 0 end\n",
        "    if from - tolerance <= now then return 0 end\n",
        (LIMITS,), "a throttled key is not held back",
    ),
    Mutant(
        "places-lost-by-who-waits", "broker/admit.lua",
        "      if place == 1 or place == 2 then limit.reserved = place end\n",
        "",
        (LIMITS,), "who comes at its reserved time goes behind all others again",
    ),
    Mutant(
        "snooze-burns-an-attempt", "consuming/failing.py",
        'self._settler.postpone(delivery, error.seconds, "snoozed", delivery.record)', "self._fail(run, error)",
        (CONSUMER,), "an event that is snoozed often dies",
    ),
    Mutant(
        "shutdown-burns-an-attempt", "consuming/failing.py",
        '        elif run.why == "shutdown" and isinstance(error, asyncio.CancelledError):\n'
        '            self._settler.postpone(delivery, 0.0, "released")\n',
        "",
        (CONSUMER,), "every deploy costs retries",
    ),
    Mutant(
        "timeout-not-enforced", "consuming/runners.py",
        "if run.deadline <= now and not run.why:", "if False and not run.why:",
        (CONSUMER,), "a handler that hangs keeps its slot",
    ),
    Mutant(
        "late-result-of-an-abandoned-handler", "consuming/runners.py",
        "        return not run.abandoned\n", "        return True\n",
        (EDGES,), "an attempt that was counted as failed acknowledges the retry",
    ),
    Mutant(
        "a-request-to-cancel-stays", "consuming/runners.py",
        "            if task.cancelling():\n                await self._settle_cancellations(task)\n", "",
        (RUNNERS,), "a library that cancels and takes nothing back has the next event of the runner cancelled",
    ),
    Mutant(
        "a-dead-runner-is-not-replaced", "consuming/runners.py",
        "        self._add_runner()\n        self._wake(1)\n", "",
        (RUNNERS,), "a worker loses its slots one by one, and says nothing",
    ),
    Mutant(
        "an-attempt-without-an-outcome", "consuming/runners.py",
        "                self._failing.defect(run.delivery, error)", "                pass",
        (RUNNERS,), "an event whose type cannot be read stays in hand for ever",
    ),
    Mutant(
        "a-policy-that-fails-decides", "consuming/failing.py",
        "            return DEFAULT.after_failure(_UnreadableError(), record)", "            raise",
        (RUNNERS,), "an event whose retry policy raises is not counted as the policy of the default says",
    ),
    Mutant(
        "a-missing-runner-is-not-seen", "consumer.py",
        "if self._runners.missing:", "if False:",
        (RUNNERS,), "a worker without slots is healthy",
    ),
    Mutant(
        "failure-acknowledged", "consuming/failing.py",
        'delay=delay, **facts)\n            self._settler.postpone(delivery, decision.delay, "retried", record.to_json())',
        "delay=delay, **facts)\n            self._settler.done(delivery)",
        (CONSUMER,), "a failed event is lost",
    ),
    Mutant(
        "settled-entries-stay-held", "consuming/settler.py",
        "            del self._held[delivery.place]", "            pass",
        (EDGES,), "a worker's memory grows, and it renews what is gone",
    ),
    Mutant(
        "prefetches", "consuming/fetcher.py",
        "        free = self._runners.free\n        if free <= 0 or", "        free = self._runners.free + 50\n        if free <= 0 or",
        (CONSUMER,), "entries wait in memory although other workers are free",
    ),
    Mutant(
        "expired-events-handled", "consuming/gate.py",
        "bool(expires <= self._desk.clock.now())", "bool(expires <= 0)",
        (CONSUMER,), "a one-time password arrives after its time",
    ),
    Mutant(
        "lost-answer-sent-again", "sharing.py",
        "            place = await attempt(self._stream, [event], self._publishing.add_one(event))\n",
        "            try:\n                place = await self._publishing.add_one(event)\n"
        "            except BrokerUnavailable:\n                place = await self._publishing.add_one(event)\n",
        (FAULTS + "::test_publish_whose_answer_is_lost",), "one publish stores two events",
    ),
    Mutant(
        "surplus-forgotten", "consuming/gate.py",
        "                self._settler.postpone(delivery, 0.0, \"released\")\n                soonest = 0.0\n", "                pass\n",
        (VIRTUAL,), "what is read while a worker stops waits until its lease has run out",
    ),
    Mutant(
        "lost-reads-not-found", "consuming/fetcher.py",
        "            self._check_at = now + self._idling.check_again_in(self._desk.lease / 2)\n"
        "            await self._find_lost_reads()\n",
        "            self._check_at = now + self._idling.check_again_in(self._desk.lease / 2)\n",
        (VIRTUAL, EDGES), "events of a read whose answer was lost stay with a consumer that does not know of them",
    ),
    Mutant(
        "lost-read-left-at-shutdown", "consuming/fetcher.py",
        "        if self._check_at == 0.0:\n", "        if False:\n",
        (EDGES,), "events of a read whose answer was lost wait for their lease after an orderly stop, and count as stalled",
    ),
    Mutant(
        "outcomes-of-an-outage-forgotten", "consuming/settler.py",
        "                    await asyncio.sleep(backoff.next())\n                    continue\n",
        "                    await asyncio.sleep(backoff.next())\n                    break\n",
        (VIRTUAL,), "what was handled during an outage is never acknowledged",
    ),
    Mutant(
        "abandoned-place-not-filled", "consuming/runners.py",
        "            self._settler.postpone(run.delivery, 0.0, \"released\")\n        self._add_runner()\n",
        "            self._settler.postpone(run.delivery, 0.0, \"released\")\n",
        (VIRTUAL, CONSUMER), "each handler that does not end takes a place of the worker away for ever",
    ),
    Mutant(
        "trim-takes-unfinished-work", "broker/finish.inc.lua",
        "if after(id, reader[2]) or #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then",
        "if #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then",
        (GROUPS, FANOUT), "a slow group loses what a fast one has finished",
    ),
    Mutant(
        "trim-takes-what-is-processed", "broker/finish.inc.lua",
        "if after(id, reader[2]) or #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then",
        "if after(id, reader[2]) then",
        (GROUPS, FANOUT), "an event vanishes under the hands of a group that is at it",
    ),
    Mutant(
        "drop-although-in-use", "broker/drop.lua",
        "  if #alive > 0 then return {0, alive} end\n", "",
        (GROUPS,), "a group is taken away from workers that are alive",
    ),
    Mutant(
        "drop-forgets-the-declaration", "broker/drop.lua",
        "redis.call('HDEL', KEYS[1], 'group:' .. group)\n", "",
        (GROUPS,), "events wait for ever for a group that was dropped",
    ),
    Mutant(
        "levels-not-served-are-read", "consumer.py",
        "            options.serve or options.levels,\n", "            options.levels,\n",
        (FANOUT,), "a pod that is kept free for what is urgent does everything",
    ),
    Mutant(
        "dropped-group-comes-back", "consuming/fetcher.py",
        "            except (AccessDenied, WrongServer, GroupMissing):\n", "            except AccessDenied:\n",
        (GROUPS,), "a worker of a dropped group tries for ever to create it",
    ),
    Mutant(
        "pause-of-a-group-ignored", "broker/due.inc.lua",
        "if marks[1] or marks[2] or marks[at]", "if marks[1] or marks[at]",
        (MACHINE,), "a group goes on while it is paused",
    ),
    Mutant(
        "pause-of-one-group-holds-all", "broker/due.inc.lua",
        "key_of.paused, 'group=' .. name", "key_of.paused, 'group=' .. (redis.call('HKEYS', key_of.paused)[1] or '=g'):match('=(%w+)')",
        (MACHINE,), "a pause of one group stops another",
    ),
    Mutant(
        "retries-start-in-a-pause", "broker/due.inc.lua",
        "      paused[#paused + 1] = level\n    elseif froms[i] >= 0 then\n",
        "      paused[#paused + 1] = level\n    end\n    if froms[i] >= 0 then\n",
        (MACHINE,), "what failed before the pause is tried again in the midst of it",
    ),
    Mutant(
        "held-retries-hide-others", "broker/due.inc.lua",
        "line.offset, line.ended = offset + PAGE, #page < 2 * PAGE", "line.offset, line.ended = offset + PAGE, true",
        (PAUSES,), "retries of open levels wait behind those that are paused",
    ),
    Mutant(
        "paused-levels-are-read", "broker/fetch.py",
        "self._open = tuple(level for level in self._levels if level not in paused)", "self._open = self._levels",
        (MACHINE, PAUSES), "new events start in a pause",
    ),
    Mutant(
        "held-retries-forgotten", "broker/fetch.py",
        "        self._open_streams = [self._keys.level(level) for level in self._open]\n        self._due_from = self._from_the_beginning()\n",
        "        self._open_streams = [self._keys.level(level) for level in self._open]\n",
        (MACHINE, PAUSES), "retries that came due in a pause are not tried after it",
    ),
    Mutant(
        "pause-overwritten", "broker/pause.lua",
        "if known then return {0, known} end", "",
        (PAUSES, MACHINE), "who paused first, and why, is lost",
    ),
    Mutant(
        "resume-ends-every-pause", "broker/resume.lua",
        "(#ARGV == 1 or wanted[scope]) and ended or others", "ended",
        (MACHINE, PAUSES), "resuming a level lets the whole stream go",
    ),
    Mutant(
        "cancel-takes-what-runs", "broker/cancel.lua",
        "if #held == 1 and held[1][2] == ARGV[2] then", "if #held == 1 then",
        (CANCEL,), "an event is cancelled in the midst of its handler",
    ),
    Mutant(
        "cancelled-entry-stays", "broker/cancel.lua",
        "delete_finished(KEYS[1], KEYS[5], ARGV[1], ids)\n", "",
        (MACHINE,), "cancelled events fill the server's memory",
    ),
    Mutant(
        "cancelled-entry-stays-pending", "broker/cancel.lua",
        "    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])\n", "",
        (MACHINE,), "a cancelled event stays in the pending list",
    ),
    Mutant(
        "cancelled-record-stays", "broker/cancel.lua",
        "redis.call('HDEL', KEYS[3], unpack(members))\n", "",
        (MACHINE,), "attempt records of cancelled events stay for ever",
    ),
    Mutant(
        "cancel-without-audit", "broker/cancel_scheduled.lua",
        "if #members > 0 then", "if false then",
        (MACHINE, CANCEL), "nobody knows who cancelled an event",
    ),
    Mutant(
        "cancelled-body-stays", "broker/cancel_scheduled.lua",
        "  redis.call('HDEL', KEYS[2], ARGV[i])\n", "",
        (MACHINE,), "bodies of cancelled events stay for ever",
    ),
    Mutant(
        "claim-taken-from-another-event", "broker/claim.lua",
        "elseif held and not (held_entry == entry and tonumber(held_count) <= count) then", "elseif false then",
        (DEDUPE,), "two events with one id run at once",
    ),
    Mutant(
        "late-success-marks-a-claim-of-another", "broker/claim_done.lua",
        "if held and held ~= mine then", "if held == 'handled' then",
        (DEDUPE,), "what a stalled attempt does late ends the claim of the one that runs",
    ),
    Mutant(
        "late-failure-frees-a-claim-of-another", "broker/claim_release.lua",
        "if redis.call('GET', key) == 'claimed ' .. ARGV[2 * i] .. ' ' .. ARGV[2 * i - 1] then", "if true then",
        (DEDUPE,), "what a stalled attempt does late lets a duplicate run",
    ),
    Mutant(
        "failed-event-keeps-its-claim", "middleware/dedupe.py",
        "            claims.release(_claim(attempt))", "            pass",
        (DEDUPE,), "a duplicate of a failed event waits until the claim ends by itself",
    ),
    Mutant(
        "skipped-event-counts-as-handled", "middleware/dedupe.py",
        "        if attempt.skipped:\n", "        if False:\n",
        (DEDUPE,), "an event that a middleware left out is never handled",
    ),
    Mutant(
        "body-of-another-type-passes", "typed.py",
        "if not isinstance(data, self._kind):", "if False:",
        (TYPED,), "a handler is given what it does not take",
    ),
    Mutant(
        "values-in-validation-errors", "typed.py",
        'if row["type"] not in self._known:', "if False:",
        (TYPED,), "bodies are quoted in dead letters and logs",
    ),
    Mutant(
        "upcast-result-not-validated", "typed.py",
        "        return self._checked(self._adapter.validate_json, text, data)", "        return data",
        (UPCASTERS,), "a typed handler is given what the upcasters left",
    ),
    Mutant(
        "one-upcaster-only", "upcasters.py",
        "        changed = True", "        return True",
        (UPCASTERS,), "events that are two versions old are given to handlers half way",
    ),
    Mutant(
        "upcast-keeps-the-old-version", "upcasters.py",
        'event.meta["version"] = version = to_version', "version = to_version",
        (UPCASTERS,), "a handler sees new data under the old version",
    ),
    Mutant(
        "upcaster-that-forgets-to-return", "upcasters.py",
        "if event.data is None and before is not None:", "if False:",
        (UPCASTERS,), "an event without a body is handled",
    ),
    Mutant(
        "order-by-nobody", "broker/lanes.inc.lua",
        "    if head and head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then\n", "    if false then\n",
        (LANES,), "two events of a key run at once",
    ),
    Mutant(
        "replay-behind-its-key", "broker/lanes.inc.lua",
        "head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then", "head ~= member then",
        (LANES,), "a key that is held waits for ever, replayed or not",
    ),
    Mutant(
        "followed-although-pending", "broker/follow.lua",
        "    if #redis.call('XPENDING', key, group, id, id, 1) > 0 then\n", "    if false then\n",
        (LANES,), "an entry whose acknowledgement came late runs beside the next of its key",
    ),
    Mutant(
        "follow-not-said-again", "broker/settle.py",
        "        if unsettled and following is not None and refused is None:\n", "        if False:\n",
        (LANES,), "a key stops when the server had forgotten a script",
    ),
    Mutant(
        "dead-heads-forgotten", "broker/settle.py",
        "        dead = [letter.delivery for letter in buried]\n", "        dead = []\n",
        (LANES,), "a key whose event died waits for a sweep",
    ),
    Mutant(
        "one-tenant-for-all", "broker/fetch_lanes.lua",
        "key_text(values, fair_by) or '', event)", "'', event)",
        (LANES,), "whoever has the longest backlog has all the starts",
    ),
    Mutant(
        "weights-ignored", "broker/fetch_lanes.lua",
        "turn.time = turn.time + 1 / weight_of(turn.fair)", "turn.time = turn.time + 1",
        (LANES,), "a tenant gets no more than others, whatever its weight",
    ),
    Mutant(
        "turns-for-nothing", "broker/fetch_lanes.lua",
        "else redis.call('ZADD', ring_key, turn.time, fair) end", "else redis.call('ZADD', ring_key, 0, fair) end",
        (LANES,), "the tenant whose name sorts first has all the starts",
    ),
    Mutant(
        "busy-workers-do-not-line-up", "consuming/lane_fetcher.py",
        "                await self._by_key.take(0)\n                while", "                while",
        (LANES,), "who comes new while every handler is busy stands behind the backlog",
    ),
    Mutant(
        "retries-first", "broker/due.inc.lua",
        "math.floor((most + who.turn) / 2)", "most",
        (TURNS_OF_RETRIES,), "failing events take all the starts, and nothing new is ever tried",
    ),
    Mutant(
        "new-events-first", "broker/due.inc.lua",
        "math.floor((most + who.turn) / 2)", "0",
        (TURNS_OF_RETRIES,), "a retry does not start as long as something new comes",
    ),
    Mutant(
        "no-alternation", "broker/due.inc.lua",
        "if most % 2 == 1 then who.turn = 1 - who.turn end\n", "",
        (TURNS_OF_RETRIES,), "on a single slot one kind takes all the starts",
    ),
    Mutant(
        "retries-by-time-only", "broker/fetch_due.lua",
        "  for _, level in ipairs(level_at) do take_due(level, limit - #taken, who, admits) end\n",
        "  for i = #level_at, 1, -1 do take_due(level_at[i], limit - #taken, who, admits) end\n",
        (TURNS_OF_RETRIES,), "retries of the highest level wait behind a backlog of lower ones",
    ),
    Mutant(
        "overdue-retries-wait", "broker/fetch_due.lua",
        "if line.rows[n].at <= latest then", "if false then",
        (TURNS_OF_RETRIES,), "a retry of a low level waits as long as there is something above it",
    ),
    Mutant(
        "due-retries-wait-for-the-next-look", "consuming/fetcher.py",
        "        if reply.more:\n            self._due_at = 0.0", "        if False:\n            self._due_at = 0.0",
        (TURNS_OF_RETRIES,), "retries get fewer starts than new events of their level",
    ),
    Mutant(
        "quiet-tenants-stay", "broker/fetch_lanes.lua",
        "  if next(touched) and redis.call('EXISTS', lane_key) == 0 then\n", "  if false then\n",
        (LANES,), "after many tenants the next event of any waits",
    ),
    Mutant(
        "looks-without-end-are-cut-in-silence", "broker/fetch_lanes.lua",
        "        more, is_cut = 1, true\n", "        is_cut = true\n",
        (LANES,), "behind a thousand quiet tenants an event waits half a second for each thousand",
    ),
    Mutant(
        "the-order-before-is-forgotten", "broker/lanes.py",
        "        self.orders = tuple(dict.fromkeys(order for order in (self.lanes.order_by, *orders) if order))\n", "",
        (DECLARATIONS,), "after order_by was changed each key goes on once per sweep",
    ),
    Mutant(
        "ranks-of-whoever-reads", "broker/lanes.inc.lua",
        "local list = redis.call('HGET', rules_key, 'levels')\n", "local list = table.concat(level_at, ',')\n",
        (DECLARATIONS,), "after a level was added what is lined up is looked for on the wrong one",
    ),
    Mutant(
        "unlisted-ranks-believed", "broker/lanes.inc.lua",
        "  if rank and not ranked().agreed then level = meant(rank, id, order) end\n", "",
        (DECLARATIONS,), "what a version before has lined up is looked for on the wrong level",
    ),
    Mutant(
        "keys-without-head-stay", "broker/mend_lanes.lua",
        "  if order and redis.call('HEXISTS', heads_key, order) == 0 then followed = followed + follow(order) end\n", "",
        (DECLARATIONS,), "what a worker did not know the level of is left for ever",
    ),
    Mutant(
        "rows-of-another-fair-key-are-lost-rows", "broker/mend_lanes.lua",
        "local known_ways = ways()\n", "local known_ways = {}\n",
        (DECLARATIONS,), "an event has two rows, and runs twice",
    ),
    Mutant(
        "nobody-is-woken", "consuming/settler.py",
        "                if settlement.ready:\n                    self.on_ready()\n", "",
        (LANES,), "each event of a key waits for the next poll",
    ),
    Mutant(
        "lanes-outlive-their-declaration", "broker/fetch.py",
        "        await self._dissolve()\n        return back\n", "        return back\n",
        (LANES,), "what was lined up is stuck once order_by is taken away",
    ),
    Mutant(
        "ended-heads-stay", "broker/mend_lanes.lua",
        "  if key and not row then\n", "  if false then\n",
        (LANES,), "a key whose first event was cancelled stops for ever",
    ),
    Mutant(
        "held-for-nothing", "broker/admit.lua",
        "    local stored = redis.call('HGET', KEYS[3], scope)\n",
        "    local stored = redis.call('HGET', KEYS[3], scope) or '{}'\n",
        (ATTRIBUTES,), "an event that is put aside just as the pause ends waits for an hour",
    ),
    Mutant(
        "resume-brings-nothing-back", "pauses.py",
        "                await self._store.bring_back(group, scopes)\n", "                pass\n",
        (ATTRIBUTES,), "what a pause put aside comes back an hour after its end",
    ),
    Mutant(
        "everybody-probes", "broker/admit.lua",
        "      if pause.scout ~= entry.member and type(pause.scout) == 'string' and pending_row(key_of, group, pause.scout) then\n",
        "      if false then\n",
        (ADMISSION,), "a service that is down is asked by every event that waits for it",
    ),
    Mutant(
        "breaker-burns-attempts", "middleware/breaker.py",
        "        if state == IS_OPEN or (state == OPENED and unavailable):\n", "        if False:\n",
        (ATTRIBUTES,), "events die while the breaker is open",
    ),
    Mutant(
        "breaker-tells-nobody", "middleware/breaker.py",
        "            self._opened[place, key] = now + _NEWS\n", "            pass\n",
        (ATTRIBUTES,), "for half a second after it opened everything of the key still starts",
    ),
    Mutant(
        "breaker-ends-any-pause", "broker/admit.lua",
        "type(pause) == 'table' and type(pause.probe) == 'number' and type(pause.every) == 'number') then",
        "type(pause) == 'table') then pause = {} end\n      pause.probe, pause.every = pause.probe or 0, pause.every or 0\n      if false then",
        (ATTRIBUTES,), "an operator's pause lets events through",
    ),
    Mutant(
        "waits-for-the-dead", "broker/connection.py",
        "            is_open |= link.leave(stay)\n", "            is_open |= link.leave(lambda *_: True)\n",
        (PLANNED,), "after a failover a read goes on waiting for the primary that was",
    ),
    Mutant(
        "replica-taken-for-primary", "broker/following.py",
        "leave(partial(_is, self._primary) if self._primary is not None else _any)", "leave(_any)",
        (PLANNED,), "publishers and readers stay with a primary that was replaced",
    ),
    Mutant(
        "believes-the-first", "broker/following.py",
        "named[0][1] > len(self.places) // 2", "named[0][1] > 0",
        (PLANNED,), "one Sentinel that is cut off brings everybody back to the old primary",
    ),
    Mutant(
        "asks-without-asking", "broker/cluster.py",
        "            lines += (_ASKING, commands[i]) if once else (commands[i],)\n", "            lines += (commands[i],)\n",
        (SLOTS,), "a publish is refused, or goes in circles, while its slot moves",
    ),
    Mutant(
        "tries-once", "broker/cluster.py",
        "if isinstance(replies[i], (Redirected, TryAgain))]", "if isinstance(replies[i], Redirected)]",
        (SLOTS,), "whoever publishes is told of a slot that is half way",
    ),
    Mutant(
        "leaves-in-anger", "balance.py",
        "            crew.stop(_FOREVER)\n", "            crew.stop(0.0)\n",
        (PARTITIONS,), "a partition that goes to another worker cancels what runs",
    ),
    Mutant(
        "any-partition", "spread.py",
        "        return None if value is None else partition_of(value, len(self._places))\n", "        return None\n",
        (PARTITIONS,), "events of a key are on several partitions, and out of order",
    ),
    Mutant(
        "reads-before-it-looks-back", "consuming/fetcher.py",
        "                if self._is_unknown and self.on_return is not None:\n",
        "                if self.on_return is None:\n",
        (LOSSES,), "a group that fell back reads on, and nobody learns what is done twice",
    ),
    Mutant(
        "only-the-tail-is-missed", "broker/watermarks.py",
        "        if missing > 0 or entry_order(self.last) > entry_order(now.last):\n", "        if entry_order(self.last) > entry_order(now.last):\n",
        (LOSSES,), "events that are lost before others that are there are not missed",
    ),
    Mutant(
        "trusts-every-server", "doctor/servers.py",
        "    return drops and info.get(\"aof_enabled\") == \"1\"\n", "    return False\n",
        ("tests/unit/test_doctor.py",), "a server that loses data at its next restart looks healthy",
    ),
    Mutant(
        "ids-of-any-length", "broker/members.inc.lua",
        "  return #digits < #MOST_IN_64_BITS or", "  return true or",
        (UNREADABLE,), "a row with an id that is too large stops a whole group",
    ),
    Mutant(
        "trusts-what-is-packed", "broker/promote.lua",
        "packed and read_packed(packed)", "packed and cmsgpack.unpack(packed)",
        (UNREADABLE,), "one scheduled event that cannot be unpacked stops all others",
    ),
    Mutant(
        "a-head-is-a-head", "broker/mend_lanes.lua",
        "  if not level and not is_held(page[2][i + 1]) then\n", "  if false then\n",
        (UNREADABLE,), "a key whose head was overwritten stands still for ever",
    ),
    Mutant(
        "reads-every-row-behind", "broker/lanes.inc.lua",
        "      if id then return row, level, id, fair, rank end\n    end\n    if #rows < few",
        "      return row, level, id, fair, rank\n    end\n    if #rows < few",
        (UNREADABLE,), "a row that says nothing holds up all that is behind it",
    ),
    Mutant(
        "old-work-is-orphaned", "broker/stray_orphans.lua",
        "and born >= since and", "and",
        (UNREADABLE,), "a repair gives a group events that it never was to have",
    ),
    Mutant(
        "throttled-by-the-old-clock", "broker/admit.lua",
        "    if is_same then state.B = math.max(0, state.B - ahead) end", "    if false then state.B = 0 end",
        (UNREADABLE,), "a throttle of seconds holds its key for as long as the clock was set back",
    ),
    Mutant(
        "a-refusal-is-a-loss", "broker/renew.lua",
        "  if not ok and not is_gone(said(held)) then", "  if false then",
        (REFUSALS,), "a refusal of the server cancels handlers whose leases hold",
    ),
    Mutant(
        "no-grace-after-a-refusal", "reclaimer.py",
        "            except OUTAGE as error:\n", "            except BrokerUnavailable as error:\n",
        (REFUSALS,), "after a proxy refused for longer than a lease, healthy events run twice",
    ),
    # --- two features together
    Mutant(
        "slots-kept-by-what-is-put-back", "broker/postpone.lua",
        "      if admitted then put_off(KEYS[5], KEYS[2], member) end\n",
        "",
        (ADMISSION,), "what waits for its retry keeps its slot",
    ),
    Mutant(
        "slots-kept-by-a-lost-read", "broker/hand_back.lua",
        "    put_off(KEYS[3], KEYS[2], ARGV[4] .. '|' .. row[1])\n",
        "",
        (ADMISSION,), "an entry that is handed back keeps the slot that it was handed",
    ),
    Mutant(
        "slots-of-what-was-erased", "broker/renew.lua",
        "    let_go(KEYS[#KEYS], KEYS[#KEYS - 1], member)\n",
        "",
        (ADMISSION,), "the slot of an event that was erased while it ran is gone until somebody asks",
    ),
    Mutant(
        "slots-of-what-is-lined-up", "broker/slots.inc.lua",
        "    if held and held[2] == '-waiting-' then held = nil end\n", "",
        (FINDINGS,), "after a deploy that declares an order, a slot stays with who may not start",
    ),
    Mutant(
        "slots-for-ever", "broker/admit.lua",
        "      redis.call('PEXPIRE', KEYS[b], KEPT)\n", "",
        (FINDINGS,), "rows of erased events and of limits that are gone stay for ever",
    ),
    Mutant(
        "slots-handed-on-for-ever", "broker/slots.inc.lua",
        "          redis.call('PEXPIRE', busy_key, KEPT)\n", "",
        (FINDINGS,), "the same of a slot that was handed on",
    ),
    Mutant(
        "slots-kept-by-what-is-cancelled", "broker/cancel.lua",
        "for _, member in ipairs(members) do let_go(KEYS[#KEYS], KEYS[2], member) end\n",
        "",
        (ADMISSION,), "who is cancelled keeps its slot and its place",
    ),
    Mutant(
        "places-of-what-ended", "broker/slots.inc.lua",
        "        redis.call('ZREM', queue_key, member)\n        let_go(admissions_key, retry_key, member)\n", "",
        (FINDINGS,), "who was cancelled stands first in a queue for ever",
    ),
    Mutant(
        "slots-handed-on-in-a-pause", "broker/hand_over.lua",
        "if all then return {} end\n", "",
        (FINDINGS,), "what waits for a slot starts although its whole group is paused",
    ),
    Mutant(
        "two-orders-wait-for-each-other", "broker/fetch_lanes.lua",
        "  if is_lined_up(head) and key_headed(values, member) then return true end\n", "",
        (FINDINGS,), "while a deploy changes the order, events wait for each other for ever",
    ),
    Mutant(
        "held-keys-locked-away", "ordered_keys.py",
        """ and not any(way.partition("|")[0] for way in rules.get("ways", "").split(";"))""", "",
        (FINDINGS,), "keys that were held when the order was taken away wait for ever",
    ),
    Mutant(
        "queues-of-a-dropped-group", "broker/groups.py",
        "            await self._forget_queues(group)\n", "",
        (FINDINGS,), "who waited for slots in a group that was given up stays for ever",
    ),
    Mutant(
        "probes-in-a-pause", "consuming/gate.py",
        "        return sorted(found, key=lambda scope: bool(parse_scope(scope)[0]))\n", "        return found[:1]\n",
        (FINDINGS,), "the probe of a breaker starts although somebody paused its key",
    ),
    Mutant(
        "heads-that-were-erased", "broker/mend_lanes.lua",
        "    redis.call('XACK', key, group, id)\n    row = nil\n", "",
        (FINDINGS,), "a key whose first event was erased while it waited for a slot stands still for an hour",
    ),
    Mutant(
        "records-of-the-erased", "broker/renew.lua",
        "    redis.pcall('HDEL', KEYS[#KEYS - 2], member)\n", "",
        (FINDINGS,), "attempt records of erased events stay for ever",
    ),
    Mutant(
        "records-of-erased-retries", "broker/fetch_lanes.lua",
        "      redis.call('HDEL', attempts_key, level .. '|' .. id)\n      vanished", "      vanished",
        (FINDINGS,), "the same of retries that were lined up",
    ),
    Mutant(
        "records-of-what-is-done", "broker/ack.lua",
        "  redis.pcall('HDEL', KEYS[2], unpack(ids))\n", "",
        (COMPOSITION,), "attempt records of events that succeeded at last stay for ever",
    ),
    Mutant(
        "fields-of-what-was-cancelled", "broker/cancel_scheduled.lua",
        "  redis.call('HDEL', KEYS[2], ARGV[i])\n", "",
        (COMPOSITION,), "the bodies of delayed events that were cancelled stay for ever",
    ),
    Mutant(
        "reason-of-another-order", "broker/waits.py",
        "    orders = scene.orders if _is_lined_up(found) else (scene.order_by,)\n", "    orders = (scene.order_by,)\n",
        (FINDINGS,), "why says of what an order of before holds that it starts at any moment",
    ),
    Mutant(
        "reason-forgotten-pause", "reasons.py",
        "    *(_put_aside, _paused, _slot,", "    *(_put_aside, _slot,",
        (COMPOSITION,), "why says nothing of a pause",
    ),
    Mutant(
        "reason-forgotten-slot", "reasons.py",
        "    *(_put_aside, _paused, _slot,", "    *(_put_aside, _paused,",
        (COMPOSITION,), "why says nothing of the slots of a limit",
    ),
    Mutant(
        "reason-forgotten-key", "reasons.py",
        "    *(_key_held, _key_busy),\n", "    *(_key_held,),\n",
        (COMPOSITION,), "why says nothing of the event that another one of its key waits for",
    ),
    Mutant(
        "sweeps-by-its-own-lease", "broker/sweep.lua",
        "local silence = lease_of(name)\n", "local silence = lease\n",
        (LEASES,), "a deployment with a shorter lease takes their events from healthy workers",
    ),
    Mutant(
        "slots-by-the-askers-lease", "broker/slots.inc.lua",
        "held[3] < lease_of(held[2])\n", "held[3] < lease_of('')\n",
        (LEASES,), "more of a key run at once than its limit allows, while a deployment shortens the lease",
    ),
    Mutant(
        "unknown-is-short", "broker/leases.inc.lua",
        "longest = math.max(own, UNKNOWN)\n", "longest = own\n",
        (LEASES,), "a worker whose lease is not known loses what it runs",
    ),
    Mutant(
        "announces-once", "consuming/fetcher.py",
        "            await self._fetching.announce()  # For its row may have been lost with others.\n", "",
        (LEASES,), "what a worker with a short lease held comes back late, once its row was lost",
    ),
    Mutant(
        "leases-stay", "broker/sweep.lua",
        "    redis.call('HDEL', KEYS[4], rows[i])\n", "",
        (LEASES,), "each killed worker leaves its lease behind for ever",
    ),
    Mutant(
        "stands-still-in-silence", "consuming/leases.py",
        "        if seconds < _STILL or not self._desk.held:\n", "        if True:\n",
        (LEASES,), "a handler that keeps the GIL loses its lease, and nothing says why",
    ),
    Mutant(
        "children-keep-the-handlers", "service.py",
        "            with children_without(numbers), hearing():\n", "            with hearing():\n",
        (WORKERS + "::test_a_child_that_a_handler_forks_ends_when_it_is_told_to",), "Process.terminate() takes 25 s",
    ),
    Mutant(
        "children-miss-early-signals", "forks.py",
        "        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours)\n", "        pass\n",
        (WORKERS + "::test_a_child_that_a_handler_forks_ends_when_it_is_told_to",), "Process.terminate() now and then does nothing",
    ),
    Mutant(
        "only-the-sweeper-releases", "reclaimer.py",
        "        if sweep.mine or self._slotted is not None:\n", "        if sweep.mine:\n",
        (RELEASED,), "while an old worker sweeps, what waits for its limits goes on one event per sweep",
    ),
    Mutant(
        "queues-of-before-stay", "broker/redeclare.py",
        "if name.partition(\"=\")[0] in changed:\n", "if False:\n",
        (CHANGED_LIMITS,), "after a limit was changed, what waits for a slot goes on one event per sweep, or in an hour",
    ),
    Mutant(
        "places-of-before-stay", "broker/redeclare.py",
        "not changed.isdisjoint(admission.limits)", "False",
        (CHANGED_LIMITS,), "after a rate was raised, what waits goes on at the old one",
    ),
    Mutant(
        "queues-of-others-stay", "broker/admit.py",
        "known is not None and name.partition(\"=\")[0] not in known]", "False]",
        (CHANGED_LIMITS,), "what old workers put into a queue stays there when they are gone",
    ),
    Mutant(
        "rests-from-now-on", "broker/fetch.py",
        "found[key] = mine[0][b\"last-delivered-id\"]", "found[key] = b\"$\"",
        (MANY,), "an event that comes just before an idle group waits with the others is not heard",
    ),
    Mutant(
        "retries-of-who-rests-unseen", "broker/lookout.py",
        "            if counts[2 * at : 2 * at + 2] != _expected(part):\n", "            if not part:\n",
        (MANY,), "retries and pauses reach an idle group among many a minute late",
    ),
    Mutant(
        "one-odd-stream-deafens-all", "broker/ears.py",
        "            await self._find_odd(link, whose)\n            return\n", "            return\n",
        (MANY,), "the groups that share a read with a broken stream hear of nothing",
    ),
    Mutant(
        "works-without-connections", "consuming/idle.py",
        "            self._is_resting = False\n            self._fetching.rise()\n", "            self._is_resting = False\n",
        (MANY,), "a busy group of many shares its connection with the sweeps of all others",
    ),
    Mutant(
        "all-start-at-once", "consuming/fetcher.py",
        "        async with self._idling.starting:\n            if not self._stopping:\n                await call()\n", "        await call()\n",
        (MANY,), "where the server is slow, hundreds of groups wait for each other's answers until their time is over",
    ),
    Mutant(
        "lookout-never-back", "broker/lookout.py",
        "                    self._here.set()\n                    self.heard_at", "                    self.heard_at",
        (MANY,), "after an outage the groups of a large process do nothing any more",
    ),
    Mutant(
        "lease-thread-looks-at-nobody", "consuming/lease_thread.py",
        "                    keeper.look(now)\n", "                    pass\n",
        (MANY,), "no lease is renewed",
    ),
    Mutant(
        "blames-who-never-ran", "consuming/runners.py",
        "            if not self.busy:\n                self._at_work.clear()\n                await self._at_work.wait()\n                last = self._at_work_since\n", "",
        (MANY,), "a warning names handlers that have not run when the event loop was blocked",
    ),
    Mutant(
        "row-for-each-step-of-a-replay", "broker/deed.inc.lua",
        "  if id ~= '' then redis.call('XDEL', key, id) end\n", "",
        ("tests/server/test_mending.py",), "a long replay pushes everything else out of the audit record",
    ),
    Mutant(
        "log-out-ends-nothing", "dashboard/sessions.py",
        "            await EndedSessions(self._pipeline.broker).end(session.id, session.left)\n", "",
        (SESSIONS,), "a cookie that was taken goes on after its owner logged out",
    ),
    Mutant(
        "cookie-of-the-old-password", "dashboard/sessions.py",
        'f"{kind} {body} {self._password_of(name)}"', 'f"{kind} {body}"',
        (SESSIONS,), "a session goes on after the password was changed",
    ),
    Mutant(
        "known-browsers-wait-with-strangers", "dashboard/login.py",
        "        if browser:\n", "        if browser == name:\n",
        (SESSIONS,), "strangers who guess keep out whoever works there",
    ),
    Mutant(
        "believes-what-is-there-twice", "dashboard/guard.py",
        "        if plain in seen:\n", "        if plain in ():\n",
        (SESSIONS,), "a browser says who it is, behind a proxy that appends",
    ),
    Mutant(
        "parts-of-made-up-groups", "dashboard/pages.py",
        "        if group and group not in groups:\n", "        if group == '?':\n",
        ("tests/dashboard/test_slow_clients.py",), "a viewer makes the dashboard ask for hundreds of parts",
    ),
    Mutant(
        "half-a-request-for-ever", "cli/bounded.py",
        "        self._drop(f\"the {self._part} of a request did not come in time\")\n", "",
        ("tests/dashboard/test_slow_clients.py",), "half requests hold their connections for ever",
    ),
    Mutant(
        "token-of-all-streams", "dashboard/api.py",
        "    if not token.reaches(stream):\n", "    if not token.reaches(stream or 'x') and not stream:\n",
        ("tests/dashboard/test_routes.py",), "a token for one stream publishes onto all",
    ),
    Mutant(
        "moment-without-zone", "spans.py",
        "return None if now is None or value.tzinfo is None else", "return None if now is None else",
        ("tests/unit/test_wrong_arguments.py",), "a datetime without a zone delays an event by the offset of whatever machine publishes it",
    ),
    Mutant(
        "annotations-hold-nobody", "annotated.py",
        "        if name in hints and not _fits(value, hints[name]):", "        if False:",
        ("tests/server/test_wrong_arguments.py",), "a wrong argument of what operators use is a TypeError from somewhere inside",
    ),
    Mutant(
        "foreign-level-unseen", "broker/undeclared.py",
        "if not isinstance(answer, int) or answer <= 0:", "if not isinstance(answer, int) or answer <= 3:",
        ("tests/server/test_status.py",), "what another program adds on a level of its own is shown by no command",
    ),
    Mutant(
        "dead-among-the-living", "queries.py",
        'state: Literal["alive", "silent"] = "alive" if silent < HEARD else "silent"', 'state: Literal["alive", "silent"] = "alive"',
        ("tests/server/test_mending.py",), "workers that crashed are listed as if they worked",
    ),
    Mutant(
        "numbers-cut", "cli/columns.py",
        "loose := [name for name in kept if name in names and sizes[name] > names[name]]", "loose := [name for name in kept if sizes[name] > 4]",
        ("tests/unit/test_cli_columns.py",), "the count of dead letters cannot be read in 80 columns",
    ),
    Mutant(
        "ascii-crashes", "cli/encoding.py",
        "                stream.reconfigure(errors=_HANDLER)", "                pass",
        ("tests/server/test_cli_manners.py",), "a terminal without UTF-8 gets a traceback instead of a list",
    ),
    Mutant(
        "forked-child-goes-on", "consuming/runners.py",
        "        if not self._origin.is_here:\n            end_copy()\n", "",
        ("tests/server/test_forks.py",), "a child that a handler forks goes on as a second worker over the same connections",
    ),
    Mutant(
        "lane-is-not-told", "broker/fetch_lanes.lua",
        "      if places[i] >= 0 and ready == 0 then ready = redis.call('EXISTS', lane_key) end\n", "",
        (MANY,), "a key that an operator lets go stands still in a large process for a minute",
    ),
    Mutant(
        "gone-rows-become-heads", "broker/lanes.inc.lua",
        "    if is_stored(level, id) then\n", "    if true then\n",
        ("tests/server/test_lanes.py",), "each entry that was deleted by hand behind a head holds its key up for a sweep",
    ),
    Mutant(
        "buried-beside-a-killer", "retry.py",
        "if record.attempts > allowed and was_alone:", "if record.attempts > allowed:",
        (RETRY, VIRTUAL_COMPOSITION), "an event without retries that only stood beside a killer is buried",
    ),
    Mutant(
        "replay-of-others-is-lined-up", "broker/lanes.inc.lua",
        "fields[i + 1] ~= '' and fields[i + 1] ~= group then", "false then",
        (FINDINGS,), "a replay for one group ends the hold of a key in another",
    ),
    Mutant(
        "why-lines-up-replays-of-others", "broker/waits.py",
        'not in ("", scene.group)', 'in ("\\0",)',
        (FINDINGS,), "why names a key behind which the replay of another group does not wait",
    ),
    Mutant(
        "copy-behind-its-own-hold", "reasons.py",
        "or case.wait.member) and not case.found.deliveries:", "or case.wait.member):",
        (FINDINGS,), "an event that was published twice waits for the hold of its first copy, and for no reason",
    ),
    Mutant(
        "suspect-handed-out-of-a-lane", "broker/fetch_lanes.lua",
        "      set_due(key, level, id)\n", "      taken[#taken + 1], count = {level, id, 2, record, fields_of[id]}, count + 1\n",
        (SUSPECTS,), "a suspect that is lined up may stall among others, and is buried",
    ),
    Mutant(
        "reserved-for-ever", "reasons.py",
        "if case.scene.now - since_when(case.found) > case.patience:", "if False:",
        (STUCK,), "an event has a slot, and nobody says that no worker comes for it",
    ),
    Mutant(
        "first-of-a-queue-for-ever", "reasons.py",
        "    if now - looked <= HEARD:", "    if True:",
        (STUCK,), "nobody says that no sweep hands a free slot over",
    ),
    Mutant(
        "no-second-look", "why.py",
        'if all(reason.state != "none" for reason in reasons):', "if True:",
        (STUCK,), "an event that starts at that moment is told as a defect",
    ),
    Mutant(
        "doctor-sees-one-retry", "broker/oldest.py",
        'before_ms, "LIMIT", 0, _MOST)', 'before_ms, "LIMIT", 0, 1)',
        (STUCK,), "a due retry that nobody fetches is hidden by one that is paused",
    ),
    Mutant(
        "doctor-sees-no-queue", "broker/oldest.py",
        "found += await self._first_in_queues(", "await self._first_in_queues(",
        (STUCK,), "the doctor does not find a queue that nobody hands its free slot",
    ),
    Mutant(
        "retries-looked-for-once", "consuming/fetcher.py",
        "        self._due_at = time.monotonic() + POLL\n        if reply.next_due", "        self._due_at = time.monotonic() + 60\n        if reply.next_due",
        (VIRTUAL_COMPOSITION,), "a retry that another worker set waits for a minute",
    ),
    Mutant(
        "resumed-level-is-not-read", "consuming/fetcher.py",
        "        self._fetching.hold(paused)\n", "        self._fetching.hold(before | paused)\n",
        (VIRTUAL_COMPOSITION, PAUSES), "a level that was paused and resumed is not read any more",
    ),
    Mutant(
        "turn-not-passed-on", "broker/admissions.inc.lua",
        " and not was_first then return end",
        " then return end",
        (LIMIT_SLOTS,), "behind an event that expired in the queue others wait for an hour",
    ),
    Mutant(
        "slots-of-the-vanished", "broker/due.inc.lua",
        "    redis.call('HDEL', attempts_key, member)\n    let_go(admissions_key, retry_key, member)\n    due.vanished",
        "    redis.call('HDEL', attempts_key, member)\n    due.vanished",
        (ADMISSION,), "an event that was erased while it waited keeps the slot that it was handed",
    ),
    Mutant(
        "slots-of-the-swept", "broker/sweep.lua",
        "  let_go(KEYS[6], KEYS[2], level .. '|' .. id)\n",
        "",
        (ADMISSION,), "an event that was erased while its worker died keeps its slot",
    ),
    Mutant(
        "slots-of-limits-that-are-gone", "broker/admit.lua",
        "  leave_others(entry, kept)\n",
        "",
        (ADMISSION,), "after a deploy an event keeps a slot of a limit that its handler has no more",
    ),
    Mutant(
        "slots-of-the-repaired", "broker/stray_pending.lua",
        "    let_go(KEYS[5], KEYS[2], ARGV[3] .. '|' .. id)\n",
        "",
        (ADMISSION,), "what the doctor ends keeps its slot",
    ),
    Mutant(
        "slots-without-a-row", "broker/slots.inc.lua",
        "          note_slot(admissions_key, member, name)\n",
        "",
        (ADMISSION,), "a slot that is handed to what an older version lined up is given back by nobody",
    ),
    Mutant(
        "rows-of-older-versions-stay", "broker/tend_admissions.lua",
        "    let_go(KEYS[1], KEYS[2], member)\n",
        "",
        (ADMISSION,), "rows of what an older version ended stay for a month",
    ),
    Mutant(
        "pauses-ended-by-older-versions", "broker/tend_admissions.lua",
        "redis.call('HEXISTS', KEYS[3], row.by) == 0",
        "false",
        (ADMISSION,), "what waits for a pause that an older version ended comes back in an hour",
    ),
    Mutant(
        "places-lost-by-who-is-put-back", "broker/admissions.inc.lua",
        "  if row.kind == 'start' then redis.call('HDEL', admissions_key, member) end\n",
        "  redis.call('HDEL', admissions_key, member)\n",
        (ADMISSION,), "who comes at its reserved time and finds no handler free goes behind all others again",
    ),
    Mutant(
        "records-of-older-versions-unread", "broker/holding.py",
        "if any(mark in record for mark in _OLD))",
        "if False)",
        (ADMISSION,), "what an older version put aside for a pause waits on for an hour",
    ),
    Mutant(
        "places-of-older-versions-unread", "broker/admit.py",
        "if _OLD in delivery.record else {}",
        "if False else {}",
        (ADMISSION,), "what an older version put aside for a rate goes behind all others",
    ),
    Mutant(
        "expiry-not-asked", "consuming/gate.py",
        "decided.append((delivery, EXPIRED if self._is_over(delivery) else START))",
        "decided.append((delivery, START))",
        (CONSUMER,), "expired events are handled",
    ),
    Mutant(
        "expiry-beside-a-limit", "consuming/gate.py",
        "is_late = answer.kind is Kind.START and self._is_over(ask.delivery)",
        "is_late = False",
        (ADMISSION,), "an expired event that a pause covered starts when that is over",
    ),
    Mutant(
        "reason-forgotten-rate", "reasons.py",
        "_throttled, _rate, _not_due)",
        "_throttled, _not_due)",
        (WHY,), "why says of what waits for a rate that somebody snoozed it",
    ),
    Mutant(
        "reason-of-another-delivery", "admission.py",
        "deliveries is not None and said.get(\"count\", deliveries) != deliveries",
        "False",
        (ADMISSION,), "why says of a retry of an older version that it waits for a limit",
    ),
    Mutant(
        "rows-outlive-what-they-are-of", "broker/dissolve.lua",
        "  redis.call('UNLINK', KEYS[at + 1], KEYS[at + 2])\n", "",
        ("tests/server/test_declarations.py",), "a worker takes an entry from the hands of another one when order or fairness is turned off",
    ),
    Mutant(
        "too-late-is-left-behind", "broker/fetch.py",
        "                    if await self.hand_back_unknown(held):\n", "                    if False:\n",
        ("tests/server/test_declarations.py",), "an event that a stopping worker was handed waits for its lease and counts as stalled",
    ),
)  # fmt: skip
