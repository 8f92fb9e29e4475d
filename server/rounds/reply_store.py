"""A round's admitted adapters, kept on disk until the round ends.

The server's memory then does not grow with the number of sites: an adapter is decoded when a rule
looks at it, and forgotten after. The files hold the bytes as they came.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from common.adapter.adapter import Adapter
from common.adapter.serialization.message import decode
from common.errors import FederationError


class Spool(Mapping[str, Adapter]):
    """The adapters of one round by site, in the order of the names.

    Every look reads and decodes the file anew. Used as a context, it makes its folder and removes
    it, whatever happens in between; what a killed process has left there is removed first.

    Args:
        folder: a folder of the run that is the spool's alone.
        read: makes an adapter of the bytes; by default
        `common.adapter.serialization.message.decode`.
    """

    def __init__(self, folder: Path, read: Callable[[bytes], Adapter] = decode) -> None:
        self._folder = folder
        self._read = read
        self._files: dict[str, Path] = {}
        self._written = 0

    def __enter__(self) -> Spool:
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
        """Keep a site's adapter.

        Args:
            site: the site's name; a second adapter of a site takes the first one's place.
            data: the adapter on the wire, admitted.

        Raises:
            FederationError: where it cannot be written, e.g. on a full disk.
        """
        # Numbered, since a name that came over the network must not name a file.
        file = self._folder / f"{self._written}.safetensors"
        self._written += 1
        try:
            file.write_bytes(data)
        except OSError as error:
            file.unlink(missing_ok=True)
            raise _unwritable(self._folder, error) from error
        self.discard(site)
        self._files[site] = file

    def discard(self, site: str) -> None:
        """Forget a site's adapter, if there is one: refused when all replies are known."""
        file = self._files.pop(site, None)
        if file is not None:
            file.unlink(missing_ok=True)

    def __getitem__(self, site: str) -> Adapter:
        file = self._files[site]
        try:
            data = file.read_bytes()
        except OSError as error:
            raise FederationError(
                f"the adapter of site {site!r} is not in {file} any more "
                f"({error.strerror or error}); leave the run folder alone and resume the run"
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
        f"the round's adapters cannot be kept in {folder} ({error.strerror or error}); free space "
        "and resume the run, or give another folder"
    )
