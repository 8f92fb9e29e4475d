"""The compose files: hardening, mounted files and networks of each container.

No container engine runs here: what is checked is what the files say.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.setup.deployed import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
ROLES = ("site", "server")
MADE_BY_CERTS = {"tls.crt", "tls.key", "ca.crt", "node.key", "gateway.crt", "gateway.key"}
MADE_BY_CERTS |= {"client-api.crt", "client-api.key", "app.secret", "crl.pem"}
REPLACED_WHILE_IT_RUNS = {"./policy", "./revoked"}
"""Folders: a mounted file stays the old one when it is replaced."""
NGINX = ["nginx", "-e", "stderr", "-c", "/etc/fedvitals/nginx.conf", "-g", "daemon off;"]


def compose(role: str) -> dict[str, Any]:
    text = (DEPLOY / role / "compose.yaml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def services(role: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose(role)["services"]
    return found


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Return the source and the mode of each volume, by its path in the container."""
    given = {}
    for volume in service.get("volumes", ()):
        # A variable's message may hold colons, a path in a container does not.
        source, target, mode = re.fullmatch(r"(.+?):(/[^:]*)(?::(ro|rw))?", volume).groups()  # type: ignore[union-attr]
        given[target] = f"{source}:{mode or 'rw'}"
    return given


EVERY = [(role, name) for role in ROLES for name in services(role)]


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_every_service_is_hardened(role: str, name: str) -> None:
    service = services(role)[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}
    assert service["pids_limit"] <= 512
    assert service["mem_limit"]
    assert service["restart"] == "unless-stopped"
    assert service["logging"]["options"]["max-size"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "env_file"} & set(service)


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_images_are_pinned_and_ours_are_built_from_the_dockerfile(role: str, name: str) -> None:
    service = services(role)[name]
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+\.\d+(-[a-z]+)?", service["image"])
    if "build" in service:
        folder = (DEPLOY / role / service["build"]["context"]).resolve()
        assert folder == REPOSITORY
        assert (folder / service["build"]["dockerfile"]).is_file()
        assert service["image"] == f"fedvitals-{role}:0.1.0"


@pytest.mark.parametrize("role", ROLES)
def test_every_file_that_is_mounted_is_there_or_made_by_the_certificate_flow(role: str) -> None:
    named = set(compose(role)["volumes"])
    for name, service in services(role).items():
        for target, given in mounts(service).items():
            source, mode = given.rsplit(":", 1)
            if source in named:
                assert target == "/var/lib/fedvitals"
                continue
            assert mode == "ro", f"{name}: {target} is not read-only"
            if source in REPLACED_WHILE_IT_RUNS:
                assert target == f"/etc/fedvitals/{Path(source).name}"
            elif source.startswith("./"):
                here = (DEPLOY / role / source).is_file()
                assert here or Path(source).name in MADE_BY_CERTS, source
            else:
                assert source.startswith("${SITE_TABLE:?")


def test_no_port_is_published_but_the_coordinators_door() -> None:
    published = {
        (role, name): service["ports"]
        for role in ROLES
        for name, service in services(role).items()
        if "ports" in service
    }
    assert published == {("server", "network"): ["8443:8443"]}


def test_each_container_of_a_site_sees_what_is_its_own() -> None:
    private = {
        name: {Path(target).name for target in mounts(service) if "/private/" in target}
        for name, service in services("site").items()
    }
    assert private == {
        "gateway": {"tls.crt", "tls.key", "ca.crt", "gateway.crt", "gateway.key"},
        "node": {"node.key", "gateway.crt", "client-api.crt", "client-api.key", "app.secret"},
        "app": {"client-api.crt", "app.secret"},
    }
    tables = [name for name, one in services("site").items() if "/data/site.parquet" in mounts(one)]
    assert tables == ["app"]
    policies = [n for n, one in services("site").items() if "/etc/fedvitals/policy" in mounts(one)]
    assert policies == ["node"]


def test_the_app_cannot_see_the_audit_log() -> None:
    state = {name: mounts(services("site")[name])["/var/lib/fedvitals"] for name in ("node", "app")}
    assert state == {"node": "node-state:rw", "app": "app-state:rw"}


def test_the_app_reaches_the_node_alone_and_the_node_the_gateway() -> None:
    networks = compose("site")["networks"]
    prefix = "com.docker.network.bridge.gateway_mode_"
    # Otherwise the machine, with its services, has an address in an internal network.
    isolated = {f"{prefix}ipv4": "isolated", f"{prefix}ipv6": "isolated"}
    shut = {"internal": True, "driver_opts": isolated}
    assert networks == {"outside": {}, "inside": shut, "work": shut}
    reached = {name: set(service["networks"]) for name, service in services("site").items()}
    assert reached == {
        "gateway": {"outside", "inside"},
        "node": {"inside", "work"},
        "app": {"work"},
    }
    for name in ("node", "app"):
        assert services("site")[name]["dns"] == ["192.0.2.1"], "no name server of the world"


def test_the_coordinators_services_share_a_loopback_that_outlives_them() -> None:
    shared = {name: one.get("network_mode") for name, one in services("server").items()}
    assert shared == {
        "network": None,
        "coordinator": "service:network",
        "proxy": "service:network",
    }


@pytest.mark.parametrize(("role", "name"), EVERY)
def test_containers_run_the_commands_that_the_tests_run(role: str, name: str) -> None:
    service = services(role)[name]
    expected: dict[str, list[str]] = {
        "node": ["node", "--config", "/etc/fedvitals/site.toml"],
        "app": ["app", "--config", "/etc/fedvitals/site.toml"],
        "coordinator": ["start", "--config", "/etc/fedvitals/server.toml"],
    }
    if name in expected:
        assert service["command"] == expected[name]
        assert "entrypoint" not in service
    else:
        assert service["entrypoint"] == (["sleep", "infinity"] if name == "network" else NGINX)


@pytest.mark.parametrize(("role", "name"), [("site", "node"), ("server", "coordinator")])
def test_a_healthcheck_asks_as_the_image_does(role: str, name: str) -> None:
    asked = services(role)[name]["healthcheck"]["test"]
    dockerfile = (DEPLOY / role / "Dockerfile").read_text()
    found = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", dockerfile)
    assert found
    assert asked == ["CMD", *yaml.safe_load(found[1])]
