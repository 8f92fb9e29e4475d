"""Assignment of patients to train, validation and test, by a keyed hash of the patient's id.

The split by hash depends on the patient alone: it stays the same when other patients are added or
removed or the cohort is prepared again, and two tables that share a patient agree on it. A hospital
may have a split of its own (`client.site_split`); the hash then draws validation patients from its
training patients.
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
    position = _position(patient_id, key)
    bounds = np.cumsum(SPLIT_SHARES)[:-1]
    return SPLITS[int(np.searchsorted(bounds, position, side="right"))]


def _position(patient_id: str, key: str) -> float:
    digest = blake2b(patient_id.encode(), key=key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def draw_validation(
    patient_ids: Iterable[str],
    splits: Iterable[str],
    share: float,
    key: str = DEFAULT_SPLIT_KEY,
) -> npt.NDArray[np.object_]:
    """Return the splits with a share of the training patients in validation, each patient whole.

    Args:
        patient_ids: one id per row, [N].
        splits: the split of each row's patient, [N].
        share: probability of a training patient, over random keys.
        key: see `split_of`.

    Returns:
        The split names, [N].
    """
    ids = np.asarray(list(patient_ids), dtype=object)
    unique, inverse = np.unique(ids, return_inverse=True)
    drawn = np.array([_position(str(patient), key) < share for patient in unique], dtype=bool)
    given = np.asarray(list(splits), dtype=object)
    return np.where(drawn[inverse] & (given == "train"), "validation", given)


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
