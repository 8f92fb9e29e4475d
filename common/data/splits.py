"""Assignment of patients to train, validation and test, by a keyed hash of the patient's id.

The split depends on the patient alone: it stays the same when other patients are added or removed
or the cohort is prepared again, and two tables that share a patient agree on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

SPLITS: tuple[str, ...] = ("train", "validation", "test")
SPLIT_SHARES: tuple[float, ...] = (0.7, 0.1, 0.2)
DEFAULT_SPLIT_KEY = "fedvitals-split-1"
"""Key of the hash; another key gives another split. Stored in the metadata of every table."""


def split_of(patient_id: str, key: str = DEFAULT_SPLIT_KEY) -> str:
    """Return the split of one patient.

    Args:
        patient_id: the id in the site table.
        key: the key of the hash, at most 64 bytes.

    Returns:
        One of `SPLITS`, with the probabilities `SPLIT_SHARES` over random keys.
    """
    digest = blake2b(patient_id.encode(), key=key.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    bounds = np.cumsum(SPLIT_SHARES)[:-1]
    return SPLITS[int(np.searchsorted(bounds, position, side="right"))]


def assign_splits(
    patient_ids: Iterable[str], key: str = DEFAULT_SPLIT_KEY
) -> npt.NDArray[np.object_]:
    """Return the split of each row's patient, hashing each patient once.

    Args:
        patient_ids: one id per row, [N].
        key: see `split_of`.

    Returns:
        The split names, [N].
    """
    ids = np.asarray(list(patient_ids), dtype=object)
    unique, inverse = np.unique(ids, return_inverse=True)
    splits = np.array([split_of(str(patient), key) for patient in unique], dtype=object)
    return splits[inverse] if len(unique) else np.empty(0, dtype=object)
