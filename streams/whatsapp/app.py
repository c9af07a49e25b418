"""What ``streams worker streams.whatsapp.app:pipeline`` runs: the application of the environment."""

from streams.whatsapp.application import Application

application = Application.from_env()
pipeline = application.pipeline.asynchronous
