"""Setting up Django's applications, without which handlers cannot use models.

A web server and ``manage.py`` call ``django.setup()``. A worker imports one module only,
so that a handler which imports models later would fail for every event.
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
    """Whether the environment names the settings of Django, which is installed."""
    if not os.environ.get(SETTINGS):
        return False
    return "django" in sys.modules or find_spec("django") is not None


def are_missing() -> bool:
    """Whether Django is imported and has settings, but its applications are not ready."""
    if "django" not in sys.modules:
        return False

    settings: Any = getattr(sys.modules.get("django.conf"), "settings", None)
    has_settings = settings is not None and settings.configured
    if not has_settings and not os.environ.get(SETTINGS):
        return False

    apps: Any = getattr(sys.modules.get("django.apps"), "apps", None)
    return apps is None or not (apps.ready or apps.loading)


def set_up() -> None:
    """Call ``django.setup()``, which may be called more than once.

    Raises:
        ConfigurationError: it failed, e.g. because the settings cannot be imported.
    """
    try:
        import django

        django.setup()
    except Exception as error:
        facts = describe_error(error, "")
        raise ConfigurationError(
            f"django.setup() failed with {facts['type']}: {facts['message']}; "
            "handlers need Django's applications: "
            f"correct {SETTINGS}={os.environ.get(SETTINGS, '')} or the settings, "
            "and run it in the folder of manage.py"
        ) from error
