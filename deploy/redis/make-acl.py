"""Writes users.acl for Redis or Valkey to standard output: ``python deploy/redis/make-acl.py [--namespace streams]``.

One user per role, with the permissions that the role needs and no more, and ``admin`` for the server itself; passwords
are stored as hashes. They come from the environment: STREAMS_PRODUCER_PASSWORD, STREAMS_WORKER_PASSWORD,
STREAMS_OPERATOR_PASSWORD, STREAMS_ADMIN_PASSWORD. A role without one gets no user. A second password of the same user,
for the time of a rotation, is STREAMS_WORKER_PASSWORD_NEXT and so on: both are taken.

The default user is off and has no password, so nobody is let in as it. It may do everything all the same: see
``DEFAULT``. The file itself cannot say so, since servers before Redis 8.8 refuse a comment in it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence

from streams.broker.admin.access import ROLES

DEFAULT = "user default off resetpass ~* &* +@all"
"""The server reads its append-only file as the default user.

Redis 7.0 and later check its permissions for each transaction in the file, and each script that writes twice is one
(redis/redis#14541, mended in 8.4.4 and 8.6; Valkey before 9.1.2 does the same). A default user without permissions
makes them leave the transaction out, and start without it: events and acknowledgements are gone. ``resetpass`` is there
against ``nopass``: without a password that fits, a user that may do everything is nobody's.
"""
CONNECTION = (
    "ping",
    "hello",
    "auth",
    "select",
    "client|setname",
    "client|id",
    "role",
    "cluster|slots",
    "asking",
)
"""What a connection needs before anything is asked, the last three behind Sentinels or in a cluster only.

``client|setinfo``, which the client sends, may be refused.
"""
EXTRA = {"operator": ("info", "acl|whoami", "acl|dryrun", "config|get", "memory|usage")}
"""What ``streams doctor`` looks at; without it some findings are left out.

``acl|dryrun`` tells whether the default user may do what is in the append-only file. It tells of permissions, changes
nothing and does nothing; ``acl|getuser``, which would say the same, shows the hashes of passwords.
"""
ADMIN = "admin"


def line(role: str, passwords: Sequence[str], namespace: str) -> str:
    """The user of a role, as the server reads it; each of the passwords is taken."""
    commands = " ".join(
        f"+{name}" for name in (*CONNECTION, *ROLES[role], *EXTRA.get(role, ()))
    )
    return f"user {role} on {_hashes(passwords)} ~{namespace}:* resetchannels -@all {commands}"


def admin_line(passwords: Sequence[str]) -> str:
    """The user for the server itself: it loads users, saves, fails over, and replicas connect with it.

    It may do everything: a user that may call ACL SETUSER can give itself the rest, so a shorter list protects nothing.
    """
    return f"user {ADMIN} on {_hashes(passwords)} ~* &* +@all"


def _hashes(passwords: Sequence[str]) -> str:
    return " ".join(
        f"#{hashlib.sha256(password.encode()).hexdigest()}" for password in passwords
    )


def _passwords(role: str) -> list[str]:
    """What the environment says of a role: its password, and the next one during a rotation."""
    name = f"STREAMS_{role.upper()}_PASSWORD"
    now, following = os.environ.get(name, ""), os.environ.get(f"{name}_NEXT", "")
    if following and not now:
        sys.exit(
            f"{name}_NEXT is set and {name} is not: set both, or the one password as {name}"
        )
    return [password for password in (now, following) if password]


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description="Write users.acl.")
    parser.add_argument("--namespace", default="streams")
    namespace = parser.parse_args().namespace
    found = {role: _passwords(role) for role in (*ROLES, ADMIN)}
    if not any(found[role] for role in ROLES):
        sys.exit(
            "set STREAMS_PRODUCER_PASSWORD, STREAMS_WORKER_PASSWORD or STREAMS_OPERATOR_PASSWORD"
        )
    lines = [
        DEFAULT,
        *(line(role, found[role], namespace) for role in ROLES if found[role]),
    ]
    if found[ADMIN]:
        lines.append(admin_line(found[ADMIN]))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
