"""The chart renders valid resources from valid values, and refuses others with a sentence."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider

from harness.documentation import VALUES_OF_THE_CHART, blocks
from harness.kubernetes.chart import Chart, Refused, Resource, changed, helm_program, merged
from harness.kubernetes.random_values import RandomValues, strings_in
from tailrace_api.routes.workers import DEMAND_PATH
from tailrace_shared.process.settings_reader import read_settings
from tailrace_shared.process.tracing import start_tracing
from tailrace_shared.settings import ApiSettings, CommonSettings, WorkerSettings
from tools.chart_schema import CHART, schema_of

VERSIONS = ("1.30", "1.34", "1.37")
CUSTOM_RESOURCES = {"HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject"}
EXAMPLES = sorted(path.name for path in (CHART / "ci").glob("*.yaml"))
TRIAL = yaml.safe_load((CHART / "ci" / "trial-values.yaml").read_text())
PRODUCTION = yaml.safe_load((CHART / "ci" / "production-values.yaml").read_text())
RESTORE = {"restore": {"file": "tailrace-1.age", "identity": {"secretName": "key"}}}
EXAMPLES_TO_CHANGE = (TRIAL, PRODUCTION, PRODUCTION | RESTORE)
RANDOM_VALUES = 25
PAGES = ("docs/operations.md", "docs/recipes/deployment.md")


def documented_values() -> list[Any]:
    """Return the values that each page gives, with their place."""
    found = [each for each in blocks(PAGES, "yaml") if each.text.startswith(VALUES_OF_THE_CHART)]
    assert {each.place.partition(":")[0] for each in found} == set(PAGES)
    return [pytest.param(each.text, id=each.place) for each in found]


def test_the_schema_is_that_of_the_values():
    generated = schema_of((CHART / "values.yaml").read_text())
    assert json.loads((CHART / "values.schema.json").read_text()) == generated


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_render_valid_resources(chart_of_each_helm: Chart, example: str):
    """With Helm 3 and with Helm 4."""
    resources = chart_of_each_helm.render(yaml.safe_load((CHART / "ci" / example).read_text()))
    _validate(resources)
    for pod in _pods(resources):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
            _environment(container)


@pytest.mark.parametrize("changes", [{}, {"api.autoscaling.enabled": True}])
@pytest.mark.parametrize("example", EXAMPLES)
def test_both_helms_render_the_same(tmp_path: Path, example: str, changes: dict[str, Any]):
    """Some versions of Helm 3 give numbers to templates as text, and the text 0 is not empty."""
    values = yaml.safe_load((CHART / "ci" / example).read_text())
    options = [f"--set={path}={json.dumps(value)}" for path, value in changes.items()]
    rendered = [
        [
            each
            for each in Chart(helm_program(name), tmp_path).render(values, *options)
            if each["kind"] != "Secret"  # its token is random
        ]
        for name in ("helm3", "helm")
    ]
    assert rendered[0] == rendered[1]


@pytest.mark.parametrize("text", documented_values())
def test_the_chart_accepts_values_of_the_documentation(chart: Chart, text: str):
    _validate(chart.render(TRIAL | yaml.safe_load(text)))


@pytest.mark.parametrize("example", EXAMPLES)
def test_services_accept_the_environment_of_their_pods(chart: Chart, example: str):
    resources = chart.render(yaml.safe_load((CHART / "ci" / example).read_text()))
    kinds: dict[str, type[CommonSettings]] = {
        "api": ApiSettings,
        "worker": WorkerSettings,
        "topology": CommonSettings,
    }
    read = set()
    for container in _containers(resources):
        settings = kinds.get(container["name"])
        if settings is not None:
            read_settings(settings, _environment(container))
            read.add(container["name"])
    assert read == set(kinds)


def test_services_send_traces_to_the_collector(chart: Chart, monkeypatch: pytest.MonkeyPatch):
    """With the Secret's headers, and as many traces as the ratio says; jobs send none."""
    traced = set()
    for container in _containers(chart.render(PRODUCTION)):
        sources = {each["name"]: each.get("valueFrom") for each in container["env"]}
        if (source := sources.get("OTEL_EXPORTER_OTLP_HEADERS")) is None:
            assert not [name for name in sources if name.startswith("OTEL_")]
            continue
        assert source == {"secretKeyRef": {"name": "tailrace-tracing", "key": "headers"}}
        traced.add(container["name"])
        for name, value in _environment(container).items():
            if name.startswith("OTEL_"):
                monkeypatch.setenv(name, value)
    assert traced == {"api", "worker"}
    assert OTLPSpanExporter()._endpoint == "http://collector.tracing:4318/v1/traces"
    sampler = TracerProvider(shutdown_on_exit=False).sampler
    assert sampler.get_description().startswith("ParentBased{root:TraceIdRatioBased{0.1}")
    assert start_tracing("api", str) is not None
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert start_tracing("api", str) is None


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_chart_refuses_settings_that_it_computes(chart: Chart, example: str):
    values = yaml.safe_load((CHART / "ci" / example).read_text())
    chosen = {"TAILRACE_MAX_STORE_BYTES", *values.get("config", {})}
    for component in (values.get("api", {}), *values.get("workers", {}).values()):
        chosen |= {*component.get("config", {})}
    environments = [_environment(each) for each in _containers(chart.render(values))]
    computed = {
        name for each in environments for name in each if name.startswith("TAILRACE_")
    } - chosen
    with pytest.raises(Refused) as refused:
        chart.render(changed(values, {"config": dict.fromkeys(computed, "1")}))
    assert not [name for name in computed if f"config: {name} is" not in str(refused.value)]


