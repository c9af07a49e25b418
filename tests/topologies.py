"""Real servers in every arrangement: one, one with replicas and Sentinels, a cluster, and the embedded one."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis
import redis.cluster
from redis.crc import key_slot

from streams.broker.admin.access import ROLES
from streams.broker.server.embedded import EmbeddedServer
from tests.certificates import Certificates
from tests.servers import BINARIES, Server, free_port, wait_until
from tests.shipped import SECRET, Shipped, make_acl

SERVICE = "mymaster"
_HOST = "127.0.0.1"
_QUICK = (
    "--repl-diskless-sync",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-timeout",
    "5",
)


class Watched:
    """One primary, two replicas and three Sentinels; the loss of the primary is noticed after 1 s."""

    name = "sentinel"

    def __init__(self, binary: str, *options: str) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="sw", dir="/tmp"))
        self.servers = [Server(binary, *_QUICK, *options, port=True) for _ in range(3)]
        self.ports = [free_port() for _ in range(3)]
        self.sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'{_HOST}:{port}' for port in self.ports)}/{SERVICE}/0"

    def start(self) -> Watched:
        first, *replicas = self.servers
        first.start()
        for replica in replicas:
            replica.options += ["--replicaof", f"{_HOST} {first.port}"]
            replica.start()
        wait_until(self._in_step, what="the replicas to be in step")
        for port in self.ports:
            file = self.folder / f"{port}.conf"
            file.write_text(
                f"port {port}\nbind {_HOST}\ndir {self.folder}\nlogfile {self.folder}/{port}.log\n"
                f"sentinel monitor {SERVICE} {_HOST} {first.port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} 1000\n"
                f"sentinel failover-timeout {SERVICE} 4000\n"
            )
            self.sentinels.append(
                subprocess.Popen(
                    [self.binary, str(file), "--sentinel"], stdout=subprocess.DEVNULL
                )
            )
        wait_until(
            self._watched,
            seconds=30,
            what="the Sentinels to know each other and the replicas",
        )
        return self

    def _in_step(self) -> bool:
        with self.servers[0].client() as client:
            facts = client.info("replication")
        rows = [facts.get(f"slave{n}", {}) for n in range(2)]
        return all(row.get("state") == "online" for row in rows)

    def _watched(self) -> bool:
        for port in self.ports:
            with self._sentinel(port) as client:
                try:
                    state = client.sentinel_masters()[SERVICE]
                except (redis.ConnectionError, KeyError):
                    return False
            if state["num-other-sentinels"] != 2 or state["num-slaves"] != 2:
                return False
        return True

    @contextlib.contextmanager
    def _sentinel(self, port: int) -> Iterator[redis.Redis]:
        client = redis.Redis(
            _HOST, port, socket_timeout=5, retry=None, protocol=2, decode_responses=True
        )
        try:
            yield client
        finally:
            client.close()

    def primary(self) -> Server:
        """The server that most Sentinels name."""
        named = []
        for port in self.ports:
            with self._sentinel(port) as client:
                named.append(int(client.sentinel_master(SERVICE)["port"]))
        most = max(set(named), key=named.count)
        return next(server for server in self.servers if server.port == most)

    def of(self, stream: str) -> Server:
        """The server that has a stream."""
        return self.primary()

    def failover(self, stream: str = "") -> None:
        """Make another server the primary, in good order.

        Sentinel does not hold back writes until the replica has them all: what the old primary takes on meanwhile is
        lost. Whoever plans a failover pauses writes first.
        """
        with self.primary().client() as client:
            client.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            client.execute_command("WAIT", 2, 1000)
        self.ask_for_failover()

    def ask_for_failover(self) -> None:
        """Make another server the primary, while the old one goes on taking writes."""
        with self._sentinel(self.ports[0]) as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A plain client of the primary."""
        with self.primary().client() as client:
            yield client

    def close(self) -> None:
        for sentinel in self.sentinels:
            sentinel.kill()
            sentinel.wait(10)
        for server in self.servers:
            server.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Clustered:
    """Three primaries with a replica each; the loss of one is noticed after 1.5 s."""

    name = "cluster"
    size = 6

    def __init__(self, binary: str, *options: str) -> None:
        made = (
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1500",
            *_QUICK,
            *options,
        )
        self.servers = [Server(binary, *made, port=True) for _ in range(self.size)]
        for server in self.servers:
            server.options += ["--cluster-port", str(free_port())]

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'{_HOST}:{server.port}' for server in self.servers[:3])}"

    def start(self) -> Clustered:
        for server in self.servers:
            server.start()
        share = 16384 // 3
        for n, server in enumerate(self.servers[:3]):
            with server.client() as client:
                last = 16383 if n == 2 else share * (n + 1) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", share * n, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for server in self.servers[1:]:
            with self.servers[0].client() as client:
                bus = server.options[server.options.index("--cluster-port") + 1]
                client.execute_command("CLUSTER", "MEET", _HOST, server.port, bus)
        wait_until(
            lambda: all(len(self._nodes(one)) == self.size for one in self.servers),
            seconds=30,
            what="nodes to meet",
        )
        for n, replica in enumerate(self.servers[3:]):
            with replica.client() as client:
                client.execute_command(
                    "CLUSTER", "REPLICATE", self.ident(self.servers[n])
                )
        self.be_whole()
        return self

    def be_whole(self) -> None:
        """Wait until every node says that all slots are served."""
        wait_until(self._whole, seconds=30, what="the cluster to be whole")

    def ident(self, server: Server) -> str:
        """The node's own name."""
        with server.client() as client:
            return client.execute_command("CLUSTER", "MYID").decode()

    def _nodes(self, server: Server) -> list[list[str]]:
        with server.client() as client:
            # Asked in one piece, that the client library does not make something of the answer.
            text = client.execute_command("CLUSTER NODES", NEVER_DECODE=True)
        return _rows(text)

    def _whole(self) -> bool:
        for server in self.servers:
            with server.client() as client:
                facts = client.execute_command("CLUSTER INFO")
                if _word(facts, "cluster_state") != "ok":
                    return False
                if _word(facts, "cluster_slots_ok") != "16384":
                    return False
                link = client.info("replication")
                if link["role"] == "slave" and link["master_link_status"] != "up":
                    return False
        return (
            sum(row["role"] == "slave" for row in map(self._role, self.servers))
            == self.size - 3
        )

    def _role(self, server: Server) -> dict[str, str]:
        with server.client() as client:
            return client.info("replication")

    def of(self, stream: str) -> Server:
        """The primary that serves a stream."""
        slot = key_slot(stream.encode())
        for server in self.servers:
            if server.process is None or server.process.poll() is not None:
                continue
            with server.client() as client:
                rows = client.execute_command("CLUSTER SLOTS", NEVER_DECODE=True)
            port = _serving(rows, slot)
            return next(one for one in self.servers if one.port == port)
        raise AssertionError("no node is alive")

    def replica_of(self, server: Server) -> Server:
        """A replica of a primary."""
        return next(
            one
            for one in self.servers
            if self._role(one).get("master_port") == server.port
        )

    def failover(self, stream: str, *how: str) -> None:
        """Make the replica the primary of a stream's slots; in good order, unless FORCE or TAKEOVER is asked for."""
        with self.replica_of(self.of(stream)).client() as client:
            client.execute_command("CLUSTER", "FAILOVER", *filter(None, how))

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.cluster.RedisCluster]:
        """A plain client of all nodes."""
        client = redis.cluster.RedisCluster(
            host=_HOST, port=self.servers[0].port, protocol=2
        )
        try:
            yield client
        finally:
            client.close()

    def close(self) -> None:
        for server in self.servers:
            server.close()


