"""Bugs in typed bodies and their older versions."""

from tests.mutants.mutant import Mutant
from tests.mutants.suites import TYPED, UPCASTERS

MUTANTS = (
    Mutant(
        "body-of-another-type-passes", "_JsonBody.convert",
        "if not isinstance(data, self._kind):", "if False:",
        TYPED, "a handler is given what it does not take",
    ),
    Mutant(
        "values-in-validation-errors", "_ValidatedBody._explain",
        'if row["type"] not in self._known:', "if False:",
        TYPED, "bodies are quoted in dead letters and logs",
    ),
    Mutant(
        "upcast-result-not-validated", "_ValidatedBody.convert",
        "        return self._checked(self._adapter.validate_json, text, data)", "        return data",
        (UPCASTERS,), "a typed handler is given what the upcasters left",
    ),
    Mutant(
        "one-upcaster-only", "_upcast.changed",
        "        changed = True", "        return True",
        (UPCASTERS,), "events that are two versions old are given to handlers half way",
    ),
    Mutant(
        "upcast-keeps-the-old-version", "_upcast",
        'event.meta["version"] = version = to_version', "version = to_version",
        (UPCASTERS,), "a handler sees new data under the old version",
    ),
    Mutant(
        "upcaster-that-forgets-to-return", "_upcast",
        "if event.data is None and before is not None:", "if False:",
        (UPCASTERS,), "an event without a body is handled",
    ),
)  # fmt: skip