def test_specific_settings_win_over_general_ones(chart: Chart):
    """A container has each name once: a pool's, else that of all pools, else that of `config`."""
    sized, swept = "TAILRACE_MAX_STORE_BYTES", "TAILRACE_SWEEP_INTERVAL"
    values = {
        "config": {sized: "1", swept: "1s"},
        "api.config": {swept: ""},
        "workerDefaults.config": {swept: "3s"},
        "workers": {"default": {}, "other": {"config": {swept: "4s", sized: "2"}}},
    }
    resources = chart.render(changed(TRIAL, values))
    _validate(resources)
    found = {}
    for name in ("api", "worker-default", "worker-other"):
        [container] = _containers([_deployment(resources, f"demo-{name}")])
        found[name] = _environment(container)
    assert {name: (each[sized], each[swept]) for name, each in found.items()} == {
        "api": ("1", ""),
        "worker-default": ("1", "3s"),
        "worker-other": ("2", "4s"),
    }
    [topology] = _containers([each for each in resources if each["kind"] == "Job"])
    assert _environment(topology)[swept] == "1s"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nats.url": "nats://other:4222"}, "nats.url: leave it empty"),
        ({"nats.bundled.enabled": False}, "nats.url: set the URL"),
        ({"nats.replicas": 3}, "nats.replicas: 3 replicas need as many servers"),
        ({"nats.credentials.secretName": "x"}, "nats.credentials.secretName"),
        ({"nats.credentials.users.api": "x"}, "nats.credentials.users: the bundled servers"),
        ({"nats.bundled.routes": ["a", "b"]}, "nats.bundled.routes"),
        ({"nats.tls.clientCertificate": True}, "nats.tls.secretName"),
        ({"auth.allowUnauthenticated": False}, "auth.allowUnauthenticated=true"),
        ({"gateway.enabled": True}, "auth.mode: `none` cannot be combined"),
        ({"auth.mode": "jwt"}, "auth: set auth.jwksUrl"),
        (
            {"auth.mode": "jwt", "auth.jwksUrl": "https://id", "auth.algorithm": "HS256"},
            "auth.algorithm",
        ),
        (
            {"auth.mode": "jwt", "auth.jwksUrl": "http://keycloak:8080/jwks.json"},
            "auth.jwksUrl: the API fetches keys by https only",
        ),
        (
            {"auth.mode": "jwt", "auth.jwksUrl": "https://id:77777"},
            "auth.jwksUrl: 77777 is not a port",
        ),
        ({"tracing.endpoint": "http://collector:4318"}, "networkPolicy.tracing: list the peers"),
        ({"tracing.endpoint": "collector:4318"}, "endpoint"),
        ({"tracing.headers.secretName": "x"}, "tracing.endpoint: required"),
        ({"api.memoryMiB": 512}, "api.memoryMiB: the budgets and the process need 1056 MiB"),
        ({"api.autoscaling": {"enabled": True, "minReplicas": 20}}, "minReplicas"),
        ({"api.autoscaling": {"enabled": True, "cpuPercent": 0}}, "cpuPercent or streamsPerPod"),
        ({"api.replicas": 1}, "podDisruptionBudget.enabled"),
        ({"ingress.enabled": True}, "ingress.host"),
        ({"backup.enabled": True}, "backup.recipient"),
        ({"restore.file": "x"}, "restore.identity.secretName"),
        (
            {"workers.default.autoscaling": {"enabled": True, "minReplicas": 20}},
            "workers.default.autoscaling.minReplicas",
        ),
        ({"config": {"TAILRACE_PORT": "1"}}, "config: TAILRACE_PORT is computed"),
        ({"workers": {"x": {"config": {"TAILRACE_NODES": "a"}}}}, "workers.x.config"),
        ({"workers": {"x": {"treads": 1}}}, "treads"),
        ({"api.replicas": "three"}, "replicas"),
        ({"api.replcas": 1}, "replcas"),
    ],
)
def test_contradictions_are_refused(chart: Chart, changes: dict[str, Any], message: str):
    with pytest.raises(Refused) as refused:
        chart.render(changed(TRIAL, changes))
    assert message in str(refused.value)


