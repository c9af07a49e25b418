"""Bugs in publishing: twice, beyond a limit, before its time; and in replays of dead letters."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import (
    DEAD,
    DEDUPE,
    LOST_ANSWERS,
    MACHINE,
    PRODUCER,
    SCHEDULER,
)

MUTANTS = (
    Mutant(
        "dead-letter-loses-fields", "dead_letter.lua",
        "unpack(raw, 1, kept))", "unpack(raw, 1, 2))",
        (DEAD, MACHINE), "a dead letter cannot be replayed as it was",
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
        PRODUCER, "a repeated event is stored twice",
    ),
    Mutant(
        "full-stream-takes-one-more", "publish.lua",
        "if room < 0 then room = 0 end", "if room < 1 then room = 1 end",
        PRODUCER, "max_len is no limit",
    ),
    Mutant(
        "scheduled-not-counted", "publish.lua",
        "room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[#KEYS])", "room = tonumber(ARGV[1])",
        PRODUCER, "scheduled events grow without a limit",
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
        "lost-answer-sent-again", "Batcher.store",
        "            answer = (await self._publishing.store((event,)))[0]\n",
        "            try:\n                answer = (await self._publishing.store((event,)))[0]\n"
        "            except BrokerUnavailable:\n                answer = (await self._publishing.store((event,)))[0]\n",
        (LOST_ANSWERS + "::test_publish_whose_answer_is_lost",), "one publish stores two events",
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
)  # fmt: skip
