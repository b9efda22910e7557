"""What `tune` prints at its end, and `tune --dry-run` instead of a search."""

from collections import Counter

from rich.markup import escape

from ray_jobs.report.search_record import Comparison
from ray_jobs.search.dry_run import SearchPlan
from ray_jobs.search.live_table import short_params
from ray_jobs.search.results import pareto_front, ranked
from ray_jobs.search.tune import SearchOutcome
from ray_jobs.terminal.console import console, show_line, table_of
from ray_jobs.terminal.counted import counted

_SHOWN = 5
_GIB = 2**30


def show_search(outcome: SearchOutcome) -> None:
    """A search that is done: the best trials, the default, what it took, and what to type next."""
    records, config = outcome.records, outcome.config
    done = "was finished before, nothing to do" if outcome.already_finished else "finished"
    if outcome.repaired:
        done = f"was finished before; {', '.join(outcome.repaired)} did not fit its trials and was written again"
    counts = Counter(record.standing for record in records)
    counted = ", ".join(f"{count} {standing}" for standing, count in sorted(counts.items()))
    epochs = sum(len(record.history) for record in records)
    show_line(f"{outcome.uri} {done}: {len(records)} trials ({counted}), {epochs} epochs")
    best = ranked(config, records)
    if not best:
        show_line("no trial came to a value; trials.parquet has the error of each")
        return
    front = pareto_front(config, records) if len(config.objectives) > 1 else []
    shown = front or [*best[:_SHOWN], *(each for each in best[_SHOWN:] if each.is_default)]
    table = table_of("Pareto front" if front else "best trials", *config.objectives, "epochs", "parameters")
    for record in shown:
        values = [f"{value:.4f}" if value is not None else "" for value in record.values]
        what = f"default: {short_params(record)}" if record.is_default else short_params(record)
        table.add_row(f"trial {record.number}", *values, str(len(record.history)), escape(what))
    console().print(table)
    if outcome.test is not None:
        show_test(outcome.test)
    if not outcome.already_finished:
        pool = outcome.pool
        show_line(
            f"{pool.wall_s:.0f} s with {pool.slots} trials at a time; their workers started once, in "
            f"{pool.startup_s / max(pool.slots, 1):.0f} s each"
        )
    show_line(f"report: {outcome.uri}/report/index.html")
    show_line(f"next: resnet-dist train --config {outcome.best_file}")


def show_test(test: Comparison) -> None:
    """What the best trial and the default come to on images that no trial has seen."""
    table = table_of(f"test, {test.samples} images", test.metric, "95 % interval")
    rows = {
        "best trial": (test.best, test.best_interval, ""),
        "default": (test.default, test.default_interval, ""),
        "difference, paired": (test.difference, test.difference_interval, "+"),
    }
    for name, (value, (low, high), sign) in rows.items():
        table.add_row(name, f"{value:{sign}.4f}", f"{low:{sign}.4f} .. {high:{sign}.4f}")
    console().print(table)


def show_plan(plan: SearchPlan) -> None:
    """What a search would do."""
    facts, config = plan.start.facts, plan.start.facts.config
    job = facts.job
    show_line(
        f"{facts.name}: {config.trials} trials of at most {job.training.epochs} epochs by {config.sampler}, "
        f"{config.ends_early} ends trials early; {facts.train} training and {facts.val} validation images"
    )
    show_line(
        f"{plan.start.slots} at a time, each with {job.cluster.num_workers} workers of {job.cluster.cpus_per_worker} "
        "CPUs"
    )
    space = table_of("field", "values", "when")
    for each in facts.space.to_json():
        values = each.get("choices") or f"{each['low']:g} .. {each['high']:g}"
        when = "; ".join(f"{field} is {choices}" for field, choices in each["when"].items())
        space.add_row(each["field"], f"{each['kind']} {escape(str(values))}", escape(when))
    console().print(space)
    show_line("first suggestions, the default before all:")
    for number, params in enumerate(plan.suggestions):
        show_line(f"  {number}: " + ", ".join(f"{field}={value}" for field, value in params.items()))
    show_line(f"epochs: about {plan.epochs} of {plan.full_epochs} if no trial were ended early")
    minutes = counted(max(round(60 * plan.hours), 1), "minute")
    show_line(
        f"time: about {minutes} without shared features, measured on a few microbatches here; "
        f"{plan.startup_s:.0f} s of them until the worker groups have started, once for all trials"
    )
    show_line(f"storage: {plan.kept} trials with checkpoints of {plan.checkpoint_bytes / 1e6:.0f} MB each, and records")
    for depth, cost in plan.costs.items():
        show_line(
            f"features of {depth} frozen stages ({plan.shares[depth]:.0%} of suggestions): a trial whose features are "
            f"there already trains about {cost.gain:.1f}x as fast"
        )
    if plan.costs:
        show_line(
            f"shared features: {plan.feature_bytes / _GIB:.2f} GiB on each node were every depth stored whole; at most "
            f"{plan.room_bytes / _GIB:.1f} GiB are used (search.reuse = {config.reuse!r})"
        )
