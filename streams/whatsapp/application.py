"""The application of one process: settings, instances, pipeline and handlers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from streams import sync
from streams.common.log_facts import logger_of
from streams.errors import BrokerUnavailable, ConfigurationError
from streams.settings import Settings, gather, in_production
from streams.whatsapp.consuming import WhileConsuming
from streams.whatsapp.instances import Instances, Providers
from streams.whatsapp.outbox.deliverer import Deliverer
from streams.whatsapp.privacy import clean
from streams.whatsapp.sender import Sender
from streams.whatsapp.settings import DAY, KNOWN_KEY, WhatsAppSettings
from streams.whatsapp.webhooks.tracker import Tracker

logger = logger_of("whatsapp")


class Application:
    """Everything that a process needs to queue and send messages.

    Args:
        settings: of the pipeline.
        whatsapp: of the application.
        environ: where secrets are looked up; the environment of the process if None.

    Attributes:
        pipeline: blocking; ``pipeline.asynchronous`` is what a worker runs.
        environ: where secrets and folders are looked up.
        is_embedded: messages are kept by the embedded server of this user.

    Raises:
        ConfigurationError: a setting, or the file of instances, cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        whatsapp: WhatsAppSettings,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        # An idempotency key holds as long as a campaign may be repeated.
        settings = replace(settings, dedup_window=max(settings.dedup_window, 7 * DAY))
        self.settings = whatsapp
        self.environ = os.environ if environ is None else environ
        self.is_embedded = (settings.url or "memory://").startswith(
            ("embedded://", "memory://")
        )
        self.instances = Instances(whatsapp, environ)
        self.providers = Providers(whatsapp)
        self.pipeline = sync.Pipeline(settings=settings)
        pipeline = self.pipeline.asynchronous
        self.deliverer = Deliverer(pipeline, whatsapp)
        pipeline.middleware.append(WhileConsuming(self._consuming))
        self.tracker = Tracker(pipeline, whatsapp, self.instances, self.deliverer.tell)
        self.sender = Sender(
            pipeline, whatsapp, self.instances, self.providers, self.deliverer.tell
        )

    @asynccontextmanager
    async def _consuming(self) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(clean(self.pipeline.asynchronous, self.settings))

        try:
            yield
        finally:
            cleaning.cancel()
            await asyncio.wait([cleaning])
            await self.providers.close()
            await self.deliverer.close()

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> Application:
        """The application of the environment, ``.env.local`` and ``.env``.

        Without ``STREAMS_URL``, or ``USE_REDIS`` and ``REDIS_URL``, messages are kept by
        an embedded server in the user's data folder.

        Raises:
            ConfigurationError: a value is malformed.
        """
        environ = os.environ if environ is None else environ
        directory = directory or Path.cwd()
        settings = Settings.from_env(environ, directory)
        found = gather(environ, directory)

        if settings.url == Settings().url and "STREAMS_URL" not in found:
            settings = replace(settings, url=f"embedded://{data_folder(environ)}")

        whatsapp = WhatsAppSettings.from_env(environ, directory)
        sends = whatsapp.instances or whatsapp.chosen != "sandbox"

        if sends and whatsapp.lookup_key == KNOWN_KEY:
            advice = (
                "set STREAMS_WHATSAPP_LOOKUP_KEY to a secret: with its default, recipients"
                " can be guessed from keys"
            )

            if in_production(found):
                raise ConfigurationError(advice)

            logger.warning(advice)

        return cls(settings, whatsapp, environ)


def with_fallback(
    made: Application, environ: Mapping[str, str] | None = None
) -> Application:
    """The application itself if its server answers; else one on the embedded server.

    ``STREAMS_FALLBACK`` allows that: it is ``embedded`` (the default, unless
    ``STREAMS_ENV`` is ``production``) or ``none``.

    Raises:
        BrokerUnavailable: the server does not answer, and there is to be no fallback.
        ConfigurationError: ``STREAMS_FALLBACK`` says something else.
    """
    environ = os.environ if environ is None else environ
    found = gather(environ, Path.cwd())
    default = "none" if in_production(found) else "embedded"
    wanted, _ = found.get("STREAMS_FALLBACK", (default, ""))

    if wanted not in ("embedded", "none"):
        raise ConfigurationError(
            f"STREAMS_FALLBACK is embedded or none, not {wanted!r}"
        )

    try:
        made.pipeline.status().streams()
    except BrokerUnavailable:
        if made.is_embedded or wanted == "none":
            raise

        logger.error(  # noqa: TRY400 - a sentence is enough
            "the server is away: messages are kept, and sent, by the EMBEDDED server of"
            " this machine until it is back; set STREAMS_FALLBACK=none to refuse that"
        )
        settings = fallback_url(made.pipeline.settings, environ)

        return Application(settings, made.settings, environ)

    return made


def data_folder(environ: Mapping[str, str]) -> Path:
    """The folder of the embedded server.

    It is ``streams/whatsapp`` in ``$XDG_DATA_HOME`` or ``~/.local/share``.
    """
    base = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")

    return Path(base) / "streams" / "whatsapp"


def fallback_folder(environ: Mapping[str, str]) -> Path:
    """The folder of messages that are kept while the server is away.

    It is not ``data_folder``: messages there wait for no other server.
    """
    return data_folder(environ).with_name("whatsapp-fallback")


def fallback_url(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """The settings of a pipeline on that embedded server."""
    return replace(settings, url=f"embedded://{fallback_folder(environ)}")