def test_the_grace_period_is_that_of_the_drain(chart: Chart):
    values = changed(TRIAL, {"api.drain": {"delaySeconds": 20, "timeoutSeconds": 60}})
    api = _deployment(chart.render(values), "demo-api")
    assert api["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 85


@pytest.mark.parametrize("surge", ["25%", 3])
def test_a_rollout_of_the_api_starts_pods_before_it_ends_others(chart: Chart, surge: str | int):
    api = _deployment(chart.render(changed(TRIAL, {"api.maxSurge": surge})), "demo-api")
    assert api["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": 0}
    with pytest.raises(Refused, match="maxSurge"):
        chart.render(changed(TRIAL, {"api.maxSurge": "0%"}))


def test_an_autoscaler_owns_the_number_of_replicas(chart: Chart):
    """A number in the Deployment would reset it at every upgrade."""
    resources = chart.render(PRODUCTION)
    assert "replicas" not in _deployment(resources, "demo-api")["spec"]
    fixed = chart.render(changed(PRODUCTION, {"api.autoscaling": {"enabled": False}}))
    assert _deployment(fixed, "demo-api")["spec"]["replicas"] == 3


def test_workers_follow_the_demand(chart: Chart):
    """KEDA reads it at a Service of the internal port, which only it and Prometheus may reach."""
    resources = chart.render(PRODUCTION)
    assert "replicas" not in _deployment(resources, "demo-worker-reports")["spec"]
    assert _deployment(resources, "demo-worker-default")["spec"]["replicas"] == 2
    [scaled] = (each for each in resources if each["kind"] == "ScaledObject")
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"]["targetValue"] == "8"
    assert trigger["metadata"]["valueLocation"] == "demand"
    host, _, path = trigger["metadata"]["url"].removeprefix("http://").partition("/")
    assert f"/{path}" == DEMAND_PATH
    services = {each["metadata"]["name"]: each for each in resources if each["kind"] == "Service"}
    name, _, port = host.partition(":")
    [internal] = services[name.partition(".")[0]]["spec"]["ports"]
    assert (str(internal["port"]), internal["targetPort"]) == (port, "internal")


def test_each_role_has_its_own_user_of_nats(chart: Chart):
    """A file of the workers lets its reader neither read tickets nor delete a stream."""
    users = {"api": "a", "worker": "w", "admin": "m"}
    values = changed(PRODUCTION, {"nats.credentials": {"secretName": "", "users": users}})
    found: dict[str, set[str]] = {}
    for resource in [*chart.render(values), *chart.render(changed(values, RESTORE))]:
        for pod in _pods([resource]):
            [secret] = (each["secret"] for each in pod["volumes"] if each["name"] == "nats")
            found.setdefault(secret["secretName"], set()).add(resource["metadata"]["name"])
            for each in pod["containers"]:
                assert "TAILRACE_NATS_CREDS_FILE" in _environment(each)
    assert found["a"] == {"demo-api"}
    assert found["w"] == {"demo-worker-default", "demo-worker-reports"}
    kinds = ("topology", "backup", "restore", "test")
    assert [kind for kind in kinds if not any(kind in name for name in found["m"])] == []
    assert {*found} == {"a", "w", "m"}
    [topology] = (each for each in chart.render(values) if each["kind"] == "Job")
    # The services may not create streams.
    assert topology["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    with pytest.raises(Refused, match="name a Secret for each of api, worker and admin"):
        chart.render(changed(values, {"nats.credentials.users.worker": ""}))


def test_a_restore_stops_all_services(chart: Chart):
    """The autoscalers too, which would start them again; and no backup replaces an older one."""
    restore = {"file": "tailrace-1.age", "identity": {"secretName": "key"}}
    resources = chart.render(changed(PRODUCTION, {"restore": restore}))
    _validate(resources)
    kinds = [each["kind"] for each in resources]
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & {*kinds}
    replicas = [each["spec"]["replicas"] for each in resources if each["kind"] == "Deployment"]
    assert replicas == [0, 0, 0]
    [backups] = (each for each in resources if each["kind"] == "CronJob")
    assert backups["spec"]["suspend"] is True
    [job] = (
        each
        for each in resources
        if each["kind"] == "Job" and "restore" in each["metadata"]["name"]
    )
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert "--skip-sequences=10000000" in container["command"]


def test_each_restore_is_a_job_of_its_own(chart: Chart):
    """A Job that has failed cannot be changed: `replace` would be refused."""
    restore = {"file": "tailrace-1.age", "identity": {"secretName": "key"}}
    names = set()
    for replaces in (False, True):
        values = changed(PRODUCTION, {"restore": {**restore, "replace": replaces}})
        names |= {
            each["metadata"]["name"] for each in chart.render(values) if each["kind"] == "Job"
        }
    assert len(names) == 2


def test_clients_do_not_reach_the_internal_port(chart: Chart):
    resources = chart.render(PRODUCTION)
    [service] = (
        each
        for each in resources
        if each["kind"] == "Service" and each["metadata"]["name"] == "demo-api"
    )
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    [policy] = (
        each
        for each in resources
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "demo-api"
    )
    open_ports = {
        port["port"]
        for rule in policy["spec"]["ingress"]
        if "from" not in rule
        for port in rule["ports"]
    }
    assert open_ports == {"http"}


def test_an_upgrade_changes_no_immutable_field(chart: Chart, tmp_path: Path):
    """Kubernetes refuses changes of selectors, of a Service's name and of a claim's template."""
    expected = {
        "StatefulSet/demo-nats": {
            "selector": {"matchLabels": _labels_of("nats")},
            "serviceName": "demo-nats-servers",
            "podManagementPolicy": "Parallel",
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }
            ],
        },
        "Deployment/demo-api": {"selector": {"matchLabels": _labels_of("api")}},
        "Deployment/demo-worker-default": {
            "selector": {"matchLabels": _labels_of("worker-default")}
        },
    }
    changes = {
        "images.api.tag": "9.9.9",
        "images.nats.tag": "9.9.9",
        "nats.bundled.memoryMiB": 4096,
        "nats.bundled.syncAlways": True,
        "workers.default.threads": 8,
        "config": {"TAILRACE_EVENTS_MAX_AGE": "30d"},
    }
    newer = _release(tmp_path, "9.9.9")
    assert _immutable_fields(chart.render(TRIAL)) == expected
    assert _immutable_fields(chart.render(changed(TRIAL, changes))) == expected
    assert _immutable_fields(newer.render(TRIAL)) == expected


