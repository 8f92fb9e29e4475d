"""What a dry run writes: one page to read, the same as JSON, and every byte that would have gone.

what-would-leave.md    all names, shapes, numbers and words, after the policy's rounding
what-would-leave.json  the same, with the gate's own lines
join/, round/          announcement.bin, Flower's request; NN-KIND.bin, the pieces after it
round/adapter.safetensors   the adapter in the pieces, to be opened with any tool
app.log                what the app printed; it may name patients, and never leaves
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.dry_run.dry_run import DryRun, Outcome
from client.dry_run.offline_node import Kept
from common.adapter.serialization.header import read_header
from common.adapter.serialization.message import inspect
from common.config.run_config import RunConfig
from common.reporting.markdown import table_in_markdown

PAGE, RECORD = "what-would-leave.md", "what-would-leave.json"
ADAPTER = "adapter.safetensors"
_SENT = "sent"


def write_dry_run(run: DryRun, out: Path) -> None:
    """Write all that would have left into a folder.

    Args:
        run: the dry run.
        out: its folder.
    """
    usual = RunConfig().flat()
    settings = run.settings.flat()
    record = {
        "dry-run": True,
        "began": run.began.isoformat(timespec="seconds"),
        "site": run.site,
        "bundle": {"name": run.bundle.name, "sha256": run.bundle.sha256},
        "settings": settings,
        "given": {key: value for key, value in settings.items() if value != usual[key]},
        "copied-ledger": run.ledger,
        "shut-in": run.shut_in,
        "saw-key": run.saw_key,
        "answers": {outcome.name: _write_answer(outcome, out) for outcome in run.outcomes},
    }
    (out / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / PAGE).write_text("\n".join(_page(record)) + "\n", encoding="utf-8")


def _write_answer(outcome: Outcome, out: Path) -> dict[str, Any]:
    """Write the request and the pieces as they are; return the gate's line with what they hold."""
    folder = out / outcome.name
    folder.mkdir()
    pieces = {"announcement.bin": outcome.kept.announcement}
    for number, content in enumerate(outcome.kept.objects.values(), start=1):
        pieces[f"{number:02d}-{_kind(content)}.bin"] = content
    answer = dict(outcome.entry)
    if outcome.leaves and "adapter" in answer:
        data = _adapter(outcome.kept)
        pieces[ADAPTER] = data
        answer["adapter"] = {**answer["adapter"], **_told(data)}
    for name, content in pieces.items():
        (folder / name).write_bytes(content)
    files = [
        (f"{outcome.name}/{name}", len(content), hashlib.sha256(content).hexdigest())
        for name, content in pieces.items()
    ]
    return {**answer, "files": files}


def _adapter(kept: Kept) -> bytes:
    """The adapter's bytes, put together from the pieces in the order that their array gives."""
    array = next(one for one in kept.objects.values() if _kind(one) == "Array")
    head, _, body = array.partition(b"\0")
    children = head.split(b" ")[1].decode("ascii").split(",")
    order = json.loads(body)["arraychunk_ids"]
    return b"".join(kept.objects[children[index]].partition(b"\0")[2] for index in order)


def _told(data: bytes) -> dict[str, Any]:
    """What an adapter tells: the words in its header, and each matrix's name, shape and norm."""
    matrices = [
        (name, list(matrix.shape), float(np.linalg.norm(matrix)))
        for name, matrix in inspect(data).matrices.items()
    ]
    return {"header": dict(read_header(data, len(data)).metadata), "matrices": matrices}


def _kind(content: bytes) -> str:
    """What an object of Flower's is: the first word of its head."""
    return content.partition(b" ")[0].decode("ascii")


def _page(record: Mapping[str, Any]) -> Iterator[str]:
    given = [f"{key} = {value}" for key, value in record["given"].items()]
    ledger = (
        "as the site's ledger has it, of which a copy was used"
        if record["copied-ledger"]
        else "untouched, since the site has no ledger where this ran"
    )
    yield from (
        f"# What would leave {record['site']}",
        "",
        f"A dry run of {record['began']}. The node sent nothing, and wrote neither to the audit",
        "log nor to the privacy ledger.",
        "",
        f"- App bundle: {record['bundle']['name']}, SHA-256 {record['bundle']['sha256']}",
        f"- With these settings: {', '.join(given) or 'none'}; all others as in this release.",
        "  The coordinator's are not known here. With others, other things leave: ask for them,",
        "  and give each with -c.",
        "- Round 1, from a fresh adapter. The names and shapes of later rounds are the same.",
        f"- The privacy budget: {ledger}.",
        *_confinement(record),
    )
    for name, answer in record["answers"].items():
        yield ""
        yield from _answer(name, answer)
    yield from (
        "",
        "## What Flower adds",
        "",
        "The announcement names the run, the site and the question by Flower's numbers (others in",
        "a real run), and the time; its field for the seconds that the app worked is zero.",
        "Beside its answers the node sends its public key, the version of Flower, a sign of life",
        "every 4 s and, while it is idle, the question for a message every 3 s.",
    )


def _confinement(record: Mapping[str, Any]) -> Iterator[str]:
    """What the app's process could have done beside its work."""
    if record["shut-in"]:
        yield "- The app was shut in: its process had no network but a loopback interface."
    else:
        yield "- The app was NOT shut in: its process could reach what this machine reaches, and"
        yield "  what it may have sent is not known here."
    if record["saw-key"]:
        yield "  It could have read the node's key: if you do not trust the bundle, make a new one."
    else:
        yield "  It could not read the node's key where site.toml has it."
    yield "  It was free to read and write the files of the user who started this."


def _answer(name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["decision"] == _SENT:
        yield f"## {name}: would leave, {answer['bytes']:,} bytes"
    else:
        yield f"## {name}: would stay"
        yield ""
        yield f"Reason: {answer.get('detail') or answer['reason']}. In its place an error goes, and"
        yield "no more."
    for record, values in answer.get("configs", {}).items():
        yield from _values(f"record {record}", values)
    yield from _values("record report", answer.get("metrics", {}))
    if "adapter" in answer:
        yield from _adapter_section(answer["adapter"])
    yield ""
    files = [(file, f"{size:,}", digest) for file, size, digest in answer["files"]]
    yield from _table(("file", "bytes", "SHA-256"), files)


def _adapter_section(adapter: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"The adapter: rank {adapter['rank']}, norm {adapter['norm']:.6g}, {adapter['bytes']:,}"
    yield f"bytes, SHA-256 {adapter['sha256']}. Its"
    yield "words are those of the adapter that came, to the letter; its numbers are the site's."
    yield from _values("word in its header", adapter["header"])
    yield ""
    matrices = [(name, _shape(shape), f"{norm:.6g}") for name, shape, norm in adapter["matrices"]]
    yield from _table(("matrix", "shape", "norm"), matrices)
    yield ""
    packed = [(name, dtype, _shape(shape)) for name, dtype, shape in adapter["tensors"]]
    yield from _table(("packed as", "numbers", "shape"), packed)


def _values(title: str, values: Mapping[str, Any]) -> Iterator[str]:
    if values:
        yield ""
        yield from _table((title, "value"), [(k, json.dumps(v)) for k, v in values.items()])


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield table_in_markdown(head, [[cell.replace("|", r"\|") for cell in row] for row in rows])