class Sharded(Clustered):
    """Three primaries without a replica, each of which goes on when another one is lost; they keep their data."""

    size = 3

    def __init__(self, binary: str) -> None:
        super().__init__(
            binary, "--cluster-require-full-coverage", "no", "--appendonly", "yes"
        )

    @contextlib.contextmanager
    def without(self, server: Server, how: str) -> Iterator[None]:
        """While a shard is ``killed`` or ``frozen``; after that all are back."""
        if how == "killed":
            server.kill()
        else:
            stop(server)
            wait_until(lambda: _is_stopped(server), what="the server to stand still")
        try:
            yield
        finally:
            if how == "killed":
                server.start()
            else:
                server.signal(signal.SIGCONT)
            self.be_whole()

    def named(self, server: Server, stem: str = "s", among: int = 200) -> str:
        """The first name with this stem whose keys are on a shard."""
        names = (f"{stem}{n}" for n in range(among))
        return next(name for name in names if self.of(name) is server)


def _is_stopped(server: Server) -> bool:
    """Whether the system has stopped the process, all of its threads: it may answer until then."""
    assert server.process is not None
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def _rows(text: bytes | dict) -> list[list[str]]:
    if isinstance(text, dict):
        return [[name] for name in text]
    return [line.split() for line in text.decode().splitlines()]


