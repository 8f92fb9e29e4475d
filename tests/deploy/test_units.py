"""The systemd units: files and networks of each, and the verdict of `systemd-analyze`.

`systemd-analyze` reads the files; whether the sandbox holds at run time is not tested here,
since no systemd runs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.integration.setup.deployed import REPOSITORY

UNITS = sorted((REPOSITORY / "deploy").glob("*/*.service"))
NAMES = [path.stem for path in UNITS]
USERS = {
    "fedvitals-anchor": "fedvitals-node",  # which has the key and the log
    "fedvitals-app": "fedvitals-app",
    "fedvitals-gateway": "fedvitals-gateway",
    "fedvitals-node": "fedvitals-node",
    "fedvitals-proxy": "fedvitals-proxy",
    "fedvitals-server": "fedvitals",
}


def unit(name: str) -> dict[str, list[str]]:
    (path,) = [path for path in UNITS if path.stem == name]
    keys: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            keys[key].append(value)
    return keys


def test_every_service_has_a_user_of_its_own() -> None:
    assert {name: unit(name)["User"] for name in NAMES} == {n: [u] for n, u in USERS.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_is_hardened(name: str) -> None:
    keys = unit(name)
    for key in (
        "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "ProtectKernelTunables",
        "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectClock",
        "RestrictNamespaces", "RestrictSUIDSGID", "LockPersonality",
    ):  # fmt: skip
        assert keys[key] == ["yes"], key
    assert keys["ProtectSystem"] == ["strict"]
    assert keys["CapabilityBoundingSet"] == [""]
    assert keys["LimitCORE"] == ["0"]
    assert keys["UMask"] == ["0077"]
    assert "/etc/fedvitals" in keys["ReadOnlyPaths"][0]


def test_only_the_two_proxies_reach_the_network() -> None:
    limited = {name: unit(name)["IPAddressAllow"] for name in NAMES if unit(name)["IPAddressDeny"]}
    assert limited == {
        "fedvitals-anchor": [],
        # Not 127.0.0.1, where the gateway listens.
        "fedvitals-app": ["127.0.0.2"],
        "fedvitals-node": ["localhost"],
        "fedvitals-server": ["localhost"],
    }
    assert all(unit(name)["IPAddressDeny"] == ["any"] for name in limited)
    assert unit("fedvitals-app")["RestrictAddressFamilies"] == ["AF_INET"]


def test_site_toml_names_the_address_that_the_app_may_reach() -> None:
    text = (REPOSITORY / "deploy" / "site" / "site.toml").read_text()
    assert f'"{unit("fedvitals-app")["IPAddressAllow"][0]}:9094"' in text


def test_no_unit_sees_what_is_anothers() -> None:
    hidden = {name: " ".join(unit(name)["InaccessiblePaths"]) for name in NAMES}
    assert "/data" in hidden["fedvitals-node"]
    for key in ("node.key", "tls.key", "gateway.key", "client-api.key"):
        assert key in hidden["fedvitals-app"]
    for path in ("/data", "/var/lib/fedvitals", "node.key", "app.secret", "client-api.key"):
        assert path in hidden["fedvitals-gateway"]
    assert "/var/lib/fedvitals" in hidden["fedvitals-proxy"]
    # Its own folder is mounted over the node's, which has the audit log.
    assert unit("fedvitals-app")["BindPaths"] == ["/var/lib/fedvitals-app:/var/lib/fedvitals"]


def test_the_gateway_does_not_start_where_all_the_hospital_would_reach_it(tmp_path: Path) -> None:
    (guard,) = unit("fedvitals-gateway")["ExecStartPre"]
    pattern = re.fullmatch(r'/usr/bin/grep --quiet "(.+)" /etc/fedvitals/nginx.conf', guard)
    assert pattern
    as_shipped = REPOSITORY / "deploy" / "site" / "nginx.conf"
    edited = tmp_path / "nginx.conf"
    edited.write_text(as_shipped.read_text().replace("listen 9443", "listen 127.0.0.1:9443"))
    for path, code in ((as_shipped, 1), (edited, 0)):
        command = ["grep", "--quiet", pattern[1], str(path)]
        assert subprocess.run(command, check=False).returncode == code


def test_units_start_the_commands_that_the_integration_tests_run() -> None:
    started = {name: unit(name)["ExecStart"][0].split(" ", 1)[1] for name in NAMES}
    nginx = '-e stderr -c /etc/fedvitals/nginx.conf -g "daemon off;"'
    anchor = "-P -m client audit anchor --config /etc/fedvitals/site.toml"
    assert started == {
        "fedvitals-anchor": f"{anchor} --to /srv/fedvitals-anchors/anchors.jsonl",
        "fedvitals-app": "-P -m client app --config /etc/fedvitals/site.toml",
        "fedvitals-gateway": nginx,
        "fedvitals-node": "-P -m client node --config /etc/fedvitals/site.toml",
        "fedvitals-proxy": nginx,
        "fedvitals-server": "-P -m server start --config /etc/fedvitals/server.toml",
    }


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    copies = []
    for path in UNITS:
        # Its only complaints are programs that this machine lacks.
        text = path.read_text().replace("/opt/fedvitals/bin/python", sys.executable)
        text = text.replace("/usr/sbin/nginx", sys.executable)
        copy = tmp_path / path.name
        copy.write_text(text)
        copies.append(str(copy))
    result = subprocess.run(
        ["systemd-analyze", "verify", *copies], capture_output=True, text=True, check=False
    )
    complaints = [line for line in result.stderr.splitlines() if "fedvitals" in line]
    assert result.returncode == 0, result.stderr
    assert complaints == []


@pytest.mark.parametrize("name", NAMES)
def test_systemd_thinks_little_of_the_exposure(name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    (path,) = [path for path in UNITS if path.stem == name]
    # In tenths: 2.0 is where systemd begins to say OK instead of SAFE or better, 10 is the worst.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unknown" in result.stderr or "unrecognized" in result.stderr:
        pytest.skip("this systemd does not know --offline")
    assert result.returncode == 0, result.stdout[-300:] + result.stderr
