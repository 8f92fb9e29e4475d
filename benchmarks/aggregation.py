"""Cost of the aggregation rules: processor time and peak memory by the number of sites.

    python benchmarks/aggregation.py [--sites 5 50 500] [--rules fedavg svd ...] [--scratch DIR]

The adapters are as large as those of chronos-bolt-base at rank 8: 12 + 12 layers, 768 wide, 1.5
million numbers, 6 MB each. They are on disk, like the replies of a round: 3 GB for 500 sites. Each
case runs in a process of its own on one thread and is measured in processor time. Memory is the
peak of that process above one that decodes a single adapter and aggregates nothing. Prints a table
of ratios to FedAvg with the fewest sites.

FedAvg and FFA hold only sums. The other rules process blocks of layers and read every site once per
block. Median and trimmed mean hold a block of all sites, of bounded size; Krum's distances take
sites x sites numbers, and its time grows with the square of the sites.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.message import decode, encode
from common.config.sections import RULES, AggregationConfig
from server.aggregation.rules import aggregate
from server.rounds.reply_store import ReplyStore

WIDTH, LAYERS, RANK = 768, 12, 8
FEW = 10
"""Up to this many sites a case is measured three times."""


class Cost(NamedTuple):
    """Cost of a case: processor seconds, and peak bytes of its process."""

    seconds: float
    peak: int


def main() -> None:
    """Measure all cases and print the table; with ``--case``, run one case."""
    parser = argparse.ArgumentParser(description="The aggregation rules' time and memory.")
    parser.add_argument("--sites", type=int, nargs="+", default=[5, 50, 500])
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument("--scratch", type=Path, help="folder of the adapters; default: temporary")
    parser.add_argument("--case", nargs=2, metavar=("RULE", "SITES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        rule, sites = options.case
        print(json.dumps(run_case(rule, int(sites), options.scratch)))
        return
    with tempfile.TemporaryDirectory(prefix="fedvitals-", dir=options.scratch) as scratch:
        in_a_process("write", max(options.sites), Path(scratch))
        baseline = in_a_process("nothing", 1, Path(scratch)).peak
        costs = {}
        for sites in sorted(options.sites):
            for rule in options.rules:
                costs[rule, sites] = in_a_process(rule, sites, Path(scratch))
                seconds, peak = costs[rule, sites]
                memory = (peak - baseline) / 1e6
                print(f"{rule}, {sites} sites: {seconds:.2f} s, {memory:.0f} MB", flush=True)
        reference = costs.get(("fedavg", min(options.sites)))
        reference = reference or in_a_process("fedavg", min(options.sites), Path(scratch))
    print("\n".join(table(options.rules, sorted(options.sites), costs, reference, baseline)))


def in_a_process(rule: str, sites: int, scratch: Path) -> Cost:
    """Run one case in a process of its own, on one thread."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, __file__, "--scratch", str(scratch), "--case", rule, str(sites)]
    environment = {**os.environ, **dict.fromkeys(threads, "1")}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return Cost(*json.loads(done.stdout))


def run_case(rule: str, sites: int, scratch: Path) -> Cost:
    """Aggregate the first adapters of the scratch folder and measure this process."""
    if rule == "write":
        write_adapters(sites, scratch)
        return Cost(0.0, 0)
    previous = decode(file_of(0, scratch).read_bytes())
    seconds = [0.0]
    if rule != "nothing":
        store = store_of(sites, scratch, previous if rule == "ffa" else None)
        repeats = 3 if sites <= FEW else 1
        seconds = [time_rule(rule, store, previous) for _ in range(repeats)]
    # In kilobytes on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Cost(statistics.median(seconds), peak)


def time_rule(rule: str, store: ReplyStore, previous: Adapter) -> float:
    """Return the processor seconds of one aggregation, including reading the adapters."""
    weights = {site: 1.0 + place % 7 for place, site in enumerate(store)}
    started = time.process_time()
    aggregate(rule, store, weights, previous, None, AggregationConfig())
    return time.process_time() - started


def store_of(sites: int, scratch: Path, shared: Adapter | None) -> ReplyStore:
    """Return a store of the first adapters; with the A of `shared` in the place of their own."""

    def read(data: bytes) -> Adapter:
        adapter = decode(Path(data.decode()).read_bytes())
        if shared is None:
            return adapter
        tensors = {
            name: shared.tensors[name] if "lora_A" in name else matrix
            for name, matrix in adapter.tensors.items()
        }
        return Adapter(tensors, RANK, adapter.alpha, "q", adapter.backbone, adapter.backbone_digest)

    # The store's files hold the paths, so that 3 GB are written once and not for every case.
    folder = scratch / f"store-{os.getpid()}"
    store = ReplyStore(folder, read)
    folder.mkdir()
    for index in range(sites):
        store.add(f"site-{index:03d}", str(file_of(index, scratch)).encode())
    return store


def write_adapters(count: int, scratch: Path) -> None:
    """Write adapters that scatter around one, as after a round of training."""
    random = np.random.default_rng(0)
    first = random_tensors(random, 1.0)
    for index in range(count):
        moved = random_tensors(random, 0.1)
        tensors = {name: first[name] + moved[name] for name in first}
        adapter = Adapter(tensors, RANK, 2.0 * RANK, "q", "chronos-bolt-base", "0" * 64)
        file_of(index, scratch).write_bytes(encode(adapter))


def random_tensors(random: np.random.Generator, scale: float) -> dict[str, np.ndarray]:
    """Return normal matrices for every layer."""
    tensors = {}
    for module in layer_names():
        for factor, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK))):
            drawn = random.standard_normal(shape, np.float32)
            tensors[tensor_name(module, factor)] = np.float32(scale / WIDTH**0.5) * drawn
    return tensors


def layer_names() -> Iterator[str]:
    """Yield the layers that chronos-bolt-base adapts with lora.scope = attention."""
    for layer in range(LAYERS):
        for projection in "qkvo":
            yield f"encoder.block.{layer}.layer.0.SelfAttention.{projection}"
        for projection in "vo":
            yield f"decoder.block.{layer}.layer.0.SelfAttention.{projection}"
        for projection in "qkvo":
            yield f"decoder.block.{layer}.layer.1.EncDecAttention.{projection}"


def file_of(index: int, scratch: Path) -> Path:
    """Return the path of an adapter."""
    return scratch / f"{index}.safetensors"


def table(
    rules: list[str],
    counts: list[int],
    costs: dict[tuple[str, int], Cost],
    reference: Cost,
    baseline: int,
) -> Iterator[str]:
    """Yield the lines of the table."""
    labels = [f"{sites} sites" for sites in counts]
    heads = " | ".join([*labels, *(f"{label}, MB" for label in labels)])
    yield f"| time / that of fedavg with {counts[0]} sites; peak memory | {heads} |"
    yield f"|---|{'--:|' * 2 * len(counts)}"
    for rule in rules:
        row = [costs[rule, sites] for sites in counts]
        ratios = [f"{cost.seconds / reference.seconds:,.1f}" for cost in row]
        peaks = [f"{max(cost.peak - baseline, 0) / 1e6:,.0f}" for cost in row]
        yield f"| `{rule}` | {' | '.join([*ratios, *peaks])} |"
    yield f"(fedavg with {counts[0]} sites takes {1e3 * reference.seconds:.0f} ms here)"


if __name__ == "__main__":
    main()
