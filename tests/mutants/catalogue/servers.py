"""Bugs in what becomes of a worker whose server goes, changes, loses data or says nonsense."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import LOSSES, PLANNED, REFUSALS, SLOTS, UNREADABLE

MUTANTS = (
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
)  # fmt: skip
