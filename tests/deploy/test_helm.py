"""The Helm charts, rendered by `tests.deploy.chart`: what runs, as whom, and who reaches whom."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.chart import Chart, ChartError
from tests.integration.setup.deployed import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
CHARTS = {role: Chart(DEPLOY / "helm" / f"fedvitals-{role}") for role in ("site", "server")}
ROLES = tuple(CHARTS)
FILES = {
    "site": {"site": "site.toml", "policy": "policy.toml", "nginx": "nginx.conf"},
    "server": {"server": "server.toml", "nginx": "nginx.conf"},
}


def values(role: str) -> dict[str, Any]:
    """The chart's own values with the files of deploy/."""
    given = CHARTS[role].values
    for key, name in FILES[role].items():
        given["files"][key] = (DEPLOY / role / name).read_text()
    if role == "server":
        given["files"]["crl"] = "-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n"
    return given


@cache
def manifests(role: str) -> list[dict[str, Any]]:
    return CHARTS[role].render(values(role))


def of_kind(role: str, *kinds: str) -> list[dict[str, Any]]:
    return [one for one in manifests(role) if one["kind"] in kinds]


def pods(role: str) -> dict[str, dict[str, Any]]:
    found = of_kind(role, "Deployment", "StatefulSet")
    return {one["metadata"]["name"]: one["spec"]["template"] for one in found}


