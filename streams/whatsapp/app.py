"""The pipeline for ``streams worker streams.whatsapp.app:pipeline``."""

from streams.whatsapp.application import Application

application = Application.from_env()
pipeline = application.pipeline.asynchronous
