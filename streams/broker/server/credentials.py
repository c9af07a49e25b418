"""User and password of a broker: whether the server has accepted them before."""

from __future__ import annotations

from collections.abc import Callable

from streams.errors import BrokerError, BrokerUnavailable, WrongCredentials


class Credentials:
    """The credentials of one broker, for all of its connections.

    A password that the server never accepted is a mistake, which only an operator can
    correct. One that it accepted before is being changed: a retry succeeds once the
    change is complete.

    Attributes:
        accepted: the server has accepted them before.
    """

    def __init__(self) -> None:
        self.accepted = False

    def judged(self, error: BrokerError) -> BrokerError:
        """The refusal, as one that passes if the credentials were accepted before."""
        if not isinstance(error, WrongCredentials) or not self.accepted:
            return error

        return BrokerUnavailable(
            f"the server took these credentials before, and now refuses them: {error}"
        )


Renew = Callable[[], str]
"""Gives the URL as the client library reads it, with the present credentials."""
