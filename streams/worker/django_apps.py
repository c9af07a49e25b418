"""Django's applications, made ready for handlers: models cannot be used before ``django.setup()`` was called.

A web server and ``manage.py`` call it. A worker imports one module, and a handler that imports models when it runs
would find out only then, with every event.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

from streams.common.exception_text import describe_error
from streams.errors import ConfigurationError

SETTINGS = "DJANGO_SETTINGS_MODULE"


def is_named() -> bool:
    """Whether the environment names the settings of a Django project, and Django is installed."""
    return bool(os.environ.get(SETTINGS)) and (
        "django" in sys.modules or find_spec("django") is not None
    )


def are_missing() -> bool:
    """Whether Django is imported and knows its settings, but nothing has made its applications ready."""
    settings: Any = getattr(sys.modules.get("django.conf"), "settings", None)
    if "django" not in sys.modules or not (
        os.environ.get(SETTINGS) or (settings and settings.configured)
    ):
        return False
    apps: Any = getattr(sys.modules.get("django.apps"), "apps", None)
    return apps is None or not (apps.ready or apps.loading)


def set_up() -> None:
    """Call ``django.setup()``; called again, it does nothing.

    Raises:
        ConfigurationError: it failed, e.g. because the settings cannot be imported.
    """
    try:
        import django

        django.setup()
    except Exception as error:
        facts = describe_error(error, "")
        raise ConfigurationError(
            f"django.setup() failed with {facts['type']}: {facts['message']}; handlers need Django's applications: "
            f"correct {SETTINGS}={os.environ.get(SETTINGS, '')} or the settings, and run it in the folder of manage.py"
        ) from error
