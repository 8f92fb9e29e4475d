"""deploy/certs: what each script refuses, and what `verify.sh` says of a certificate."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.setup.deployed import CERTS, provision, request, script

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    error: str


def call(name: str, *arguments: str | Path) -> Said:
    command = [str(CERTS / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return Said(result.returncode, result.stdout, result.stderr)


def refused(name: str, *arguments: str | Path, code: int = 2) -> str:
    """Return the error line of a script that refuses."""
    said = call(name, *arguments)
    assert said.code == code, said
    lines = said.error.splitlines()
    assert len(lines) == 1, said.error
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation") / "authority"
    script("authority.sh", folder)
    return folder


@pytest.fixture(scope="module")
def site(authority: Path) -> Path:
    """Private folder of a site with a valid certificate."""
    return provision(authority, "site", "north", authority.parent / "north")


def test_an_authority_is_never_replaced(authority: Path) -> None:
    before = (authority / "ca.key").read_bytes()
    assert "is not replaced" in refused("authority.sh", authority)
    assert (authority / "ca.key").read_bytes() == before
    assert (authority / "ca.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "name", ["", "two words", "../up", "-x", "n\u00f6rd", "x" * 65, "a/b", "a\nb"]
)
def test_a_bad_name_makes_no_key(tmp_path: Path, name: str) -> None:
    assert "a name is 1 to 64" in refused("request.sh", "site", name, tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("server", "c"), "at least one --san"),
        (("server", "c", "--san", "coordinator.example.org"), "DNS:host or IP:address"),
        (("server", "c", "--san", "DNS:a,CA:TRUE"), "DNS:host or IP:address"),
        (("site", "s", "--san", "DNS:a"), "carries no --san"),
        (("hospital", "s"), "usage: request.sh"),
    ],
)
def test_a_request_that_does_not_fit_makes_no_key(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    role, name, *more = arguments
    assert reason in refused("request.sh", role, name, tmp_path / "keys", *more)
    assert not (tmp_path / "keys").exists()


def test_keys_are_their_owners_and_not_in_the_request(site: Path) -> None:
    for name in ("tls.key", "node.key", "gateway.key", "client-api.key", "app.secret"):
        assert (site / name).stat().st_mode & 0o777 == 0o600
    sent = sorted(path.name for path in (site.parent / "request").iterdir())
    assert sent == ["name", "node.pub", "request.csr", "role"]
    assert "keys are not replaced" in refused("request.sh", "site", "north", site.parent)


def test_only_the_fingerprint_that_was_read_out_is_signed(authority: Path, tmp_path: Path) -> None:
    fingerprint = request("site", "west", tmp_path)
    folder = tmp_path / "request"
    assert fingerprint in refused("approve.sh", authority, folder)
    other = f"{'0' * 4}{fingerprint[4:]}"
    assert "do not sign it" in refused("approve.sh", authority, folder, "--fingerprint", other)
    # The node's key was changed in transit: the fingerprint covers it.
    request("site", "west", tmp_path / "stranger")
    shutil.copy(tmp_path / "stranger" / "request" / "node.pub", folder)
    said = refused("approve.sh", authority, folder, "--fingerprint", fingerprint)
    assert "was changed on its way" in said
    assert not (authority / "issued" / "west").exists()


def test_a_key_that_was_sent_along_is_refused(authority: Path, tmp_path: Path) -> None:
    fingerprint = request("site", "south", tmp_path)
    shutil.copy(tmp_path / "private" / "tls.key", tmp_path / "request" / "notes.txt")
    said = refused("approve.sh", authority, tmp_path / "request", "--fingerprint", fingerprint)
    assert "must never leave its site" in said


@pytest.mark.parametrize("name", ["node.pub", "notes/more"])
def test_a_link_in_a_request_is_not_followed(authority: Path, tmp_path: Path, name: str) -> None:
    fingerprint = request("site", "linked", tmp_path)
    other, link = tmp_path / "other", tmp_path / "request" / name
    other.write_bytes((tmp_path / "request" / "node.pub").read_bytes() + b"of this machine")
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(other)
    said = refused("approve.sh", authority, tmp_path / "request", "--fingerprint", fingerprint)
    assert "holds a symbolic link" in said
    assert not (authority / "issued" / "linked").exists()


def test_a_request_that_is_itself_a_link_is_refused(authority: Path, tmp_path: Path) -> None:
    fingerprint = request("site", "linked", tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "request")
    said = refused("approve.sh", authority, f"{tmp_path}/link/", "--fingerprint", fingerprint)
    assert "is no folder" in said


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("name", "another\n", "the request's subject is 'CN=east', expected CN=another"),
        ("role", "authority\n", "it is site or server"),
        ("request.csr", "no request\n", "is damaged"),
        ("names", "DNS:ok\nDNS:x,dirName:y", "DNS:host or IP:address"),
    ],
)
def test_a_tampered_request_is_refused_though_its_fingerprint_fits(
    authority: Path, tmp_path: Path, file: str, text: str, reason: str
) -> None:
    role, more = ("server", ("--san", "DNS:east")) if file == "names" else ("site", ())
    request(role, "east", tmp_path, *more)
    folder = tmp_path / "request"
    (folder / file).write_text(text)
    said = call("approve.sh", authority, folder)
    found = said.error.split("has the fingerprint ")
    # A damaged request is refused before there is a fingerprint to agree on.
    agreed = found[1].split(";")[0] if len(found) == 2 else "none"
    assert reason in refused("approve.sh", authority, folder, "--fingerprint", agreed)
    assert not (authority / "issued" / "east" / "tls.crt").exists()


def test_a_second_certificate_is_a_rotation(authority: Path, tmp_path: Path) -> None:
    old = provision(authority, "site", "renewed", tmp_path / "old")
    fingerprint = request("site", "renewed", tmp_path / "new")
    sign = (authority, tmp_path / "new" / "request", "--fingerprint", fingerprint)
    assert "has a valid certificate" in refused("approve.sh", *sign)
    assert "there is no older one" in refused("rotate.sh", authority, "--retire", "renewed")
    script("rotate.sh", *sign)
    new = authority / "issued" / "renewed" / "tls.crt"
    given = ("--ca", authority / "ca.crt", "--crl", authority / "crl.pem")
    assert call("verify.sh", old / "tls.crt", *given).code == 0, (
        "both work until the old is retired"
    )
    script("rotate.sh", authority, "--retire", "renewed")
    assert "was revoked" in refused("verify.sh", old / "tls.crt", *given, code=1)
    assert call("verify.sh", new, *given).code == 0


def test_a_rotation_needs_something_to_rotate(authority: Path, tmp_path: Path) -> None:
    fingerprint = request("site", "never", tmp_path)
    sign = (authority, tmp_path / "request", "--fingerprint", fingerprint)
    assert "use approve.sh" in refused("rotate.sh", *sign)


def test_revocation_names_who_could_be_meant(authority: Path, site: Path, tmp_path: Path) -> None:
    gone = provision(authority, "site", "gone", tmp_path)
    assert "'nroth' has no valid certificate; known are:" in refused(
        "revoke.sh", authority, "nroth"
    )
    assert "north" in refused("revoke.sh", authority, "nroth")
    script("revoke.sh", authority, "gone")
    given = ("--ca", authority / "ca.crt", "--crl", authority / "crl.pem")
    assert "was revoked" in refused("verify.sh", gone / "tls.crt", *given, code=1)
    assert "no valid certificate" in refused("revoke.sh", authority, "gone")
    assert call("verify.sh", site / "tls.crt", *given).code == 0, "the others go on"


def test_verify_says_what_a_good_certificate_is_for(authority: Path, site: Path) -> None:
    said = call(
        "verify.sh", site / "tls.crt", "--ca", site / "ca.crt", "--key", site / "tls.key",
        "--crl", authority / "crl.pem",
    )  # fmt: skip
    assert said.code == 0, said
    assert "is good for TLS Web Client Authentication, until" in said.out


def test_verify_tells_the_ways_in_which_one_is_bad(
    authority: Path, site: Path, tmp_path: Path
) -> None:
    ca, good = ("--ca", site / "ca.crt"), site / "tls.crt"
    expired = tmp_path / "expired"
    fingerprint = request("site", "late", expired)
    sign = (authority, expired / "request", "--fingerprint", fingerprint, "--days", "-1")
    script("approve.sh", *sign)
    late = authority / "issued" / "late" / "tls.crt"
    assert "expired on" in refused("verify.sh", late, *ca, code=1)
    assert "within 400 days" in refused("verify.sh", good, *ca, "--days", "400", code=1)

    script("authority.sh", tmp_path / "other")
    wrong = tmp_path / "other" / "ca.crt"
    assert "was not signed by" in refused("verify.sh", good, "--ca", wrong, code=1)
    foreign = tmp_path / "other" / "crl.pem"
    said = refused("verify.sh", good, *ca, "--crl", foreign, code=1)
    assert "not a revocation list of this authority" in said

    said = refused("verify.sh", good, *ca, "--key", site / "gateway.key", code=1)
    assert "is not the key of" in said
    loose = tmp_path / "tls.key"
    shutil.copy(site / "tls.key", loose)
    loose.chmod(0o644)
    assert "may be read by others" in refused("verify.sh", good, *ca, "--key", loose, code=1)
    assert "no PEM certificate" in refused("verify.sh", loose, *ca, code=1)
    assert "does not exist" in refused("verify.sh", tmp_path / "none", *ca, code=1)


def test_verify_compares_the_names_of_a_server(authority: Path, tmp_path: Path) -> None:
    keys = provision(
        authority, "server", "coordinator", tmp_path, "--san", "DNS:fed.example.org", "--san",
        "IP:192.0.2.7",
    )  # fmt: skip
    given = (keys / "tls.crt", "--ca", keys / "ca.crt", "--san")
    assert call("verify.sh", *given, "DNS:fed.example.org").code == 0
    assert call("verify.sh", *given, "IP:192.0.2.7").code == 0
    said = refused("verify.sh", *given, "DNS:other.example.org", code=1)
    assert "is not for other.example.org; its names are: DNS:fed.example.org" in said


def test_a_list_that_has_run_out_is_named_as_such(
    authority: Path, site: Path, tmp_path: Path
) -> None:
    old = tmp_path / "crl.pem"
    command = ["openssl", "ca", "-gencrl", "-config", str(authority / "openssl.cnf")]
    dates = ["-crl_lastupdate", "20250101000000Z", "-crl_nextupdate", "20250201000000Z"]
    environment = {**os.environ, "AUTHORITY": str(authority)}
    subprocess.run([*command, *dates, "-out", str(old)], env=environment, check=True)
    given = (site / "tls.crt", "--ca", site / "ca.crt", "--crl")
    assert "revoke.sh --refresh" in refused("verify.sh", *given, old, code=1)
    script("revoke.sh", authority, "--refresh")
    assert call("verify.sh", *given, authority / "crl.pem").code == 0


def test_an_authority_whose_list_would_be_old_at_once_is_not_made(tmp_path: Path) -> None:
    assert "usage" in refused("authority.sh", tmp_path / "new", "--crl-days", "0")
    assert not (tmp_path / "new").exists()


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not here")
    files = sorted(CERTS.glob("*.sh"))
    assert len(files) == 7
    command = ["shellcheck", "--external-sources", f"--source-path={CERTS}", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "name", ["DNS:client-api", "DNS:localhost", "IP:127.0.0.1", "IP:127.0.0.2"]
)
def test_the_local_interface_has_a_certificate_for_every_way_of_deploying(
    site: Path, name: str
) -> None:
    certificate = site / "client-api.crt"
    said = script(
        "verify.sh", certificate, "--ca", certificate, "--key", site / "client-api.key", "--san",
        name,
    )  # fmt: skip
    assert "TLS Web Server Authentication" in said


def test_the_local_interfaces_certificate_signs_no_other(site: Path) -> None:
    command = ["openssl", "x509", "-in", str(site / "client-api.crt"), "-noout", "-text"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "CA:FALSE" in text
    assert "Certificate Sign" not in text


def test_the_local_interfaces_pair_is_made_for_other_names_and_never_replaced(
    tmp_path: Path,
) -> None:
    script("local-api.sh", tmp_path, "--san", "DNS:node.hospital", "--san", "IP:10.0.0.7")
    certificate = tmp_path / "client-api.crt"
    for name in ("DNS:node.hospital", "IP:10.0.0.7"):
        script("verify.sh", certificate, "--ca", certificate, "--san", name)
    other = ("--ca", certificate, "--san", "DNS:client-api")
    assert "is not for client-api" in refused("verify.sh", certificate, *other, code=1)
    before = (tmp_path / "client-api.key").read_bytes()
    assert "keys are not replaced" in refused("local-api.sh", tmp_path)
    assert (tmp_path / "client-api.key").read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [(), ("--san", "client-api"), ("--days", "0"), ("--name", "x"), ("--san",)]
)
def test_what_the_local_interfaces_script_does_not_know_makes_no_key(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    folder = tmp_path / "keys"
    if arguments:
        refused("local-api.sh", folder, *arguments)
    else:
        refused("local-api.sh")
    assert not folder.exists()
