"""What applications find, for the findings of doctor."""

from __future__ import annotations

from streams.broker import Broker
from streams.common.guests import Guest, Guests
from streams.doctor.finding import Finding


def examiners(guests: Guests) -> dict[str, Guest]:
    """The applications that examine something, by their names."""
    return {
        name: guest
        for name, guest in guests.all.items()
        if type(guest).examine is not Guest.examine
    }


async def ask_guests(guests: Guests, broker: Broker) -> list[Finding]:
    """The findings of each application; one that fails is a finding ``unknown`` itself."""
    findings: list[Finding] = []
    for name, guest in examiners(guests).items():
        with guests.excused(name, "look for findings"):
            findings += await guest.examine(broker)
    return findings + [
        Finding(f"{name}:broken", "unknown", f"application {name}", line)
        for name, line in guests.broken.items()
    ]
