"""Meta's error codes, and the outcome of each for a message.

One table serves answers and status webhooks alike. Its source is the error reference of the
WhatsApp Cloud API (read in 2026) and, where noted, the experience of independent clients.
The code decides, then its details. The HTTP status does not: documentation and practice differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streams.whatsapp.outcome import Again, Blocked, Hopeless, Outcome, Scope, Throttled

ErrorDecision = Literal["again", "throttle", "block", "fail", "suppress"]


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """The decision for an error code.

    Attributes:
        decision: the kind of outcome.
        reason: a short stable word.
        scope: sender or account that a throttle slows down.
        after: seconds; of a throttle, or until the next try.
        most: retries after which an ``again`` becomes a failure.
    """

    decision: ErrorDecision
    reason: str
    scope: Scope = "instance"
    after: float | None = None
    most: int | None = None


_BLOCKED = {
    0: "auth",
    190: "token_expired",
    3: "permission_missing",
    10: "permission_missing",
    **dict.fromkeys(range(200, 300), "permission_missing"),
    131005: "access_denied",
    131048: "spam_limit",
    131064: "messaging_limit",
    368: "policy_block",
    131031: "account_locked",
    33: "number_deleted",
    131037: "display_name",
    131042: "payment",
    131045: "registration",
    133010: "not_registered",
}
_FAILED = {
    133016: "registration_rate",
    130497: "country_not_allowed",
    100: "invalid_parameter",
    131008: "parameter_missing",
    131009: "parameter_invalid",
    131021: "recipient_is_sender",
    131051: "unsupported_type",
    135000: "generic_user_error",
    131026: "undeliverable",
    131047: "window_closed",
    131049: "not_delivered_by_choice",
    130472: "in_experiment",
    131030: "recipient_not_allowed",
    131052: "media_download",
    131062: "bsuid_not_allowed",
    131063: "marketing_disabled",
    132000: "template_parameters",
    132001: "template_missing",
    132005: "template_too_long",
    132007: "template_policy",
    132008: "template_format",
    132012: "template_format",
    132015: "template_paused",
    132016: "template_disabled",
    132068: "flow_blocked",
    133000: "registration",
    133005: "registration",
    133006: "registration",
    133008: "registration",
    133009: "registration",
    133015: "registration",
    134011: "payments_terms",
    131055: "not_marketing",
    134100: "not_marketing",
    134102: "not_marketing",
    137000: "identity_mismatch",
}
TABLE: Mapping[int, ErrorRule] = {
    **{code: ErrorRule("block", reason) for code, reason in _BLOCKED.items()},
    **{code: ErrorRule("fail", reason) for code, reason in _FAILED.items()},
    4: ErrorRule("throttle", "app_rate", "app", 60.0),
    80007: ErrorRule("throttle", "waba_rate", "waba", 60.0),
    80008: ErrorRule("throttle", "waba_rate", "waba", 60.0),
    130429: ErrorRule("throttle", "throughput", "instance", 5.0),
    131056: ErrorRule("throttle", "pair_rate", "pair", 6.0),
    131057: ErrorRule("throttle", "maintenance", "instance", 60.0),
    132069: ErrorRule("throttle", "flow_rate", "instance", 3600.0),
    1: ErrorRule("again", "unknown_error", most=2),
    2: ErrorRule("again", "temporarily_down"),
    133004: ErrorRule("again", "temporarily_down"),
    131000: ErrorRule("again", "something_went_wrong"),
    131016: ErrorRule("again", "service_unavailable"),
    131053: ErrorRule("again", "media_upload", most=1),
    134101: ErrorRule("again", "template_syncing", after=600.0),
    131050: ErrorRule("suppress", "marketing_stopped"),
}
_UNLISTED = ErrorRule("again", "unlisted", most=2)
_OBJECT_MISSING = 33
"""Subcode of 100: the phone number id does not exist, which is no fault of the message."""


def rule_of(code: str) -> ErrorRule:
    """The rule of a code in a webhook; a code that is not listed has a rule, too."""
    return TABLE.get(int(code), _UNLISTED) if code.isdigit() else _UNLISTED


def decide(
    code: int, *, subcode: int = 0, trace: str = "", after: float | None = None
) -> Outcome:
    """The outcome of an error. An unlisted code fails the message after two retries.

    Args:
        code: Meta's error code.
        subcode: Meta's subcode; 0 for none.
        trace: Meta's id of the request, for its support.
        after: seconds that the provider asks for, in place of the table's.
    """
    rule = TABLE.get(code, _UNLISTED)
    if code == 100 and subcode == _OBJECT_MISSING:
        rule = ErrorRule("block", "number_missing")

    told = (str(code), rule.reason, trace)
    wait = rule.after if after is None else after
    match rule.decision:
        case "throttle":
            return Throttled(
                *told,
                scope=rule.scope,
                after=60.0 if wait is None else wait,
            )
        case "block":
            return Blocked(*told)
        case "again":
            return Again(*told, after=wait, most=rule.most)
        case _:
            return Hopeless(*told, suppress=rule.decision == "suppress")


def read_error(error: Any) -> tuple[int, int, str] | None:
    """Code, subcode and trace id of an ``error`` object; None if it is not one."""
    if not isinstance(error, Mapping):
        return None

    code = error.get("code")
    if isinstance(code, bool) or not isinstance(code, int):
        return None

    subcode = error.get("error_subcode")
    trace = error.get("fbtrace_id")
    return (
        code,
        subcode if isinstance(subcode, int) else 0,
        trace if isinstance(trace, str) else "",
    )
