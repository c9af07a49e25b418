"""The tests that should notice, by what they are about."""

MACHINE = "tests/server/test_state_machine.py"
CONSUMER = (
    "tests/server/test_consumer.py",
    "tests/server/test_attempts.py",
    "tests/server/test_stopping.py",
    "tests/server/test_consumer_leases.py",
)
RECLAIMER = (
    "tests/server/test_reclaimer.py",
    "tests/server/test_sweepers.py",
)
PRODUCER = (
    "tests/server/test_producer.py",
    "tests/server/test_producer_bounds.py",
)
TURNS_OF_RETRIES = "tests/server/test_turns_of_retries.py"
DECLARATIONS = (
    "tests/server/test_declarations.py",
    "tests/server/test_declared_levels.py",
)
LANES = (
    "tests/server/test_order_by_key.py",
    "tests/server/test_fairness.py",
    "tests/server/test_lanes.py",
)
FAILOVER = "tests/conformance/test_failover.py"
PLANNED = "tests/conformance/test_planned_failover.py"
SLOTS = "tests/conformance/test_slots.py"
PARTITIONS = "tests/server/test_partitions.py"
ATTRIBUTES = "tests/server/test_pauses_by_attribute.py"
LIMITS = (
    "tests/server/test_limits.py",
    "tests/server/test_concurrency.py",
    "tests/server/test_throttles.py",
)
LIMIT_SLOTS = "tests/server/test_slots.py"
ADMISSION = (
    "tests/server/test_admission.py",
    "tests/server/test_admission_upgrades.py",
)
WHY_HELD_BACK = "tests/server/test_why_held_back.py"
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
LOST_ANSWERS = "tests/process/test_lost_answers.py"
PAUSES = (
    "tests/server/test_pauses.py",
    "tests/server/test_pauses_told.py",
)
CANCEL = "tests/server/test_cancellations.py"
DEDUPE = "tests/server/test_dedupe.py"
TYPED = (
    "tests/unit/test_typed.py",
    "tests/unit/test_typed_errors.py",
)
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
WORKER_ENDS = "tests/process/test_worker_ends.py"
RELEASED = "tests/server/test_changed_limits.py::test_a_worker_lets_go_what_waits_for_limits_that_it_does_not_have"
CHANGED_LIMITS = "tests/server/test_changed_limits.py"
SESSIONS = "tests/dashboard/test_sessions.py"
MANY = "tests/server/test_many_groups.py"
