"""Two tables that differ in one patient, and what a site answers on either.

A trial is a site's whole part in a round, from its table file to the bytes that would leave it:
the windows are cut, the budget is opened and reserved in a ledger, and
`client.app.local_round.take_part` trains and encodes. The site is a hospital: it declares its
number of patients, as every site must.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.app.dataset import load_site
from client.app.local_round import RoundOrder, site_backbone, take_part
from client.app.node_config import NodeSettings
from client.privacy.budget_ledger import Ledger
from client.privacy.budget_session import open_session
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import decode
from common.config.run_config import RunConfig
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.splits import split_of
from common.seeds import derive_seed

Array = npt.NDArray[np.float64]

STEPS = 30
"""Of every stay: one window of the heart rate each."""
CANARY_LOW, CANARY_HIGH = 25.0, 240.0


@dataclass(frozen=True)
class World:
    """A site with one of the two tables.

    Attributes:
        name: of the table's file, and of the site's state.
        config: the run's settings; the noise of a trial comes from its number and `seed`.
        node: the hospital's own settings.
        received: the adapter that the server sends, the same in every trial.
        seed: of the noise of all trials of this world.
    """

    name: str
    config: RunConfig
    node: NodeSettings
    received: Adapter
    seed: int

    def answer(self, trial: int, *, noise: bool = True) -> Array:
        """Return by how much the site's answer moved the adapter, all of its numbers in a row.

        Args:
            trial: decides the noise.
            noise: False for a site that forgets it, to show what the attack can do.
        """
        seed = derive_seed(self.seed, self.name, trial)
        privacy = self.config.privacy.replace(noise_seed=seed)
        config = self.config.replace(privacy=privacy)
        data = load_site(self.node, config, "site", config.windows)
        # A state of its own for each trial: a site would refuse to answer a round so often.
        shutil.rmtree(self.node.state_path, ignore_errors=True)
        session = open_session(
            self.node.state_path,
            config.privacy,
            site="site",
            table_digest=data.digest,
            run=f"{trial}",
            round_number=1,
            rounds=config.rounds,
            round_steps=config.private_steps,
            limit=None,
        )
        if not noise:
            session.plan = replace(session.plan, noise_multiplier=0.0)
        order = RoundOrder("site", 1, f"{trial}", True, self.received)
        sent, _ = take_part(order, data, config, self.node, session)
        assert sent is not None  # it was asked to train
        adapter = decode(sent, shared=self.received)
        moved = [
            adapter.tensors[name].astype(np.float64) - before.astype(np.float64)
            for name, before in self.received.tensors.items()
            if name.endswith("lora_B.weight")
        ]
        return np.concatenate([part.ravel() for part in moved])

    def noise_multiplier(self) -> float:
        """Return sigma of the last trial, as the site's ledger has it."""
        return Ledger(self.node.state_path).runs("site")[-1].plan.noise_multiplier


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder for the trials' ledgers: in memory where there is one, as each is flushed."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fedvitals-attack-", dir=place) as folder:
        yield Path(folder)


def make_worlds(
    folder: Path, config: RunConfig, patients: int, declared: int, seed: int
) -> tuple[World, World]:
    """Write the two tables and return the site with the patient and the site without.

    Args:
        folder: where tables and states go.
        config: the run's settings, with privacy on.
        patients: in the larger table; the last of them is the one in question, whose heart rate
            jumps from one end of what is valid to the other.
        declared: the number that the site declares, the same in both worlds.
        seed: of the patients and the noise.
    """
    table = _table(patients, seed)
    names = sorted(set(table["patient_id"]), key=int)
    tables = {"with": table, "without": table[table["patient_id"] != names[-1]]}
    worlds = []
    for name, rows in tables.items():
        path = folder / f"{name}.parquet"
        write_site_table(make_site_table(rows, SiteTableInfo("site", "made", "made", 60)), path)
        node = NodeSettings(
            data_path=path, site_id="site", state_path=folder / f"state-{name}", patients=declared
        )
        received = site_backbone(config, node).fresh_adapter(derive_seed(config.seed, "adapter"))
        worlds.append(World(name, config, node, received, seed))
    return worlds[0], worlds[1]


def _table(patients: int, seed: int) -> pd.DataFrame:
    """Stays of `STEPS` hours of patients that all belong to the training split."""
    random = np.random.default_rng(seed)
    ids = [str(number) for number in range(20 * patients + 100) if split_of(str(number)) == "train"]
    ids = ids[:patients]
    rates = 80.0 + random.normal(0, 3, (patients, STEPS)).cumsum(axis=1)
    rates[-1] = np.where(np.arange(STEPS) % 2, CANARY_LOW, CANARY_HIGH)
    return pd.DataFrame(
        {
            "patient_id": np.repeat(ids, STEPS),
            "stay_id": np.repeat([f"{10 * int(name)}" for name in ids], STEPS),
            "step": np.tile(np.arange(STEPS), patients),
            "heart_rate": np.clip(rates, CANARY_LOW, CANARY_HIGH).ravel(),
        }
    )