def containers(role: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for template in pods(role).values():
        spec = template["spec"]
        for one in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield one["name"], one


def container(role: str, name: str) -> dict[str, Any]:
    return dict(containers(role))[name]


def policy(role: str, name: str) -> dict[str, Any]:
    (found,) = [p for p in of_kind(role, "NetworkPolicy") if p["metadata"]["name"] == name]
    spec: dict[str, Any] = found["spec"]
    return spec


@pytest.mark.parametrize("role", ROLES)
def test_values_fit_their_schema(role: str) -> None:
    chart = CHARTS[role]
    jsonschema.Draft7Validator.check_schema(chart.schema)
    jsonschema.validate(chart.values, chart.schema)
    jsonschema.validate(values(role), chart.schema)


@pytest.mark.parametrize("role", ROLES)
def test_the_schema_knows_every_value_and_no_other(role: str) -> None:
    chart = CHARTS[role]
    assert set(chart.schema["properties"]) - {"global"} == set(chart.values)


@pytest.mark.parametrize(
    ("role", "path", "value"),
    [
        ("site", "files.site", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("server", "files.nginx", "-----BEGIN PRIVATE KEY-----"),
        ("site", "coordinator.cidrs", []),
        ("site", "coordinator.cidrs", ["coordinator.example.org"]),
        ("site", "dns.to", []),
        ("site", "image.tag", "latest"),
        ("site", "image.digest", "abc"),
        ("site", "table.file", "/data/site.parquet"),
        ("site", "gpu", "1"),
        ("server", "sites.cidrs", []),
        ("server", "service.type", "ExternalName"),
        ("server", "secrets.key", "-----"),
    ],
)
def test_the_schema_refuses(role: str, path: str, value: Any) -> None:
    given = copy.deepcopy(values(role))
    *parents, last = path.split(".")
    table = given
    for part in parents:
        table = table[part]
    table[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(given, CHARTS[role].schema)


@pytest.mark.parametrize("role", ROLES)
def test_every_value_is_used_and_every_value_used_is_there(role: str) -> None:
    chart = CHARTS[role]
    folder = chart.folder / "templates"
    text = "".join(path.read_text() for path in sorted(folder.iterdir()))
    used = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    for path in used:
        table: Any = chart.values
        for part in path.split("."):
            assert part in table, path
            table = table[part]
    assert {path.split(".")[0] for path in used} == set(chart.values)


@pytest.mark.parametrize("role", ROLES)
def test_a_chart_without_its_files_is_refused(role: str) -> None:
    for key in values(role)["files"]:
        given = values(role)
        given["files"][key] = ""
        with pytest.raises(ChartError, match=f"--set-file files.{key}="):
            CHARTS[role].render(given)


@pytest.mark.parametrize(("role", "section"), [("site", "coordinator"), ("server", "sites")])
def test_no_addresses_do_not_become_all_addresses(role: str, section: str) -> None:
    given = values(role)
    given[section]["cidrs"] = []
    with pytest.raises(ChartError, match="is empty"):
        CHARTS[role].render(given)


@pytest.mark.parametrize("role", ROLES)
def test_every_container_is_hardened(role: str) -> None:
    for name, one in containers(role):
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert one["resources"]["limits"]["memory"]
        assert one["resources"]["requests"]["cpu"]
        assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+(-[a-z]+)?", one["image"])
    for template in pods(role).values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all("hostPath" not in volume for volume in spec["volumes"])


def test_the_same_processes_run_by_the_same_commands_as_under_compose() -> None:
    for role, names in (("site", ("node", "app")), ("server", ("coordinator",))):
        services = yaml.safe_load((DEPLOY / role / "compose.yaml").read_text())["services"]
        for name in names:
            one = container(role, name)
            assert one["args"] == services[name]["command"]
            assert "command" not in one, "the image's entrypoint"
    for role, name in (("site", "gateway"), ("server", "proxy")):
        services = yaml.safe_load((DEPLOY / role / "compose.yaml").read_text())["services"]
        assert container(role, name)["command"] == services[name]["entrypoint"]


def test_probes_ask_as_composes_healthchecks_do() -> None:
    for role, name in (("site", "node"), ("server", "coordinator")):
        services = yaml.safe_load((DEPLOY / role / "compose.yaml").read_text())["services"]
        asked = ["CMD", *container(role, name)["readinessProbe"]["exec"]["command"]]
        assert asked == services[name]["healthcheck"]["test"]
    coordinator = container("server", "coordinator")
    assert coordinator["livenessProbe"]["exec"] == coordinator["readinessProbe"]["exec"]
    for role, name in (("site", "gateway"), ("server", "proxy")):
        for probe in ("readinessProbe", "livenessProbe"):
            assert container(role, name)[probe]["tcpSocket"] == {"port": "fleet"}


def test_the_app_is_a_pod_of_its_own_that_reaches_the_nodes_api_alone() -> None:
    assert set(pods("site")) == {"fed-gateway", "fed-node", "fed-app"}
    spec = policy("site", "fed-app")
    assert spec["policyTypes"] == ["Egress"]
    ((rule,),) = [spec["egress"]]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9094}]
    ((peer,),) = [rule["to"]]
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "node"
    assert pods("site")["fed-app"]["spec"]["dnsPolicy"] == "None"


def test_whoever_is_not_named_is_denied() -> None:
    spec = policy("site", "fed-deny")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    assert "egress" not in spec
    for template in pods("site").values():
        labels = template["metadata"]["labels"].items()
        assert spec["podSelector"]["matchLabels"].items() <= labels


def test_only_the_gateway_reaches_the_coordinator() -> None:
    outside = {
        one["metadata"]["name"]: peer["ipBlock"]["cidr"]
        for one in of_kind("site", "NetworkPolicy")
        for rule in one["spec"].get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer
    }
    assert outside == {"fed-gateway": "192.0.2.1/32"}
    node = policy("site", "fed-node")
    assert [rule["ports"][0]["port"] for rule in node["egress"]] == [9443, 53]
    assert [rule["ports"] for rule in node["ingress"]] == [[{"protocol": "TCP", "port": 9094}]]


def test_the_coordinator_shows_its_proxy_and_calls_nobody() -> None:
    spec = policy("server", "fed")
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in spec
    ((rule,),) = [spec["ingress"]]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8443}]
    (service,) = of_kind("server", "Service")
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["fleet"]
    named = {
        port["name"]: name for name, one in containers("server") for port in one.get("ports", ())
    }
    assert named == {"fleet": "proxy"}


def test_each_pod_of_a_site_sees_what_is_its_own() -> None:
    def claims(name: str) -> set[str]:
        volumes = pods("site")[name]["spec"]["volumes"]
        return {
            v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
        }

    assert claims("fed-node") == {"fed-node-state"}
    assert claims("fed-app") == {"fed-app-state", "fedvitals-site-table"}
    assert claims("fed-gateway") == set()
    app = {mount["mountPath"]: mount for mount in container("site", "app")["volumeMounts"]}
    assert app["/data/site.parquet"]["readOnly"] is True
    assert app["/data/site.parquet"]["subPath"] == "site.parquet"
    assert "policy.toml" not in json.dumps(pods("site")["fed-app"])
    for secret in ("node.key", "tls.key", "gateway.key", "client-api.key"):
        assert secret not in json.dumps(pods("site")["fed-app"])


def test_the_node_is_given_files_and_no_links() -> None:
    """A volume of Kubernetes holds links in a folder that all may write; `subPath` gives none."""
    node = {mount["mountPath"]: mount for mount in container("site", "node")["volumeMounts"]}
    config = {path: mount["subPath"] for path, mount in node.items() if mount["name"] == "config"}
    assert config == {
        "/etc/fedvitals/site.toml": "site.toml",
        "/etc/fedvitals/policy/policy.toml": "policy.toml",
        "/etc/fedvitals/private": "private",
    }
    assert all(node[path]["readOnly"] for path in config)
    notes = pods("site")["fed-node"]["metadata"]["annotations"]
    assert {"checksum/site", "checksum/policy"} <= notes.keys()  # they do not change by themselves


