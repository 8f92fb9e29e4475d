"""Small inputs of the documents' commands: archives, tables, policies, a bundle."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from client.cli import app as client
from client.config.node_section import Address
from client.egress.audit.audit_log import AuditLog
from client.ingest.pseudonyms import default_secret
from client.node.health import Heartbeat, serve_health
from common.console import run
from server.cli import app as server
from simulation.cli import app as simulation
from simulation.cohorts.synthetic import write_synthetic_mimic
from tests.client.ingest.example_tables import write_long, write_sql
from tests.docs.documents import REPOSITORY
from tests.integration.setup.deployed import copy_app, provision, script
from tests.integration.setup.gate_setting import make_node_key
from tests.samples.ports import free_port
from tests.simulation.cohorts.eicu.eicu_folder import hours_of_monitor, write_eicu
from tests.simulation.cohorts.physionet_challenge.test_archive import pack
from tests.simulation.cohorts.physionet_challenge.test_challenge2012 import record as record_2012
from tests.simulation.cohorts.physionet_challenge.test_challenge2019 import HEADER

EXAMPLES = REPOSITORY / "deploy" / "site"
SECRET = "5e" * 32
UNITS = {"1|0": 12, "0|1": 12, "NaN|NaN": 12}
"""Patients of the 2019 archive by the columns Unit1 and Unit2."""


class Beating(Heartbeat):
    """Of a node whose coordinator has just answered."""

    def age_s(self) -> float:
        return 0.0


def keep_splits() -> None:
    """Lay out the secret that hashes patients' ids, so that each split has the same few patients.

    A secret drawn anew would now and then leave a split without a patient.
    """
    path = default_secret()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"{SECRET}\n")


@dataclass
class Materials:
    """Made once for all documents, each thing when a command first asks for it.

    Attributes:
        folder: their folder.
        backbone: a tiny one.
        cohort: three sites of a few patients, ccu, micu and sicu.
        servers: what has been started; held, since gRPC ends a server that nobody refers to.
        done: commands that need not be run again.
    """

    folder: Path
    backbone: Path
    cohort: Path
    servers: list[Any] = field(default_factory=list)
    done: set[str] = field(default_factory=set)

    @cached_property
    def mimic(self) -> Path:
        """MIMIC-III's tables of a few synthetic stays."""
        folder = self.folder / "mimic"
        write_synthetic_mimic(folder, stays=70, seed=0)
        return folder

    @cached_property
    def archive_2019(self) -> Path:
        return self._archive_2019("challenge-2019.tar.xz", "training_setB/p1000{:02d}.psv")

    @cached_property
    def archive_2019_a(self) -> Path:
        return self._archive_2019("challenge-2019-a.tar.xz", "training_setA/p0000{:02d}.psv")

    def _archive_2019(self, name: str, record: str) -> Path:
        draw = random.Random(0)
        files = {}
        for number, units in enumerate(unit for unit, count in UNITS.items() for _ in range(count)):
            rows = [
                f"{draw.gauss(85, 9):.0f}|{draw.randint(93, 99)}|{draw.gauss(37, 0.4):.1f}|"
                f"{draw.gauss(120, 9):.0f}|{draw.gauss(80, 6):.0f}|{draw.gauss(60, 5):.0f}|"
                f"{draw.gauss(18, 3):.0f}|NaN|60|{number % 2}|{units}|{hour}|{int(hour > 20)}"
                for hour in range(1, 37)
            ]
            files[record.format(number)] = ("\n".join((HEADER, *rows)) + "\n").encode()
        return pack(self.folder / name, files, "w:xz")

    @cached_property
    def archive_2012(self) -> Path:
        draw = random.Random(0)
        files = {}
        for number in range(48):
            rows = [
                f"{hour:02d}:00,{name},{draw.gauss(level, 5):.0f}"
                for hour in range(36)
                for name, level in (("HR", 85), ("NISysABP", 120), ("NIMAP", 80), ("RespRate", 18))
            ]
            text = record_2012(*rows, icu_type=1 + number % 4)
            files[f"set-a/{number}.txt"] = text.encode()
        return pack(self.folder / "challenge-2012.tar.xz", files, "w:xz")

    @cached_property
    def eicu(self) -> Path:
        """A folder in eICU's layout with two hospitals."""
        folder = self.folder / "eicu"
        folder.mkdir()
        patients = [
            {
                "patientunitstayid": number,
                "uniquepid": f"002-{number}",
                "hospitalid": 73 + number % 2,
                "apacheadmissiondx": "Sepsis, pulmonary",
            }
            for number in range(1, 5)
        ]
        rows = [row for number in range(1, 5) for row in hours_of_monitor(number, 14)]
        return write_eicu(folder, patients, rows)

    @cached_property
    def challenge_cohort(self) -> Path:
        """The 2019 archive, prepared."""
        out = self.folder / "c19"
        command = ["prepare", "challenge-2019", "--source", str(self.archive_2019)]
        assert run(simulation, [*command, "--out", str(out)]) == 0
        return out

    @cached_property
    def export(self) -> Path:
        """A folder with a hospital's own tables, as the example mappings describe them."""
        folder = self.folder / "export"
        folder.mkdir()
        write_long(folder)
        write_sql(folder)
        return folder

    @cached_property
    def site(self) -> Path:
        """The folder that `ingest` makes of the export."""
        keep_splits()
        out = self.folder / "site"
        mapping = shutil.copy(EXAMPLES / "mapping.long.toml", self.export / "mapping.toml")
        command = ["ingest", "--table", str(self.export / "observations.csv.gz")]
        assert run(client, [*command, "--mapping", str(mapping), "--out", str(out)]) == 0
        return out

    @cached_property
    def table(self) -> Path:
        (table,) = (self.site / "sites").glob("*.parquet")
        return table

    @cached_property
    def health(self) -> Address:
        """Health address of a connected node; it answers until the process ends."""
        address = Address("127.0.0.1", free_port())
        self.servers.append(serve_health(address, Beating()))
        return address

    @cached_property
    def keys(self) -> Path:
        """The coordinator's certificate and key, signed by an authority."""
        authority = self.folder / "authority"
        script("authority.sh", authority)
        names = ("--san", "DNS:localhost")
        return provision(authority, "server", "coordinator", self.folder / "coordinator", *names)

    @cached_property
    def bundle(self) -> Path:
        """The app as sites get it."""
        file = self.folder / "fedvitals.fab"
        assert run(server, ["bundle", "--app", str(self.app), "--out", str(file)]) == 0
        return file

    @cached_property
    def app(self) -> Path:
        """The files of the app alone: Flower looks at all that is below its folder."""
        folder = self.folder / "app"
        copy_app(folder)
        return folder

    @cached_property
    def run(self) -> Path:
        """The folder of a run of one round."""
        out = self.folder / "run"
        command = ["run", "--data", str(self.cohort), "--backbone", str(self.backbone)]
        small = ["--rounds", "1", "-c", "train.steps=1", "-c", "windows.vitals=heart_rate"]
        assert run(simulation, [*command, *small, "--out", str(out)]) == 0
        return out

    @property
    def release(self) -> Path:
        """The adapter that it released."""
        return self.run / "adapter"

    @cached_property
    def public_key(self) -> Path:
        """A node's public key."""
        key = self.folder / "node.key"
        make_node_key(key)
        return key.with_suffix(".key.pub")


