"""Bugs in order and fairness by key, in turns of levels and of retries, and where either is declared anew."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import DECLARATIONS, LANES, TURNS_OF_RETRIES

MUTANTS = (
    Mutant(
        "order-by-nobody", "lanes.inc.lua",
        "    if head and head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then\n", "    if false then\n",
        LANES, "two events of a key run at once",
    ),
    Mutant(
        "replay-behind-its-key", "lanes.inc.lua",
        "head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then", "head ~= member then",
        LANES, "a key that is held waits for ever, replayed or not",
    ),
    Mutant(
        "followed-although-pending", "follow.lua",
        "    if #redis.call('XPENDING', key, group, id, id, 1) > 0 then\n", "    if false then\n",
        LANES, "an entry whose acknowledgement came late runs beside the next of its key",
    ),
    Mutant(
        "follow-not-said-again", "Settling.settle",
        "        if unsettled and following is not None and refused is None:\n", "        if False:\n",
        LANES, "a key stops when the server had forgotten a script",
    ),
    Mutant(
        "dead-heads-forgotten", "Settling.settle.dead",
        "        dead = [letter.delivery for letter in buried]\n", "        dead = []\n",
        LANES, "a key whose event died waits for a sweep",
    ),
    Mutant(
        "one-tenant-for-all", "fetch_lanes.lua",
        "key_text(values, fair_by) or '', event)", "'', event)",
        LANES, "whoever has the longest backlog has all the starts",
    ),
    Mutant(
        "weights-ignored", "fetch_lanes.lua",
        "turn.time = turn.time + 1 / weight_of(turn.fair)", "turn.time = turn.time + 1",
        LANES, "a tenant gets no more than others, whatever its weight",
    ),
    Mutant(
        "turns-for-nothing", "fetch_lanes.lua",
        "else redis.call('ZADD', ring_key, turn.time, fair) end", "else redis.call('ZADD', ring_key, 0, fair) end",
        LANES, "the tenant whose name sorts first has all the starts",
    ),
    Mutant(
        "busy-workers-do-not-line-up", "OrderedSource.line_up",
        "        await self._by_key.take(0)\n        while", "        while",
        LANES, "who comes new while every handler is busy stands behind the backlog",
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
        LANES, "after many tenants the next event of any waits",
    ),
    Mutant(
        "looks-without-end-are-cut-in-silence", "fetch_lanes.lua",
        "        more, is_cut = 1, true\n", "        is_cut = true\n",
        LANES, "behind a thousand quiet tenants an event waits half a second for each thousand",
    ),
    Mutant(
        "the-order-before-is-forgotten", "Ways.learn",
        "        self.orders = tuple(dict.fromkeys(order for order in (self.lanes.order_by, *orders) if order))\n", "",
        DECLARATIONS, "after order_by was changed each key goes on once per sweep",
    ),
    Mutant(
        "ranks-of-whoever-reads", "lanes.inc.lua",
        "local list = redis.call('HGET', rules_key, 'levels')\n", "local list = table.concat(level_at, ',')\n",
        DECLARATIONS, "after a level was added what is lined up is looked for on the wrong one",
    ),
    Mutant(
        "unlisted-ranks-believed", "lanes.inc.lua",
        "  if rank and not ranked().agreed then level = meant(rank, id, order) end\n", "",
        DECLARATIONS, "what a version before has lined up is looked for on the wrong level",
    ),
    Mutant(
        "keys-without-head-stay", "mend_lanes.lua",
        "  if order and redis.call('HEXISTS', heads_key, order) == 0 then followed = followed + follow(order) end\n", "",
        DECLARATIONS, "what a worker did not know the level of is left for ever",
    ),
    Mutant(
        "rows-of-another-fair-key-are-lost-rows", "mend_lanes.lua",
        "local known_ways = ways()\n", "local known_ways = {}\n",
        DECLARATIONS, "an event has two rows, and runs twice",
    ),
    Mutant(
        "nobody-is-woken", "Settler.run",
        "                if settlement.ready:\n                    self._state.keys_ready.set()\n", "",
        LANES, "each event of a key waits for the next poll",
    ),
    Mutant(
        "lanes-outlive-their-declaration", "Fetching.hand_back_unknown",
        "        await self._dissolve()\n        return back\n", "        return back\n",
        LANES, "what was lined up is stuck once order_by is taken away",
    ),
    Mutant(
        "ended-heads-stay", "mend_lanes.lua",
        "  if key and not row then\n", "  if false then\n",
        LANES, "a key whose first event was cancelled stops for ever",
    ),
    Mutant(
        "records-of-erased-retries", "fetch_lanes.lua",
        "      redis.call('HDEL', attempts_key, level .. '|' .. id)\n      vanished", "      vanished",
        DECLARATIONS, "the same of retries that were lined up",
    ),
    Mutant(
        "gone-rows-become-heads", "lanes.inc.lua",
        "    if is_stored(level, id) then\n", "    if true then\n",
        LANES, "each entry that was deleted by hand behind a head holds its key up for a sweep",
    ),
    Mutant(
        "rows-outlive-what-they-are-of", "dissolve.lua",
        "  redis.call('UNLINK', KEYS[at + 1], KEYS[at + 2])\n", "",
        DECLARATIONS, "a worker takes an entry from the hands of another one when order or fairness is turned off",
    ),
    Mutant(
        "too-late-is-left-behind", "Fetching.leave",
        "                    if await self.hand_back_unknown(held):\n", "                    if False:\n",
        DECLARATIONS, "an event that a stopping worker was handed waits for its lease and counts as stalled",
    ),
)  # fmt: skip
