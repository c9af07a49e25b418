"""The providers, one file each. None of them retries."""

from streams.whatsapp.providers.base import Connection, Instance, Provider
from streams.whatsapp.providers.cloud import CloudProvider
from streams.whatsapp.providers.evolution import EvolutionProvider
from streams.whatsapp.providers.sandbox import SandboxProvider

__all__ = [
    "CloudProvider",
    "Connection",
    "EvolutionProvider",
    "Instance",
    "Provider",
    "SandboxProvider",
]
