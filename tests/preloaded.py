"""What commands and workers import, for the process that they are forked from; see ``tests/terminal.py``."""

import contextlib
import importlib
import io
import pkgutil

import streams.broker.server.dial
import streams.cli
import streams.whatsapp
import tests.process.worker_app  # noqa: F401 - what its workers need
from streams.cli.app import app

for package in (streams.cli, streams.whatsapp):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
for arguments in (["--help"], ["ls", "--url", "unix:///nowhere"]):
    # The terminal's packages import more when they are used first.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(BaseException):
        app(arguments, prog_name="streams")
