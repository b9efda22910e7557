"""What distillation and pruning cost in accuracy and give in speed, over several seeds, on the same test images.

    python -m benchmarks.compression DATA OUTPUT [--job FILE] [--seeds 0 1 2] [--epochs 8]
        [--recovery-epochs 8] [--json FILE]

DATA is an ImageFolder with a test split, such as `resnet-dist data sample fashion-mnist`. For each seed it trains a
teacher; the same smaller student without it and with it; and it prunes the teacher to half of its multiplications and
to 30 % of its parameters. Each is a command of `resnet-dist`, whose seconds are counted; a start after an interruption
goes on where that was. A row of the table pools the seeds: images that one of two models alone answers rightly are
added up, and the 95 % interval is that of paired proportions (`resnet_dist.evaluation.paired_interval`).
"""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from ray_jobs.evaluation.answers import answers_of, compared
from ray_jobs.run.directory import RunDirectory
from resnet_dist.evaluation.paired_interval import Changes

HALF, THIRD = "pruned to half of the MACs", "pruned to 30 % of parameters"
PHASES = ("teacher", "student without", "student distilled", HALF, THIRD)
WIDTHS = "0.75"
"""Of the student: 44 % fewer parameters of a ResNet-18."""
COMPARED = (
    ("student distilled", "teacher", "student distilled"),
    ("student without less student distilled", "student without", "student distilled"),
    ("student without", "teacher", "student without"),
    (HALF, "teacher", HALF),
    (THIRD, "teacher", THIRD),
)
"""Row, the first model, the second one: what the second lost of the first."""


@dataclass(frozen=True)
class Command:
    """A command of the program that makes a run."""

    phase: str
    run: str
    words: tuple[str, ...]


def commands(args: argparse.Namespace, seed: int) -> list[Command]:
    """Of one seed, in their order."""
    teacher = f"teacher-{seed}"
    where = ("--storage.root", str(args.output))
    job = ("--config", str(args.job)) if args.job is not None else ()
    where += ("--cluster.cpus-per-worker", str(args.cpus)) if args.cpus else ()
    shared = (*job, "--data.root", str(args.data))
    whole = ("--seed", str(seed), "--training.epochs", str(args.epochs), *where)
    recovery = ("--seed", str(seed), "--training.epochs", str(args.recovery_epochs or args.epochs), *where)
    student = ("--model.weights", teacher, "--model.widths", WIDTHS)
    pruned = ("compress", "prune", teacher, *recovery)
    found = {
        "teacher": (teacher, ("train", *shared, *whole)),
        "student without": (f"alone-{seed}", ("train", *shared, *recovery, *student)),
        "student distilled": (f"distilled-{seed}", ("compress", "distill", teacher, *recovery, *student)),
        HALF: (f"macs-{seed}", (*pruned, "--target", "macs=0.5")),
        THIRD: (
            f"parameters-{seed}",
            (*pruned, "--target", "parameters=0.3", "--scope", args.scope),
        ),
    }
    return [Command(phase, run, (*words, "--name", run)) for phase, (run, words) in found.items()]


def run(command: Command, log: Path) -> float:
    """Seconds that a command took. Ends the program where it fails."""
    began = perf_counter()
    with log.open("a") as output:
        words = [sys.executable, "-m", "ray_jobs", *command.words]
        done = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command.words)} ended with {done.returncode}; see {log}")
    return perf_counter() - began


def pooled(args: argparse.Namespace, seeds: list[int]) -> dict[str, Changes]:
    """What the second model of each row lost of the first, over all seeds."""
    where = {"storage": {"root": str(args.output)}}
    found: dict[str, Changes] = {}
    for seed in seeds:
        runs = {each.phase: each.run for each in commands(args, seed)}
        answers = {
            phase: answers_of(RunDirectory.named(str(args.output), name), "test", where) for phase, name in runs.items()
        }
        for row, first, second in COMPARED:
            own, sofar = compared(answers[first], answers[second]), found.get(row, Changes(0, 0, 0))
            found[row] = Changes(sofar.lost + own.lost, sofar.won + own.won, sofar.samples + own.samples)
        right = (answers["teacher"].predictions == answers["teacher"].labels).mean()
        print(f"seed {seed}: the teacher's top-1 is {100 * right:.2f} %")
    return found


def main() -> None:
    """Train, compress, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--job", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--recovery-epochs", type=int, help="of all phases behind the teacher; else those of --epochs")
    parser.add_argument("--cpus", type=int, default=0, help="of each command; 0: those of the machine")
    parser.add_argument("--scope", default="inner")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, dict[int, float]] = {phase: {} for phase in PHASES}
    for seed in args.seeds:
        for command in commands(args, seed):
            seconds[command.phase][seed] = run(command, args.output / f"{command.run}.log")
            print(f"{command.run}: {seconds[command.phase][seed]:.0f} s", flush=True)
    found = pooled(args, args.seeds)
    print("| second less first | lost, points (95 %) | lost | won | images |\n| --- | --- | --- | --- | --- |")
    for row, changes in found.items():
        low, high = changes.interval()
        loss = f"{100 * changes.loss:+.2f} ({100 * low:+.2f} .. {100 * high:+.2f})"
        print(f"| {row} | {loss} | {changes.lost} | {changes.won} | {changes.samples} |")
    if args.json is not None:
        facts = {"seconds": seconds, "changes": {row: asdict(each) for row, each in found.items()}}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
