"""What deploy/ says: charts that render and fit Kubernetes, queries that find something, users that suffice."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import typer
import yaml
from packaging.requirements import Requirement
from prometheus_client.parser import text_string_to_metric_families

from streams import Event, Filter, Limit, Pipeline, Reject, Retry, Settings
from streams.cli.app import app
from streams.errors import AccessDenied
from streams.telemetry import export, instrument
from tests.conftest import eventually
from tests.servers import BINARIES
from tests.shipped import users

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "streams"
HELM = shutil.which(
    "helm",
    path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
)
needs_helm = pytest.mark.skipif(
    HELM is None, reason="no helm for this platform among the packages"
)
LEAST = ("worker.app=shop:pipeline", "dashboard.usersSecret=u", "dashboard.secretKey=s")
WHOLE = (
    *LEAST, "webhook.enabled=true", "webhook.ingress.enabled=true", "webhook.ingress.host=w.example",
    "dashboard.ingress.enabled=true", "dashboard.ingress.host=d.example", "dashboard.ingress.tlsSecret=t",
    "podMonitor.enabled=true", "prometheusRule.enabled=true", "redis.tlsSecret=tls", "worker.levels=5\\,10",
    "image.digest=sha256:00", "networkPolicy.redisPorts={6379,26379}", "worker.envFrom[0].secretRef.name=tokens",
)  # fmt: skip
KEDA = ("autoscaling.keda.enabled=true", "autoscaling.keda.prometheus=http://p:9090")
KINDS = {
    "least": LEAST, "whole": WHOLE, "keda": (*LEAST, *KEDA), "hpa": (*LEAST, "autoscaling.hpa.enabled=true"),
    "url in a file": (*LEAST, "redis.urlFile=true"),
    "worker only": ("worker.app=a:b", "dashboard.enabled=false", "networkPolicy.enabled=false"),
}  # fmt: skip


def helm(*arguments: str, code: int = 0) -> str:
    assert HELM is not None
    done = subprocess.run(
        [HELM, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def rendered(*values: str) -> list[dict[str, Any]]:
    options = [part for value in values for part in ("--set", value)]
    return [
        found
        for found in yaml.safe_load_all(helm("template", "shop", str(CHART), *options))
        if found
    ]


@needs_helm
@pytest.mark.parametrize("values", KINDS.values(), ids=KINDS)
def test_the_chart_renders_to_what_kubernetes_takes(values):
    helm(
        "lint",
        "--strict",
        str(CHART),
        *[part for value in values for part in ("--set", value)],
    )
    found = rendered(*values)
    for one in found:
        if one["apiVersion"].split("/")[0] not in ("keda.sh", "monitoring.coreos.com"):
            kubernetes_validate.validate(one, "1.31", strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(names)) == len(names)
    assert "Secret" not in {kind for kind, _ in names}
    pods = [one["spec"]["template"] for one in found if one["kind"] == "Deployment"]
    for one in found:
        if one["kind"] in ("Deployment", "PodDisruptionBudget"):
            wanted = one["spec"]["selector"]["matchLabels"]
            assert any(
                wanted.items() <= pod["metadata"]["labels"].items() for pod in pods
            )
        if one["kind"] == "Service":
            assert any(
                one["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
                for pod in pods
            )
    for pod in pods:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip
            assert "memory" in container["resources"]["limits"]
            assert {"livenessProbe", "readinessProbe"} <= container.keys()
            check_command(container["args"])


@needs_helm
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((), "give worker.app"),
        (("worker.app=a:b",), "dashboard."),
        ((*LEAST, *KEDA, "autoscaling.hpa.enabled=true"), "would fight"),
        ((*LEAST, "autoscaling.keda.enabled=true"), "give autoscaling.keda.prometheus"),
        ((*LEAST, "worker.replicas=0"), "worker.replicas"),
        ((*LEAST, "autoscaling.minReplicas=0"), "autoscaling.minReplicas"),
    ],
)
def test_what_is_missing_or_cannot_be_is_said(values, says):
    options = [part for value in values for part in ("--set", value)]
    said = helm("template", "shop", str(CHART), *options, code=1)
    assert says in said.replace("/", ".")


def check_command(arguments: list[str]) -> None:
    """That the program has this command with these options."""
    command: Any = typer.main.get_command(app)
    words = list(arguments)
    while words and hasattr(command, "get_command"):
        found = command.get_command(typer.Context(command), words[0])
        if found is None:
            break
        command = found
        del words[0]
    known = {
        name for parameter in command.params for name in getattr(parameter, "opts", ())
    }
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, (arguments, word)


def test_compose_starts_what_there_is():
    told = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    for name in ("worker", "dashboard", "webhook"):
        service = told["services"][name]
        check_command(service["command"])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    check_command(told["services"]["worker"]["healthcheck"]["test"][2:])
    given = set(
        re.findall(
            r"^([A-Z_]+)=", (DEPLOY / "env.example").read_text("utf-8"), re.MULTILINE
        )
    )
    asked = set(
        re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text("utf-8"))
    )
    assert asked <= given
    for mounted in (
        "redis/redis.conf",
        "redis/make-acl.py",
        "prometheus/prometheus.yaml",
    ):
        assert (DEPLOY / mounted).exists()


def test_the_image_is_small_pinned_and_nobody_is_root():
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert "--require-hashes" in text
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["streams"]' in text
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
            assert (
                f"!{name}" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
            ), name


def test_the_lock_has_what_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lock = dict(
        re.findall(
            r"^([a-z0-9._-]+)==(\S+)",
            (DEPLOY / "requirements.lock").read_text("utf-8"),
            re.MULTILINE,
        )
    )
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(
            each
            for name in ("cli", "web", "crypto", "otlp", "prometheus")
            for each in extras[name]
        ),
    ]
    for text in asked:
        wanted = Requirement(text)
        name = wanted.name.lower().replace("_", "-")
        assert name in lock, f"{name}: make the lock again, see deploy/README.md"
        assert wanted.specifier.contains(lock[name], prereleases=True), (
            text,
            lock[name],
        )
    text = (DEPLOY / "requirements.lock").read_text("utf-8")
    assert text.count("--hash=sha256:") > len(lock)


def queries() -> list[tuple[str, str]]:
    """Every query of rules, chart and panels, with where it stands."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))
    found = [
        (rule["alert"], rule["expr"])
        for group in rules["groups"]
        for rule in group["rules"]
    ]
    board = json.loads((DEPLOY / "grafana" / "streams.json").read_text("utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            text = (
                target["expr"]
                .replace("$__rate_interval", "5m")
                .replace('"$stream"', '".*"')
            )
            found.append((panel["title"], text))
    return found


def selectors(text: str) -> list[tuple[str, set[str]]]:
    """Metrics of a query, with the labels that they are chosen by."""
    promql_parser.parse(text)
    found = re.findall(
        r"\b((?:streams|messaging)_[a-z_]+?)(?:\{([^}]*)\})?(?=[\s\[)]|$)", text
    )
    labels = {
        "messaging_destination_name",
        "messaging_consumer_group_name",
        "streams_level",
        "streams_outcome",
    }
    rows = [
        (name, set(re.findall(r"([a-z_]+)\s*(?:=~|!=|=)", chosen)))
        for name, chosen in found
    ]
    return [
        row
        for row in rows
        if row[0] not in labels
        and row[0] not in ("streams_reason", "messaging_operation_name")
    ]


async def test_every_query_finds_what_a_worker_says(server, namespace):
    """Each metric and label of rules and panels is in a scrape of a worker to which everything happened."""
    pipeline, exported = (
        Pipeline(settings=Settings(url=server.url, namespace=namespace)),
        export(("prometheus",)),
    )
    instrument(pipeline, exported)

    @pipeline.handler("orders", group="billing", retry=Retry(max_retries=1, delay=0.01, jitter=0.0),
                      limits=[Limit("tenant", rate="20/s", burst=1)])  # fmt: skip
    async def work(event: Event) -> None:
        if event.data == "bad":
            raise Reject("no")
        if event.data == "fails":
            raise OSError("no")

    async with pipeline:
        metrics = pipeline.middleware[0]
        service = pipeline.service(pipeline.plans)
        running = asyncio.create_task(service.run())
        await pipeline.publish_many(
            "orders", ["good", "good", "good", "bad", "fails"], type="t", tenant="acme"
        )
        await pipeline.publish("orders", 1, type="t", delay=3600.0)
        (consumer,) = service.consumers
        await eventually(
            lambda: (consumer.stats.done, consumer.stats.dead) == (3, 2), seconds=20
        )
        assert consumer.stats.limited
        await pipeline.dead_letters("orders", "billing").replay(
            Filter(reason="rejected")
        )
        metrics._lost.add(
            1,
            {
                "messaging.destination.name": "orders",
                "messaging.consumer.group.name": "billing",
            },
        )
        text = (await pipeline.broker.observers[-1].exposition()).decode()
        service.stop()
        await running
    scraped: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            scraped.setdefault(sample.name, set()).update(sample.labels)
    for where, query in queries():
        asked = selectors(query)
        assert asked, where
        for name, labels in asked:
            assert name in scraped, (where, name)
            assert labels - {"job"} <= scraped[name], (where, name, labels)


@needs_helm
def test_the_url_may_be_a_file_whose_password_changes():
    """Each role's Secret, at the place that its variable names; else the variable holds the URL itself."""
    everything = (
        "dashboard.usersSecret=u",
        "dashboard.secretKey=k",
        "webhook.enabled=true",
    )
    for document in rendered(
        "worker.app=shop:pipeline", "redis.urlFile=true", *everything
    ):
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            names = {row["name"]: row.get("value") for row in container["env"]}
            assert names["STREAMS_URL_FILE"] == "/redis/url"
            assert "STREAMS_URL" not in names
            assert {row["name"]: row["mountPath"] for row in container["volumeMounts"]}[
                "url"
            ] == "/redis"
            (volume,) = [
                row["secret"] for row in pod["volumes"] if row["name"] == "url"
            ]
            role = "operator" if container["name"] == "dashboard" else "worker"
            assert volume["secretName"] == f"streams-redis-{role}"
    assert "STREAMS_URL_FILE" not in str(
        rendered("worker.app=shop:pipeline", *everything)
    )


@needs_helm
def test_the_chart_carries_the_rules_and_scales_by_our_own_backlog():
    assert (CHART / "rules.yaml").read_text("utf-8") == (
        DEPLOY / "prometheus" / "rules.yaml"
    ).read_text("utf-8")
    (scaled,) = [
        one for one in rendered(*LEAST, *KEDA) if one["kind"] == "ScaledObject"
    ]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    assert {name for name, _ in selectors(query)} == {
        "streams_backlog_waiting",
        "streams_backlog_processing",
    }
    assert scaled["spec"]["minReplicaCount"] >= 1
    (rules,) = [one for one in rendered(*WHOLE) if one["kind"] == "PrometheusRule"]
    assert len(rules["spec"]["groups"][0]["rules"]) == len(
        yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))[
            "groups"
        ][0]["rules"]
    )


