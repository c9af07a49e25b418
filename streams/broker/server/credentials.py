"""User and password: whether the server took them before."""

from __future__ import annotations

from collections.abc import Callable

from streams.errors import BrokerError, BrokerUnavailable, WrongCredentials


class Credentials:
    """What is known of the credentials of one broker, for all of its connections.

    A password that the server never took is a mistake, and nothing but a person mends it. One that it took before is
    being changed: trying again helps as soon as the change is complete.

    Attributes:
        accepted: the server took them once.
    """

    def __init__(self) -> None:
        self.accepted = False

    def judged(self, error: BrokerError) -> BrokerError:
        """The refusal as it is, or as something that passes."""
        if not isinstance(error, WrongCredentials) or not self.accepted:
            return error
        return BrokerUnavailable(
            f"the server took these credentials before, and now refuses them: {error}"
        )


Renew = Callable[[], str]
"""Gives the URL in the client library's words, with the credentials that hold now."""