def _word(facts: bytes | dict, name: str) -> str:
    if isinstance(facts, dict):
        return facts.get(name, "")
    return dict(line.partition(":")[::2] for line in facts.decode().splitlines()).get(
        name, ""
    )


def _serving(rows: list | dict, slot: int) -> int:
    if isinstance(rows, dict):
        return next(
            row["primary"][1]
            for (first, last), row in rows.items()
            if first <= slot <= last
        )
    return next(row[2][1] for row in rows if row[0] <= slot <= row[1])


def stop(server: Server) -> None:
    """SIGSTOP: alive for the system, silent for everybody else."""
    server.signal(signal.SIGSTOP)


class Embedded:
    """The server that the package brings; it is up for as long as this holds it."""

    name = "embedded"

    def __init__(self, binary: str) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix="se", dir="/tmp"))
        self._server = EmbeddedServer.from_url(self.url)
        self._socket = ""

    @property
    def url(self) -> str:
        return f"embedded://{self.folder / 'data'}"

    def start(self) -> Embedded:
        self._socket = self._server.acquire()
        return self

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A plain client of it."""
        client = redis.Redis(
            unix_socket_path=self._socket, socket_timeout=10, retry=None, protocol=2
        )
        try:
            yield client
        finally:
            client.close()

    def close(self) -> None:
        self._server.close(wait=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Guarded(Shipped):
    """One server on the shipped files, with the shipped user of each role; keys of every namespace are theirs.

    ``tests.roles`` lets every part of the package be the user of its role.
    """

    name = "acl"

    def __init__(self, binary: str) -> None:
        maker = make_acl()
        shipped = [maker.line(role, [SECRET], "*") for role in ROLES]
        tester = f"user tester on >{SECRET} ~* &* +@all"
        super().__init__(
            binary, "\n".join((maker.DEFAULT, *shipped, tester, "")), looks_as="tester"
        )


class Encrypted(Server):
    """One server that speaks TLS and asks for a certificate of the client."""

    name = "tls"

    def __init__(self, binary: str, days: float = 1) -> None:
        super().__init__(next(filter(speaks_tls, (binary, *BINARIES)), binary))
        self.tls = free_port()
        self.certificates = Certificates(self.folder, days)
        names = ("--tls-cert-file", "--tls-key-file", "--tls-ca-cert-file")
        for name, file in zip(names, self.certificates.server, strict=True):
            self.options += [name, str(file)]
        self.options += ["--tls-port", str(self.tls), "--tls-auth-clients", "yes"]

    @property
    def url(self) -> str:
        certificate, key, authority = self.certificates.client
        return f"rediss://127.0.0.1:{self.tls}/0?ssl_certfile={certificate}&ssl_keyfile={key}&ssl_ca_certs={authority}"


def speaks_tls(binary: str) -> bool:
    """Whether this server was built with TLS: it then asks for a certificate, and else does not know what is meant."""
    command = [binary, "--port", "0", "--tls-port", "1"]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=10, check=False, cwd="/tmp"
    )
    return "tls-cert-file" in ended.stdout + ended.stderr


Topology = Server | Watched | Clustered | Embedded
KINDS: dict[str, type[Topology]] = {
    "single": Server, "sentinel": Watched, "cluster": Clustered, "embedded": Embedded, "acl": Guarded, "tls": Encrypted,
}  # fmt: skip
