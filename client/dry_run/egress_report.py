"""Report of a dry run: a page, the same as JSON, and every byte that would have been sent.

what-would-leave.md    every name, shape, number and text, after the policy's rounding
what-would-leave.json  the same, with the gate's decisions
join/, round/          announcement.bin, Flower's request; NN-KIND.bin, the objects after it
round/adapter.safetensors   the adapter in these objects, readable with any safetensors tool
app.log                the app's output; it may name patients, and never leaves
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.dry_run.dry_run import DryRun, DryRunReply
from client.dry_run.offline_node import CapturedMessage
from common.adapter.serialization.header import read_header
from common.adapter.serialization.message import inspect
from common.config.run_config import RunConfig
from common.files.atomic_io import write_text
from common.reporting.markdown import table_in_markdown

PAGE_NAME, RECORD_NAME = "what-would-leave.md", "what-would-leave.json"
ADAPTER = "adapter.safetensors"
_SENT = "sent"


def write_dry_run(run: DryRun, out: Path) -> None:
    """Write the report of a dry run.

    Args:
        run: the dry run.
        out: its folder.
    """
    defaults = RunConfig().flat()
    settings = run.settings.flat()
    record = {
        "dry-run": True,
        "began": run.began.isoformat(timespec="seconds"),
        "site": run.site,
        "bundle": {"name": run.bundle.name, "sha256": run.bundle.sha256},
        "settings": settings,
        "given": {key: value for key, value in settings.items() if value != defaults[key]},
        "copied-ledger": run.ledger,
        "shut-in": run.sandboxed,
        "saw-key": run.key_readable,
        "answers": {reply.name: _write_reply(reply, out) for reply in run.replies},
    }
    write_text(out / RECORD_NAME, json.dumps(record, indent=1) + "\n")
    write_text(out / PAGE_NAME, "\n".join(_page(record)) + "\n")


def _write_reply(reply: DryRunReply, out: Path) -> dict[str, Any]:
    """Write a reply's captured bytes; return the gate's decision with the files' facts."""
    folder = out / reply.name
    folder.mkdir()
    files = {"announcement.bin": reply.captured.announcement}
    for number, content in enumerate(reply.captured.objects.values(), start=1):
        files[f"{number:02d}-{_kind(content)}.bin"] = content
    facts = dict(reply.entry)
    if reply.leaves and "adapter" in facts:
        data = _adapter(reply.captured)
        files[ADAPTER] = data
        facts["adapter"] = {**facts["adapter"], **_adapter_facts(data)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = [
        (f"{reply.name}/{name}", len(content), hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    ]
    return {**facts, "files": digests}


def _adapter(captured: CapturedMessage) -> bytes:
    """Join the adapter's chunks in the order that their array gives."""
    array = next(one for one in captured.objects.values() if _kind(one) == "Array")
    head, _, body = array.partition(b"\0")
    children = head.split(b" ")[1].decode("ascii").split(",")
    order = json.loads(body)["arraychunk_ids"]
    return b"".join(captured.objects[children[index]].partition(b"\0")[2] for index in order)


def _adapter_facts(data: bytes) -> dict[str, Any]:
    """Return an adapter's header, and each matrix's name, shape and norm."""
    matrices = [
        (name, list(matrix.shape), float(np.linalg.norm(matrix)))
        for name, matrix in inspect(data).matrices.items()
    ]
    return {"header": dict(read_header(data, len(data)).metadata), "matrices": matrices}


def _kind(content: bytes) -> str:
    """Return the kind of a Flower object: the first word of its head."""
    return content.partition(b" ")[0].decode("ascii")


def _page(record: Mapping[str, Any]) -> Iterator[str]:
    given = [f"{key} = {value}" for key, value in record["given"].items()]
    ledger = (
        "the present balance of the site's ledger, of which a copy was used"
        if record["copied-ledger"]
        else "unspent, since there is no ledger where this ran"
    )
    yield from (
        f"# What would leave {record['site']}",
        "",
        f"A dry run of {record['began']}. The node sent nothing, and wrote neither to the audit",
        "log nor to the privacy ledger.",
        "",
        f"- App bundle: {record['bundle']['name']}, SHA-256 {record['bundle']['sha256']}",
        f"- Settings given: {', '.join(given) or 'none'}; all others are this release's defaults.",
        "  The coordinator's settings are not known here, and change what leaves: ask for them,",
        "  and give each with -c.",
        "- Round 1, from a fresh adapter. The names and shapes of later rounds are the same.",
        f"- The privacy budget: {ledger}.",
        *_confinement(record),
    )
    for name, answer in record["answers"].items():
        yield ""
        yield from _reply_section(name, answer)
    yield from (
        "",
        "## What Flower adds",
        "",
        "The announcement names the run, the site and the request by Flower's numbers (others in",
        "a real run), and the time; its field for the seconds that the app worked is zero.",
        "Beside its replies the node sends its public key, the version of Flower, a heartbeat",
        "every 4 s and, while it is idle, a request for a message every 3 s.",
    )


def _confinement(record: Mapping[str, Any]) -> Iterator[str]:
    """List what the app's process could have done beyond its task."""
    if record["shut-in"]:
        yield "- The app was sandboxed: its process had no network except a loopback interface."
    else:
        yield "- The app was NOT sandboxed: its process could reach what this machine reaches, and"
        yield "  what it may have sent is not known here."
    if record["saw-key"]:
        yield "  It could have read the node's key: if you do not trust the bundle, make a new one."
    else:
        yield "  It could not read the node's key at its path in site.toml."
    yield "  It could read and write the files of the user who started this."


def _reply_section(name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    if answer["decision"] == _SENT:
        yield f"## {name}: would leave, {answer['bytes']:,} bytes"
    else:
        yield f"## {name}: would stay"
        yield ""
        yield f"Reason: {answer.get('detail') or answer['reason']}. Only an error is sent instead."
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
    yield "header is that of the received adapter, to the byte; its numbers are the site's."
    yield from _values("header field", adapter["header"])
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
