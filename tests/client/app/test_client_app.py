from __future__ import annotations

import os
import time

from client.app.client_app import PhaseTimer


def test_phases_keep_their_order_and_start_with_the_process() -> None:
    phases = PhaseTimer()
    assert phases.seconds["start"] > time.process_time() * 0.5
    with phases.phase("model"):
        time.sleep(0.02)
    assert phases.seconds["model"] >= 0.02
    phases.seconds["start"] = 1.0
    phases.seconds["model"] = 0.5
    assert phases.summary({"training": 2.0}) == "start 1.00 s, model 0.50 s, training 2.00 s"


def test_a_fork_counts_from_its_own_start() -> None:
    ours = PhaseTimer().seconds["start"]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"1" if PhaseTimer().seconds["start"] < max(ours - 0.1, 1.0) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"1"
