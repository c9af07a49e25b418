"""streams: an event pipeline over Redis Streams consumer groups.

from streams import Event, Pipeline, Reject, Retry, Snooze
"""

from streams.broker import Broker
from streams.cancellations import Cancellations
from streams.consumer import Consumer, ConsumerOptions
from streams.dead_letter import DeadLetter, Filter
from streams.dead_letters import DeadLetters
from streams.erasure import Erased, Erasure
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
from streams.event import Event
from streams.groups import Groups
from streams.lanes import Lanes
from streams.limit import Limit
from streams.limits import Limits
from streams.ordered_keys import OrderedKey, OrderedKeys
from streams.partitions import Partitions
from streams.pauses import Pause, Pauses
from streams.pipeline import Pipeline
from streams.priority import Levels
from streams.producer import Producer, ProducerOptions
from streams.reason import Reason
from streams.receipt import Receipt
from streams.reclaimer import Reclaimer, ReclaimerOptions
from streams.records import Records
from streams.retry import AttemptRecord, Bury, Decision, Retry, RetryIn, RetryPolicy
from streams.scheduler import Scheduler
from streams.settings import Settings
from streams.status import Status
from streams.tracking import Tracked, Tracking
from streams.version import __version__ as __version__
from streams.why import Reasons

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
