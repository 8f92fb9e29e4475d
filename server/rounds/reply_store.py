"""Store of a round's validated adapters on disk, so that memory does not grow with the sites.

An adapter is decoded at every access and not cached. The files hold the bytes as received.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from common.adapter.adapter import Adapter
from common.adapter.serialization.message import decode
from common.errors import FederationError


class ReplyStore(Mapping[str, Adapter]):
    """Validated adapters of one round by site, in the order of the names.

    As a context manager it creates its folder, after removing what a killed process has left, and
    removes it at the end, also after an error.

    Args:
        folder: a folder of the run for this store alone.
        read: decodes an adapter; `common.adapter.serialization.message.decode` by default.
    """

    def __init__(self, folder: Path, read: Callable[[bytes], Adapter] = decode) -> None:
        self._folder = folder
        self._read = read
        self._files: dict[str, Path] = {}
        self._written = 0

    def __enter__(self) -> ReplyStore:
        self._clear()
        try:
            self._folder.mkdir(parents=True)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clear()

    def add(self, site: str, data: bytes) -> None:
        """Store a site's adapter.

        Args:
            site: the site's name; a second adapter of a site replaces the first.
            data: the validated adapter message.

        Raises:
            FederationError: it cannot be written, e.g. on a full disk.
        """
        # Numbered, as a name from the network must not become a file name.
        file = self._folder / f"{self._written}.safetensors"
        self._written += 1
        try:
            file.write_bytes(data)
        except OSError as error:
            file.unlink(missing_ok=True)
            raise _unwritable(self._folder, error) from error
        self._remove(site)
        self._files[site] = file

    def retain(self, sites: Collection[str]) -> None:
        """Remove the adapters of all other sites."""
        for site in self._files.keys() - set(sites):
            self._remove(site)

    def _remove(self, site: str) -> None:
        file = self._files.pop(site, None)
        if file is not None:
            file.unlink(missing_ok=True)

    def __getitem__(self, site: str) -> Adapter:
        file = self._files[site]
        try:
            data = file.read_bytes()
        except OSError as error:
            raise FederationError(
                f"the adapter of site {site!r} is no longer in {file} ({error.strerror or error}); "
                "leave the run folder unchanged and resume the run"
            ) from error
        return self._read(data)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    def _clear(self) -> None:
        self._files.clear()
        shutil.rmtree(self._folder, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> FederationError:
    return FederationError(
        f"the round's adapters cannot be written to {folder} ({error.strerror or error}); free "
        "space and resume the run, or give another folder"
    )
