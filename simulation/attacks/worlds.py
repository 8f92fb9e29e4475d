"""Two site tables that differ in one patient, and the site's replies with each.

A trial is a site's local round, from its table file to the encoded reply: the windows are cut, the
budget is opened and reserved in a ledger, and `client.app.local_round.run_local_round` trains and
encodes. The site declares its number of patients, as every hospital must.
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
from client.app.local_round import RoundRequest, run_local_round, site_backbone
from client.app.node_config import NodeSettings
from client.privacy.budget_ledger import Ledger
from client.privacy.budget_session import open_session
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import decode
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.splits import split_of

Array = npt.NDArray[np.float64]

_STEPS = 30
"""Steps of every stay, enough for one window of the heart rate."""
_CANARY_LOW, _CANARY_HIGH = 25.0, 240.0


@dataclass(frozen=True)
class World:
    """A site with one of the two tables.

    Attributes:
        name: name of the table's file and of the site's state.
        config: the run's settings; the noise of a trial depends on its number and `seed`.
        node: the hospital's own settings.
        received: the adapter that the server sends, the same in every trial.
        seed: seed of the noise of all trials.
    """

    name: str
    config: RunConfig
    node: NodeSettings
    received: Adapter
    seed: int

    def reply(self, trial: int, *, noise: bool = True) -> Array:
        """Return the change of the adapter in the site's reply, flattened to one axis.

        Args:
            trial: selects the noise.
            noise: False for a site that omits it, which shows the power of the attack.
        """
        seed = derive_seed(self.seed, self.name, trial)
        privacy = self.config.privacy.replace(noise_seed=seed)
        config = self.config.replace(privacy=privacy)
        data = load_site(self.node, config, "site", config.windows)
        # A fresh state for each trial, since a site refuses to repeat a round.
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
        request = RoundRequest("site", 1, f"{trial}", True, self.received)
        sent, _ = run_local_round(request, data, config, self.node, session)
        assert sent is not None  # the request was to train
        adapter = decode(sent, shared=self.received)
        moved = [
            adapter.tensors[name].astype(np.float64) - before.astype(np.float64)
            for name, before in self.received.tensors.items()
            if name.endswith("lora_B.weight")
        ]
        return np.concatenate([part.ravel() for part in moved])

    def noise_multiplier(self) -> float:
        """Return sigma of the last trial, from the site's ledger."""
        return Ledger(self.node.state_path).runs("site")[-1].plan.noise_multiplier


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder for the trials' ledgers, in memory if possible: each write is flushed."""
    memory = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fedvitals-attack-", dir=place) as folder:
        yield Path(folder)


def make_worlds(
    folder: Path, config: RunConfig, patients: int, declared: int, seed: int
) -> tuple[World, World]:
    """Write the two tables and return the site with the patient and the site without.

    Args:
        folder: folder of the tables and states.
        config: the run's settings, with privacy on.
        patients: patients in the larger table; the last is the target, whose heart rate alternates
            between both ends of the valid range.
        declared: number of patients that the site declares in both worlds.
        seed: seed of the patients and the noise.
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
    """Return stays of `_STEPS` hours of patients in the training split."""
    random = np.random.default_rng(seed)
    ids = [str(number) for number in range(20 * patients + 100) if split_of(str(number)) == "train"]
    ids = ids[:patients]
    rates = 80.0 + random.normal(0, 3, (patients, _STEPS)).cumsum(axis=1)
    rates[-1] = np.where(np.arange(_STEPS) % 2, _CANARY_LOW, _CANARY_HIGH)
    return pd.DataFrame(
        {
            "patient_id": np.repeat(ids, _STEPS),
            "stay_id": np.repeat([f"{10 * int(name)}" for name in ids], _STEPS),
            "step": np.tile(np.arange(_STEPS), patients),
            "heart_rate": np.clip(rates, _CANARY_LOW, _CANARY_HIGH).ravel(),
        }
    )
