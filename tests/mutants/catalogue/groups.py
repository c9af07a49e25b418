"""Bugs where several groups, or several partitions, share a stream."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import FANOUT, FANOUT_MACHINE, GROUPS, MANY, PARTITIONS

MUTANTS = (
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
        "lane-is-not-told", "fetch_lanes.lua",
        "      if places[i] >= 0 and ready == 0 then ready = redis.call('EXISTS', lane_key) end\n", "",
        (MANY,), "a key that an operator lets go stands still in a large process for a minute",
    ),
)  # fmt: skip