def test_bundled_servers_restart_for_changes_of_their_own(chart: Chart, tmp_path: Path):
    """Neither another release of the chart nor a new token, which an upgrade keeps."""
    values = changed(TRIAL, {"images.nats.tag": "1"})
    first = _servers(chart.render(values))
    assert _servers(chart.render(values)) == first
    assert _servers(_release(tmp_path, "9.9.9").render(values)) == first
    synced = _servers(chart.render(changed(values, {"nats.bundled.syncAlways": True})))
    name = "checksum/config"
    assert synced["metadata"]["annotations"][name] != first["metadata"]["annotations"][name]


@pytest.mark.parametrize("release", ["7", "true"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_a_release_may_have_the_name_of_a_number(chart: Chart, example: str, release: str):
    values = yaml.safe_load((CHART / "ci" / example).read_text())
    _check_metadata(chart.render(values, release=release))


@pytest.mark.parametrize("seed", range(RANDOM_VALUES))
def test_random_values_render_or_are_refused_by_name(chart: Chart, seed: int):
    """Values that the schema accepts arrive whole in valid resources, or a sentence refuses them.

    Values that are refused are left out, until the others render.
    """
    generator = RandomValues(seed, schema_of((CHART / "values.yaml").read_text()))
    base = EXAMPLES_TO_CHANGE[seed % len(EXAMPLES_TO_CHANGE)]
    values = generator.values()
    while (resources := _rendered(chart, merged(base, values), values)) is None:
        pass
    _validate(resources, VERSIONS[seed // 3 % len(VERSIONS)])
    _check_metadata(resources)
    for container in _containers(resources):
        _environment(container)
    for text in strings_in(resources):
        assert generator.is_whole(text)
        assert not re.search(r"\de\+\d", text), "a large number"


def _rendered(chart: Chart, values: dict[str, Any], own: dict[str, Any]) -> list[Resource] | None:
    """Return the resources, or None after removing from `own` what the chart refuses."""
    try:
        return chart.render(values)
    except Refused as refused:
        message = str(refused)
        assert "validate.yaml" in message, message
        lines = [line.strip() for line in message.splitlines() if line.startswith("  ")]
        paths = [line.partition(": ")[0] for line in lines]
        assert paths, message
        removed = [_removed(own, path.split(".")) for path in paths]
        if not any(removed):  # Another one contradicts a value of the example.
            own.popitem()
        return None


def _removed(values: dict[str, Any], path: list[str]) -> bool:
    """Remove the value at a path, or the closest one above it; return whether there was one."""
    if path[0] not in values:
        return False
    below = values[path[0]]
    if len(path) == 1 or not isinstance(below, dict) or not _removed(below, path[1:]):
        del values[path[0]]
    return True


def _validate(resources: list[Resource], *versions: str) -> None:
    assert resources
    for resource in resources:
        if resource["kind"] not in CUSTOM_RESOURCES:
            for version in versions or VERSIONS:
                kubernetes_validate.validate(resource, version, strict=True)


def _pods(resources: list[Resource]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        if resource["kind"] == "Pod":
            yield resource["spec"]
        elif resource["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield resource["spec"]["template"]["spec"]
        elif resource["kind"] == "CronJob":
            yield resource["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def _containers(resources: list[Resource]) -> list[dict[str, Any]]:
    return [container for pod in _pods(resources) for container in pod["containers"]]


def _environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a container; those of Secrets are empty."""
    variables = {each["name"]: each.get("value", "") for each in container["env"]}
    assert len(variables) == len(container["env"]), "a name occurs twice"
    return variables


def _deployment(resources: list[Resource], name: str) -> Resource:
    [found] = (
        each
        for each in resources
        if each["kind"] == "Deployment" and each["metadata"]["name"] == name
    )
    return found


def _check_metadata(resources: list[Resource]) -> None:
    """Check that names, labels and annotations are text, in custom resources too."""
    assert resources
    for resource in resources:
        metadata = resource["metadata"]
        assert isinstance(metadata["name"], str)
        texts = [*metadata["labels"].values(), *metadata.get("annotations", {}).values()]
        assert all(isinstance(each, str) for each in texts), metadata
        selector = resource.get("spec", {}).get("selector", {})
        assert all(isinstance(each, str) for each in selector.get("matchLabels", {}).values())


def _labels_of(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "tailrace",
        "app.kubernetes.io/instance": "demo",
        "app.kubernetes.io/component": component,
    }


def _immutable_fields(resources: list[Resource]) -> dict[str, dict[str, Any]]:
    names = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")
    return {
        f"{each['kind']}/{each['metadata']['name']}": {
            name: each["spec"][name] for name in names if name in each["spec"]
        }
        for each in resources
        if each["kind"] in ("Deployment", "StatefulSet")
    }


def _servers(resources: list[Resource]) -> Resource:
    """Return the template of the bundled servers' pods."""
    [servers] = (each for each in resources if each["kind"] == "StatefulSet")
    template: Resource = servers["spec"]["template"]
    return template


def _release(folder: Path, version: str) -> Chart:
    """Return another release of the chart."""
    copy = shutil.copytree(CHART, folder / "tailrace")
    path = copy / "Chart.yaml"
    text = path.read_text()
    [known] = {yaml.safe_load(text)[key] for key in ("version", "appVersion")}
    path.write_text(text.replace(known, version))
    return Chart(helm_program(), folder, copy)
