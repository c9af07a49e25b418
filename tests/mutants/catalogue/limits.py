"""Bugs in limits: rates, slots, queues, and throttles."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import (
    ADMISSION,
    CHANGED_LIMITS,
    LIMIT_SLOTS,
    LIMITS,
    RELEASED,
)

MUTANTS = (
    Mutant(
        "lined-up-suspect-beside-others", "Gate._told_here",
        "            if delivery.record and not alone and delivery.is_suspect:\n", "            if False:\n",
        ADMISSION, "under an order by key, a suspect starts beside others",
    ),
    Mutant(
        "late-places-used-at-once", "admit.lua",
        "  if state.S - tolerance <= now and state.B <= now and (reserved == 2 or not late) then return 0 end\n",
        "  if true then return 0 end\n",
        LIMITS, "after an outage everything that waited for a limit starts at once",
    ),
    Mutant(
        "newcomers-overtake", "admit.lua",
        "    from = math.max(state.S, state.R, state.L)\n    if", "    from = state.S\n    if",
        LIMITS, "whoever waits for a limit comes back again and again",
    ),
    Mutant(
        "every-limit-reserved", "admit.lua",
        "  state[frontier] = from + state.interval\n",
        "  for _, one in ipairs(entry.limits) do\n    local other = states[one.state]\n"
        "    other.R = math.max(other.R, other.S, now) + other.interval\n    other.changed = true\n  end\n"
        "  state[frontier] = from + state.interval\n",
        LIMITS, "a recipient with a long queue uses up the rate of its instance",
    ),
    Mutant(
        "idle-keys-stay", "limits.inc.lua",
        "redis.call('SET', key, text, 'PX', string.format('%.0f', math.ceil((last - now) / 1000)))",
        "redis.call('SET', key, text)",
        LIMITS, "the state of every key stays for ever",
    ),
    Mutant(
        "clock-set-back-holds", "admit.lua", "  if ahead > 0 then\n", "  if false then\n",
        LIMITS, "after the clock was set back by an hour a key waits an hour",
    ),
    Mutant(
        "burst-one-too-many", "admit.lua", "interval * (burst - 1)", "interval * burst",
        LIMITS, "one more start at once than was said",
    ),
    Mutant(
        "waiting-keep-their-time", "Limits._write",
        "        await self._limiting.hasten(name)\n        return", "        return",
        LIMITS, "a limit that is raised helps none of those who wait for it",
    ),
    Mutant(
        "lifted-throttle-keeps-its-time", "Limits._throttle",
        "        await self._limiting.hasten(name)\n        facts", "        facts",
        LIMITS, "a throttle that is lifted helps none of those who wait for it",
    ),
    Mutant(
        "slots-not-handed-on", "Settler._forget",
        "        if delivery.slots:\n            self._state.free_slots(delivery)\n",
        "",
        LIMITS, "who waits for a slot waits until a worker looks for what is due",
    ),
    Mutant(
        "slots-kept-by-who-ends", "ack.lua",
        "for _, member in ipairs(ended) do let_go(KEYS[4], KEYS[5], member) end\n",
        "",
        (*ADMISSION, LIMIT_SLOTS), "a slot is free again only when somebody looks for the dead",
    ),
    Mutant(
        "slots-kept-by-what-is-paused", "admit.lua",
        "    if b > 0 then take_slot(KEYS[b], KEYS[q], KEYS[2], entry.member, name ~= waits_in) end\n",
        "",
        (*ADMISSION, *LIMITS), "what has to wait keeps the slot that it was handed",
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
        ADMISSION, "an expired event keeps the slot that it was handed",
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
        LIMITS, "a killed worker keeps its slots for ever",
    ),
    Mutant(
        "a-slot-for-everybody", "admit.lua",
        "  return free > 0 and before < free\n", "  return true\n",
        LIMITS, "more of a key at once than was said",
    ),
    Mutant(
        "queue-jumped", "admit.lua",
        "  return free > 0 and before < free\n", "  return free > 0\n",
        LIMITS, "who comes later starts earlier",
    ),
    Mutant(
        "taken-over-looks-lost", "Fetcher._find_lost_reads",
        "async with self._taking:", "if True:",
        LIMITS, "an event that was just handed a slot runs twice",
    ),
    Mutant(
        "throttle-forgotten", "admit.lua",
        "    if from - tolerance <= now and state.B <= now then return 0 end\n",
        "    if from - tolerance <= now then return 0 end\n",
        LIMITS, "a throttled key is not held back",
    ),
    Mutant(
        "places-lost-by-who-waits", "admit.lua",
        "      if place == 1 or place == 2 then limit.reserved = place end\n",
        "",
        LIMITS, "who comes at its reserved time goes behind all others again",
    ),
    Mutant(
        "everybody-probes", "admit.lua",
        "      if pause.scout ~= entry.member and type(pause.scout) == 'string' and pending_row(key_of, group, pause.scout) then\n",
        "      if false then\n",
        ADMISSION, "a service that is down is asked by every event that waits for it",
    ),
    # --- two features together
    Mutant(
        "slots-kept-by-what-is-put-back", "postpone.lua",
        "      if admitted then put_off(KEYS[5], KEYS[2], member) end\n",
        "",
        ADMISSION, "what waits for its retry keeps its slot",
    ),
    Mutant(
        "slots-kept-by-a-lost-read", "hand_back.lua",
        "    put_off(KEYS[3], KEYS[2], ARGV[4] .. '|' .. row[1])\n",
        "",
        ADMISSION, "an entry that is handed back keeps the slot that it was handed",
    ),
    Mutant(
        "slots-of-what-was-erased", "renew.lua",
        "    let_go(KEYS[#KEYS], KEYS[#KEYS - 1], member)\n",
        "",
        ADMISSION, "the slot of an event that was erased while it ran is gone until somebody asks",
    ),
    Mutant(
        "slots-kept-by-what-is-cancelled", "cancel.lua",
        "for _, member in ipairs(members) do let_go(KEYS[#KEYS], KEYS[2], member) end\n",
        "",
        ADMISSION, "who is cancelled keeps its slot and its place",
    ),
    Mutant(
        "places-of-what-ended", "slots.inc.lua",
        "        redis.call('ZREM', queue_key, member)\n        let_go(admissions_key, retry_key, member)\n", "",
        (LIMIT_SLOTS,), "what ended stands first in a queue for ever",
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
        "turn-not-passed-on", "admissions.inc.lua",
        " and not was_first then return end",
        " then return end",
        (LIMIT_SLOTS,), "behind an event that expired in the queue others wait for an hour",
    ),
    Mutant(
        "slots-of-the-vanished", "due.inc.lua",
        "    redis.call('HDEL', attempts_key, member)\n    let_go(admissions_key, retry_key, member)\n    due.vanished",
        "    redis.call('HDEL', attempts_key, member)\n    due.vanished",
        ADMISSION, "an event that was erased while it waited keeps the slot that it was handed",
    ),
    Mutant(
        "slots-of-the-swept", "sweep.lua",
        "  let_go(KEYS[6], KEYS[2], level .. '|' .. id)\n",
        "",
        ADMISSION, "an event that was erased while its worker died keeps its slot",
    ),
    Mutant(
        "slots-of-limits-that-are-gone", "admit.lua",
        "  leave_others(entry, kept)\n",
        "",
        ADMISSION, "after a deploy an event keeps a slot of a limit that its handler has no more",
    ),
    Mutant(
        "slots-of-the-repaired", "stray_pending.lua",
        "    let_go(KEYS[5], KEYS[2], ARGV[3] .. '|' .. id)\n",
        "",
        ADMISSION, "what the doctor ends keeps its slot",
    ),
    Mutant(
        "slots-without-a-row", "slots.inc.lua",
        "          note_slot(admissions_key, member, name)\n",
        "",
        ADMISSION, "a slot that is handed to what an older version lined up is given back by nobody",
    ),
    Mutant(
        "rows-of-older-versions-stay", "tend_admissions.lua",
        "    let_go(KEYS[1], KEYS[2], member)\n",
        "",
        ADMISSION, "rows of what an older version ended stay for a month",
    ),
    Mutant(
        "pauses-ended-by-older-versions", "tend_admissions.lua",
        "redis.call('HEXISTS', KEYS[3], row.by) == 0",
        "false",
        ADMISSION, "what waits for a pause that an older version ended comes back in an hour",
    ),
    Mutant(
        "places-lost-by-who-is-put-back", "admissions.inc.lua",
        "  if row.kind == 'start' then redis.call('HDEL', admissions_key, member) end\n",
        "  redis.call('HDEL', admissions_key, member)\n",
        ADMISSION, "who comes at its reserved time and finds no handler free goes behind all others again",
    ),
    Mutant(
        "records-of-older-versions-unread", "_waiting",
        "if any(mark in record for mark in _OLD))",
        "if False)",
        ADMISSION, "what an older version put aside for a pause waits on for an hour",
    ),
    Mutant(
        "places-of-older-versions-unread", "Admitting.admit.before",
        "if _OLD in delivery.record else {}",
        "if False else {}",
        ADMISSION, "what an older version put aside for a rate goes behind all others",
    ),
    Mutant(
        "expiry-beside-a-limit", "Gate.admit.is_late",
        "is_late = answer.kind is Kind.START and self._is_over(ask.delivery)",
        "is_late = False",
        ADMISSION, "an expired event that a pause covered starts when that is over",
    ),
    Mutant(
        "reason-of-another-delivery", "_of_row",
        "deliveries is not None and said.get(\"count\", deliveries) != deliveries",
        "False",
        ADMISSION, "why says of a retry of an older version that it waits for a limit",
    ),
)  # fmt: skip