Maker = Callable[[Materials, Path], object]


def copied(name: str) -> Maker:
    """Give a copy of one of the materials, by the attribute's name."""

    def make(materials: Materials, place: Path) -> None:
        source = getattr(materials, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, place)

    return make


def example(name: str) -> Maker:
    """Give a copy of one of the files in deploy/."""

    def make(materials: Materials, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "deploy" / name, place)

    return make


def tables_beside(materials: Materials, place: Path) -> None:
    """Give a hospital's tables; the mapping names some, which have to lie beside it."""
    for path in materials.export.iterdir():
        if path.suffix != ".toml":
            shutil.copy(path, place.parent)
    if not place.exists():
        shutil.copy(place.parent / "observations.csv.gz", place)


def mapping_beside(materials: Materials, place: Path) -> None:
    """Give the example mapping of a long table, with what it names."""
    tables_beside(materials, place.parent / "observations.csv.gz")
    shutil.copy(EXAMPLES / "mapping.long.toml", place)


def query_beside(materials: Materials, place: Path) -> None:
    """Give the example mapping of a query, with its database."""
    tables_beside(materials, place.parent / "observations.csv.gz")
    shutil.copy(EXAMPLES / "mapping.sql.toml", place)


def site_settings(materials: Materials, place: Path) -> None:
    """Give site.toml with a table and a log of one message that left."""
    place.parent.mkdir(parents=True, exist_ok=True)
    text = (EXAMPLES / "site.toml").read_text(encoding="utf-8")
    for old, new in {
        "/data/site.parquet": str(materials.table),
        "/var/lib/fedvitals": "state",
        "127.0.0.1:9095": str(materials.health),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    place.write_text(text, encoding="utf-8")
    key = place.parent / "private" / "node.key"
    if not key.exists():
        key.parent.mkdir(exist_ok=True)
        make_node_key(key)
    log = AuditLog(place.parent / "state" / "audit.jsonl")
    entry = {"kind": "train", "round": 1, "decision": "sent", "reason": "allowed", "bytes": 148_000}
    log.append(entry, datetime(2026, 3, 2, tzinfo=UTC))
    if not (place.parent / "policy.toml").exists():
        shutil.copy(EXAMPLES / "policy.toml", place.parent)


def server_settings(materials: Materials, place: Path) -> None:
    """Give server.toml with its state and its certificate beside it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(materials.keys, place.parent / "private", dirs_exist_ok=True)
    text = (REPOSITORY / "deploy" / "server" / "server.toml").read_text(encoding="utf-8")
    for old, new in {
        "/var/lib/fedvitals/server": "state",
        "/opt/fedvitals/app": str(REPOSITORY),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    place.write_text(text, encoding="utf-8")


GIVEN: Mapping[str, Maker] = {
    "cohort": copied("cohort"),
    "c19": copied("challenge_cohort"),
    "run": copied("run"),
    "my-weights": copied("backbone"),
    "mimic-iii": copied("mimic"),
    "eicu": copied("eicu"),
    "eicu-demo": copied("eicu"),
    "mimic3-demo": copied("mimic"),
    "challenge-2019-training_setA.tar.xz": copied("archive_2019_a"),
    "challenge-2019-training_setB.tar.xz": copied("archive_2019"),
    "challenge-2019-training_setB-even.tar.xz": copied("archive_2019"),
    "challenge-2012-set-a.tar.xz": copied("archive_2012"),
    "export.csv.gz": tables_beside,
    "observations.csv.gz": tables_beside,
    "mapping.toml": mapping_beside,
    "mapping.sql.toml": query_beside,
    "site-table": copied("site"),
    "fedvitals.fab": copied("bundle"),
    "policy.toml": example("site/policy.toml"),
    "site.toml": site_settings,
    "server.toml": server_settings,
    "GLOBAL": copied("release"),
    "node.pub": copied("public_key"),
}
"""Inputs by name, for names that no command before has made."""
