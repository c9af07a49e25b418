"""streams: an event pipeline over Redis Streams consumer groups.

from streams import Event, Pipeline, Reject, Retry, Snooze
"""

from streams.admin.cancellations import Cancellations
from streams.admin.dead_letter import DeadLetter, Filter
from streams.admin.dead_letters import DeadLetters
from streams.admin.erasure import Erased, Erasure
from streams.admin.groups import Groups
from streams.admin.limits import Limits
from streams.admin.ordered_keys import OrderedKey, OrderedKeys
from streams.admin.pauses import Pause, Pauses
from streams.admin.reason import Reason
from streams.admin.records import Records
from streams.admin.status import Status
from streams.admin.tracking import Tracked, Tracking
from streams.admin.why import Reasons
from streams.broker import Broker
from streams.common.guests import Guest
from streams.common.moved import find_moved
from streams.consumer import Consumer
from streams.consuming.options import ConsumerOptions
from streams.errors import (
    AccessDenied,
    BrokerError,
    BrokerUnavailable,
    ConfigurationError,
    EventError,
    EventTooLarge,
    GroupDropped,
    GroupInUse,
    MalformedEvent,
    NotCancelled,
    NotFound,
    NotWaiting,
    OutOfMemory,
    PublishError,
    PublishUnknown,
    Reject,
    Snooze,
    StreamFull,
    StreamsError,
    Throttle,
    Unavailable,
    WrongCredentials,
    WrongServer,
)
from streams.events.event import Event
from streams.events.receipt import Receipt
from streams.pipeline import Pipeline
from streams.policy.levels import Levels
from streams.policy.limit import Limit
from streams.policy.ordering import Lanes
from streams.policy.partitions import Partitions
from streams.policy.retry import (
    AttemptRecord,
    Bury,
    Decision,
    Retry,
    RetryIn,
    RetryPolicy,
)
from streams.producer import Producer, ProducerOptions
from streams.reclaimer import Reclaimer, ReclaimerOptions
from streams.settings import Settings
from streams.version import __version__ as __version__
from streams.worker.scheduler import Scheduler

find_moved()

__all__ = [
    "AccessDenied",
    "AttemptRecord",
    "Broker",
    "BrokerError",
    "BrokerUnavailable",
    "Bury",
    "Cancellations",
    "ConfigurationError",
    "Consumer",
    "ConsumerOptions",
    "DeadLetter",
    "DeadLetters",
    "Decision",
    "Erased",
    "Erasure",
    "Event",
    "EventError",
    "EventTooLarge",
    "Filter",
    "GroupDropped",
    "GroupInUse",
    "Groups",
    "Guest",
    "Lanes",
    "Levels",
    "Limit",
    "Limits",
    "MalformedEvent",
    "NotCancelled",
    "NotFound",
    "NotWaiting",
    "OrderedKey",
    "OrderedKeys",
    "OutOfMemory",
    "Partitions",
    "Pause",
    "Pauses",
    "Pipeline",
    "Producer",
    "ProducerOptions",
    "PublishError",
    "PublishUnknown",
    "Reason",
    "Reasons",
    "Receipt",
    "Reclaimer",
    "ReclaimerOptions",
    "Records",
    "Reject",
    "Retry",
    "RetryIn",
    "RetryPolicy",
    "Scheduler",
    "Settings",
    "Snooze",
    "Status",
    "StreamFull",
    "StreamsError",
    "Throttle",
    "Tracked",
    "Tracking",
    "Unavailable",
    "WrongCredentials",
    "WrongServer",
]