def test_keys_are_in_secrets_that_exist_already() -> None:
    for role in ROLES:
        assert of_kind(role, "Secret") == []
    referred = json.dumps(manifests("site"))
    for name in CHARTS["site"].values["secrets"].values():
        assert f'"{name}"' in referred


def test_claims_outlive_an_uninstall() -> None:
    found = [one for role in ROLES for one in of_kind(role, "PersistentVolumeClaim")]
    assert len(found) == 3
    for one in found:
        assert one["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_files_arrive_as_they_were_given() -> None:
    for role in ROLES:
        data = {k: v for one in of_kind(role, "ConfigMap") for k, v in one["data"].items()}
        for name in FILES[role].values():
            assert data[name].rstrip("\n") == (DEPLOY / role / name).read_text().rstrip("\n")


def test_services_have_the_names_that_the_settings_name() -> None:
    settings = (DEPLOY / "site" / "site.toml").read_text()
    for one in of_kind("site", "Service"):
        (port,) = one["spec"]["ports"]
        assert f'"{one["metadata"]["name"]}:{port["port"]}"' in settings
    node = pods("site")["fed-node"]["spec"]
    assert node["hostAliases"] == [{"ip": "0.0.0.0", "hostnames": ["client-api"]}]


@pytest.mark.parametrize("host", ["10.0.0.7", "fd00::7"])
def test_the_app_finds_the_node_without_a_name_server(tmp_path: Path, host: str) -> None:
    """Under the name that the node's certificate is for."""
    from client.config.site_config import load_site_config

    shell, options, given = container("site", "address")["command"]
    given = given.replace("/names/hosts", f"{tmp_path}/hosts")
    environment = {"CLIENT_API_SERVICE_HOST": host, "PATH": "/usr/bin:/bin"}
    subprocess.run([shell, options, given], env=environment, check=True)
    name = load_site_config(DEPLOY / "site" / "site.toml").node.client_api.host
    assert (tmp_path / "hosts").read_text() == f"127.0.0.1 localhost\n{host} {name}\n"
    assert subprocess.run([shell, options, given], env={"PATH": "/bin"}, check=False).returncode
    mounted = {mount["mountPath"]: mount for mount in container("site", "app")["volumeMounts"]}
    assert mounted["/etc/hosts"]["subPath"] == "hosts"
    assert mounted["/etc/hosts"]["readOnly"] is True


def test_node_and_app_are_given_what_tls_between_them_needs() -> None:
    def secret_files(name: str) -> set[str]:
        return set(re.findall(r'"key": "([^"]+)"', json.dumps(pods("site")[name]["spec"])))

    shared = {"client-api.crt", "app.secret"}
    assert secret_files("fed-node") == {"node.key", "gateway.crt", "client-api.key", *shared}
    assert secret_files("fed-app") == shared


def test_a_gpu_and_a_published_backbone_go_to_the_app() -> None:
    given = values("site")
    assert "nvidia.com/gpu" not in json.dumps(manifests("site"))
    given |= {"gpu": 1, "hub": {"claim": "hub"}, "nodeSelector": {"gpu": "yes"}}
    rendered = [
        m for m in CHARTS["site"].render(given) if m["kind"] in ("StatefulSet", "Deployment")
    ]
    with_gpu = [one for one in rendered if "nvidia.com/gpu" in json.dumps(one)]
    assert [one["metadata"]["name"] for one in with_gpu] == ["fed-app"]
    app = with_gpu[0]["spec"]["template"]["spec"]
    assert app["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {"name": "hub", "mountPath": "/hub", "readOnly": True} in app["containers"][0][
        "volumeMounts"
    ]
    assert app["nodeSelector"] == {"gpu": "yes"}


@pytest.mark.parametrize("role", ROLES)
def test_helm_renders_the_same(role: str, tmp_path: Path) -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not here")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values(role)))
    given = [str(CHARTS[role].folder), "--values", str(tmp_path / "values.yaml")]
    subprocess.run([helm, "lint", "--strict", *given], check=True)
    command = [helm, "template", "fed", "--namespace", "fedvitals", *given]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    theirs = [one for one in yaml.safe_load_all(result.stdout) if one]

    def key(one: dict[str, Any]) -> str:
        return f"{one['kind']} {one['metadata']['name']}"

    assert sorted(theirs, key=key) == sorted(manifests(role), key=key)
