"""Faults on running trainings and searches, one after the other, and whether anything was lost.

A training is ResNet-18 at 32 px on handwritten digits, two workers, a checkpoint every five steps. A round strikes it
with some faults in random order, each once it has stored a checkpoint since the last one, and lets it go on: by itself,
or with the same command where the fault ends the command. After its last fault the run is stopped and continued to the
end of an epoch. Then its weights and its optimizer's state are compared, bit for bit, with those of an undisturbed run
of as many steps, and its metrics must hold each epoch once. A search is struck likewise; its trials must be those of an
undisturbed search, with equal weights.

Everything random follows from the seed, which is printed, except when processes run. The table has a line for each kind
of fault: how often it struck, how often training went on, seconds until a checkpoint beyond the state before, and steps
trained again, as medians and maxima.

    python -m benchmarks.chaos [--faults 30] [--searches 1] [--seed N] [--only NAME] [--json FILE]

Needs root for the faults of a full and of a read-only disk (a tmpfs of its own); without it they are left out, and it
says so.
"""

import argparse
import json
import random
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.chaos.faults import SEARCH, TRAINING, Fault
from benchmarks.chaos.report import table
from benchmarks.chaos.search import disturbed_search
from benchmarks.chaos.storage import small_disk
from benchmarks.chaos.strike import Struck
from benchmarks.chaos.training import TrainingRounds

_PER_ROUND = 14
"""Faults that one run lives through; its undisturbed twin has to train as long."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when everything went on and nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(description="seeded faults on running trainings and searches")
    parser.add_argument("--faults", type=int, default=30, help="faults in sum")
    parser.add_argument("--searches", type=int, default=1, help="searches, struck by as many faults as there are kinds")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", help="only faults with this in their name")
    parser.add_argument("--json", type=Path, default=None, help="add each fault to this file, a line each")
    args = parser.parse_args(arguments)
    # A shell starts what runs in the background deaf to Ctrl-C, and the commands that are struck would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was started and mounted goes with us
    seed = secrets.randbelow(1 << 32) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    draw = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="rd-chaos-"))
    struck: list[Struck] = []
    try:
        with small_disk(folder / "disk") as disk:
            of_search = 0 if args.searches == 0 else min(args.faults, args.searches * len(_chosen(SEARCH, args.only)))
            rounds = TrainingRounds(folder, disk, draw)
            for faults in _rounds(
                _chosen(TRAINING, args.only, with_disk=disk is not None), args.faults - of_search, draw
            ):
                struck += rounds.disturb(faults)
            rounds.compare(struck)
            for _ in range(args.searches if _chosen(SEARCH, args.only) else 0):
                struck += disturbed_search(folder, _chosen(SEARCH, args.only), draw)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(struck))
    if args.json is not None:
        with args.json.open("a") as file:
            file.writelines(json.dumps({"seed": seed, **asdict(each)}) + "\n" for each in struck)
    lost = [each for each in struck if not each.is_well]
    for each in lost:
        print(f"{each.fault} ({each.round}): {each.problem}", file=sys.stderr)
    return 1 if lost else 0


def _chosen(faults: tuple[Fault, ...], only: str, *, with_disk: bool = True) -> list[Fault]:
    return [fault for fault in faults if only in fault.name and (with_disk or not fault.needs_disk)]


def _rounds(faults: list[Fault], count: int, draw: random.Random) -> list[list[Fault]]:
    """Each kind as often as any other, but for one; in an order of its own."""
    if not faults:
        return []
    due: list[Fault] = []
    while len(due) < count:
        due += draw.sample(faults, len(faults))
    due = due[:count]
    return [due[start : start + _PER_ROUND] for start in range(0, len(due), _PER_ROUND)]


if __name__ == "__main__":
    sys.exit(main())
