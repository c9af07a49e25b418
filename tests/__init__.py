"""The tests of the package, and the programs that run parts of them at length."""

import sys

if "pytest" in sys.modules:  # A program of the tests that is started alone needs none.
    import pytest

    # Assertions of the helpers beside the tests say as much as those of the tests.
    pytest.register_assert_rewrite(
        "tests.composition",
        "tests.conformance",
        "tests.dashboard",
        "tests.process",
        "tests.server",
        "tests.unit",
        "tests.virtual",
        "tests.whatsapp",
    )