async def test_each_role_can_do_its_work_and_no_more(make_server, binary):
    """The users that make-acl.py writes, on a real server with our own configuration."""
    acl = users(
        **{
            f"STREAMS_{role}_PASSWORD": f"secret of {role}"
            for role in ("PRODUCER", "WORKER", "OPERATOR")
        }
    )
    assert "secret of" not in acl
    server = make_server(binary, port=True)
    with server.client() as client:
        for line in acl.splitlines()[1:]:
            client.execute_command("ACL", "SETUSER", *line.split()[1:])

    def pipeline_of(role: str) -> Pipeline:
        user = f"{role}:secret%20of%20{role.upper()}"
        return Pipeline(
            settings=Settings(url=f"redis://{user}@127.0.0.1:{server.port}/0")
        )

    worker = pipeline_of("worker")

    @worker.handler("orders", group="billing", order_by="subject", limits=[Limit("tenant", rate="1000/s", burst=5)],
                    retry=Retry(max_retries=1, delay=0.01, jitter=0.0))  # fmt: skip
    async def work(event: Event) -> None:
        if event.data == "bad":
            raise OSError("no")

    running = asyncio.create_task(worker.run())
    async with pipeline_of("producer") as producer, pipeline_of("operator") as operator:
        await producer.publish_many(
            "orders", [1, 2, "bad"], type="t", tenant="acme", subject="s"
        )
        await producer.publish("orders", 4, type="t", delay=0.05, dedup_id="d")
        letters = operator.dead_letters("orders", "billing", by="ada")

        async def dead() -> bool:
            return await letters.count() == 1

        await eventually(dead, what="the event to die")
        await operator.pauses("orders").pause(tenant="acme")
        await operator.pauses("orders").resume(tenant="acme")
        assert len((await letters.replay(Filter())).moved) == 1
        await eventually(dead, what="it to die again")
        with pytest.raises(AccessDenied):
            await producer.status().overview()
        for role in (producer, operator):
            with pytest.raises(AccessDenied):
                await role.broker.control.call("FLUSHALL")
            with pytest.raises(AccessDenied):
                await role.broker.control.call("SET", "elsewhere", 1)
    worker.stop()
    await running


@pytest.mark.parametrize("path", BINARIES)
def test_the_server_takes_its_configuration(path, tmp_path):
    """Every line of redis.conf is one that the server knows."""
    text = (DEPLOY / "redis" / "redis.conf").read_text("utf-8")
    (tmp_path / "users.acl").write_text("user default on nopass ~* &* +@all\n")
    text = text.replace("/etc/redis/users.acl", str(tmp_path / "users.acl"))
    config = tmp_path / "redis.conf"
    config.write_text(f"{text}\nport 0\nunixsocket {tmp_path}/s\ndir {tmp_path}\n")
    with subprocess.Popen(
        [path, str(config)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                assert "FATAL" not in line, line
                if "eady to accept connections" in line:
                    break
            else:
                pytest.fail("the server ended")
        finally:
            server.terminate()
            server.wait(10)
