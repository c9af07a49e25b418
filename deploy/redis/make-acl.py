"""Writes users.acl for Redis or Valkey to standard output: ``python deploy/redis/make-acl.py [--namespace streams]``.

One user per role, with the permissions that the role needs and no more; passwords are stored as hashes. They come from
the environment: STREAMS_PRODUCER_PASSWORD, STREAMS_WORKER_PASSWORD, STREAMS_OPERATOR_PASSWORD. A role without one gets
no user. The default user is switched off.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys

from streams.broker.access import ROLES

CONNECTION = ("ping", "hello", "auth", "select", "client|setname", "client|id", "role", "cluster|slots", "asking")
"""What a connection needs before anything is asked, the last three behind Sentinels or in a cluster only.

``client|setinfo``, which the client sends, may be refused.
"""
EXTRA = {"operator": ("info", "acl|whoami", "config|get")}
"""What ``streams doctor`` looks at; without it some findings are left out."""


def line(role: str, password: str, namespace: str) -> str:
    """The user of a role, as the server reads it."""
    hashed = hashlib.sha256(password.encode()).hexdigest()
    commands = " ".join(f"+{name}" for name in (*CONNECTION, *ROLES[role], *EXTRA.get(role, ())))
    return f"user {role} on #{hashed} ~{namespace}:* resetchannels -@all {commands}"


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description="Write users.acl.")
    parser.add_argument("--namespace", default="streams")
    namespace = parser.parse_args().namespace
    passwords = {role: os.environ.get(f"STREAMS_{role.upper()}_PASSWORD", "") for role in ROLES}
    if not any(passwords.values()):
        sys.exit("set STREAMS_PRODUCER_PASSWORD, STREAMS_WORKER_PASSWORD or STREAMS_OPERATOR_PASSWORD")
    sys.stdout.write("user default off\n")
    for role, password in passwords.items():
        if password:
            sys.stdout.write(line(role, password, namespace) + "\n")


if __name__ == "__main__":
    main()
