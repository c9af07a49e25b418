"""Meta's error codes and what they mean for a message: one table, for answers and for status webhooks alike.

Source: the error reference of the WhatsApp Cloud API (read in 2026) and, where said, what independent clients observed.
Decided on the code, then on the details; never on the HTTP status, which differs between documentation and practice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streams.whatsapp.outcome import Again, Blocked, Hopeless, Outcome, Scope, Throttled

Decision = Literal["again", "throttle", "block", "fail", "suppress"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code means.

    Attributes:
        decision: what to do.
        reason: a short stable word.
        scope: of a throttle.
        after: seconds; of a throttle, or until the next try.
        most: retries after which an ``again`` is hopeless.
    """

    decision: Decision
    reason: str
    scope: Scope = "instance"
    after: float | None = None
    most: int | None = None


def _block(reason: str) -> Rule:
    return Rule("block", reason)


def _fail(reason: str) -> Rule:
    return Rule("fail", reason)


TABLE: Mapping[int, Rule] = {
    0: _block("auth"),
    190: _block("token_expired"),
    3: _block("permission_missing"),
    10: _block("permission_missing"),
    **dict.fromkeys(range(200, 300), _block("permission_missing")),
    131005: _block("access_denied"),
    4: Rule("throttle", "app_rate", "app", 60.0),
    80007: Rule("throttle", "waba_rate", "waba", 60.0),
    80008: Rule("throttle", "waba_rate", "waba", 60.0),
    130429: Rule("throttle", "throughput", "instance", 5.0),
    131056: Rule("throttle", "pair_rate", "pair", 6.0),
    131048: _block("spam_limit"),
    131064: _block("messaging_limit"),
    133016: _fail("registration_rate"),
    368: _block("policy_block"),
    131031: _block("account_locked"),
    130497: _fail("country_not_allowed"),
    1: Rule("again", "unknown_error", most=2),
    2: Rule("again", "temporarily_down"),
    133004: Rule("again", "temporarily_down"),
    131000: Rule("again", "something_went_wrong"),
    131016: Rule("again", "service_unavailable"),
    131057: Rule("throttle", "maintenance", "instance", 60.0),
    33: _block("number_deleted"),
    100: _fail("invalid_parameter"),
    131008: _fail("parameter_missing"),
    131009: _fail("parameter_invalid"),
    131021: _fail("recipient_is_sender"),
    131051: _fail("unsupported_type"),
    135000: _fail("generic_user_error"),
    131026: _fail("undeliverable"),
    131047: _fail("window_closed"),
    131049: _fail("not_delivered_by_choice"),
    131050: Rule("suppress", "marketing_stopped"),
    130472: _fail("in_experiment"),
    131030: _fail("recipient_not_allowed"),
    131037: _block("display_name"),
    131042: _block("payment"),
    131045: _block("registration"),
    131052: _fail("media_download"),
    131053: Rule("again", "media_upload", most=1),
    131062: _fail("bsuid_not_allowed"),
    131063: _fail("marketing_disabled"),
    132000: _fail("template_parameters"),
    132001: _fail("template_missing"),
    132005: _fail("template_too_long"),
    132007: _fail("template_policy"),
    132008: _fail("template_format"),
    132012: _fail("template_format"),
    132015: _fail("template_paused"),
    132016: _fail("template_disabled"),
    132068: _fail("flow_blocked"),
    132069: Rule("throttle", "flow_rate", "instance", 3600.0),
    133000: _fail("registration"),
    133005: _fail("registration"),
    133006: _fail("registration"),
    133008: _fail("registration"),
    133009: _fail("registration"),
    133015: _fail("registration"),
    133010: _block("not_registered"),
    134011: _fail("payments_terms"),
    131055: _fail("not_marketing"),
    134100: _fail("not_marketing"),
    134102: _fail("not_marketing"),
    134101: Rule("again", "template_syncing", after=600.0),
    137000: _fail("identity_mismatch"),
}
_OBJECT_MISSING = 33
"""Subcode of 100: the phone number id does not exist (any more), which is no fault of the message."""


def decide(
    code: int, *, subcode: int = 0, trace: str = "", after: float | None = None
) -> Outcome:
    """What an error means. ``after``: seconds that the provider asks for; they go before the table's.

    A code that is not in the table fails the message after two retries.
    """
    rule = TABLE.get(code, Rule("again", "unlisted", most=2))
    if code == 100 and subcode == _OBJECT_MISSING:
        rule = _block("number_missing")
    text = str(code)
    if rule.decision == "throttle":
        wait = after if after is not None else rule.after or 60.0
        return Throttled(text, rule.reason, trace, scope=rule.scope, after=wait)
    if rule.decision == "block":
        return Blocked(text, rule.reason, trace)
    if rule.decision == "again":
        return Again(
            text,
            rule.reason,
            trace,
            after=after if after is not None else rule.after,
            most=rule.most,
        )
    return Hopeless(text, rule.reason, trace, suppress=rule.decision == "suppress")


def read_error(error: Any) -> tuple[int, int, str] | None:
    """Code, subcode and trace id of an ``error`` object; None if it is none."""
    if (
        not isinstance(error, Mapping)
        or isinstance(error.get("code"), bool)
        or not isinstance(error.get("code"), int)
    ):
        return None
    subcode = error.get("error_subcode")
    trace = error.get("fbtrace_id")
    return (
        error["code"],
        subcode if isinstance(subcode, int) else 0,
        trace if isinstance(trace, str) else "",
    )
