"""The report of a search: search.json as one HTML file."""

import math
from collections import Counter
from typing import Any

from ray_jobs.report.page import Fact, Facts, Part, Prose, Section, render_page
from ray_jobs.report.search_figures.importance_bars import importance_bars
from ray_jobs.report.search_figures.learning_curves import learning_curves
from ray_jobs.report.search_figures.objective_history import objective_history
from ray_jobs.report.search_figures.parallel import parallel
from ray_jobs.report.search_figures.pareto_front import pareto_fronts
from ray_jobs.report.search_figures.slices import slices
from ray_jobs.report.search_figures.states import MARKS
from ray_jobs.report.search_figures.timeline import timeline
from ray_jobs.report.search_record import Comparison, SearchRecord, read_search
from ray_jobs.report.search_tables import settings_table, trial_table
from ray_jobs.report.wording import clipped, duration, number, percent, size
from ray_jobs.terminal.counted import counted

_MOST_SLICED = 3
"""Objectives that slices are drawn for."""


def render_search(search: dict[str, Any]) -> str:
    """The HTML document for a parsed search.json.

    Raises RunError when it is of another version or damaged, ReportError when Plotly is not installed.
    """
    record = read_search(search)
    sections = [
        _summary(record),
        Section("History", _histories(record)),
        *_fronts(record),
        _importance(record),
        *(
            Section(f"Fields and {sought.metric}", slices(record, index))
            for index, sought in enumerate(record.objectives[:_MOST_SLICED])
        ),
        Section(
            "All fields at once", (parallel(record) or Prose("No trial has a value, so there is no line to draw."),)
        ),
        Section("Learning curves", (learning_curves(record) or Prose("No trial has finished an epoch."),)),
        _pool(record),
        Section("Trials", (trial_table(record),)),
    ]
    job = record.job
    subtitle = (
        f"Search over {job.arch} at {job.image_size[0]} x {job.image_size[1]} pixels, {counted(job.epochs, 'epoch')} a "
        f"trial, on {counted(job.train, 'image')} of {job.classes} classes and {job.val} to validate; {record.sampler} "
        f"with {record.scheduler or 'no scheduler'}. Written {record.made}."
    )
    return render_page(record.name or "search", subtitle, sections)


def _summary(record: SearchRecord) -> Section:
    parts: list[Part] = [Prose(_verdict(record)), Facts((*_best_facts(record), *_effort_facts(record)))]
    if record.test is not None:
        parts += [Prose(_tested(record.test)), Facts(_test_facts(record.test))]
    if record.space:
        parts.append(settings_table(record))
    return Section("Summary", tuple(parts))


def _verdict(record: SearchRecord) -> str:
    sought = record.objectives[0]
    best, default = record.best_trial, record.default_trial
    value = None if best is None else best.value()
    if best is None or value is None:
        if not record.trials:
            return "No trial has begun."
        failed = next((trial for trial in record.trials if trial.error), None)
        # A traceback says what went wrong at its end.
        last = failed.error.strip().splitlines()[-1:] if failed else []
        hint = f" The first error, of trial {failed.number}: {clipped(last[0], 300)}" if failed and last else ""
        return f"No trial has finished with a value, so there is no best one.{hint}"
    found = f"Trial {best.number} is the best: {sought.metric} {number(value)} ({sought.wish})."
    before = None if default is None else default.value()
    if default is None or before is None:
        return f"{found} The default settings have no value to compare with."
    if default.number == best.number:
        return f"{found} These are the default settings: no other trial beats them."
    gain = sought.cost(before) - sought.cost(value)
    words = "better" if gain > 0 else "worse" if gain < 0 else "equal"
    return (
        f"{found} The default settings, trial {default.number}, have {number(before)}: the best is {words}"
        f"{f' by {number(abs(gain))}' if gain else ''}. Both are chosen or seen on validation images."
    )


def _best_facts(record: SearchRecord) -> list[Fact]:
    best, default = record.best_trial, record.default_trial
    facts: list[Fact] = []
    for index, sought in enumerate(record.objectives):
        value = None if best is None else best.value(index)
        before = None if default is None else default.value(index)
        change = f", {value - before:+.4g}" if value is not None and before is not None else ""
        is_default = best is not None and best.is_default
        remark = "the default settings" if is_default else f"default {number(before)}{change}"
        facts.append(Fact(f"{sought.metric}, best trial", number(value), remark))
    return facts


def _effort_facts(record: SearchRecord) -> list[Fact]:
    states = Counter(trial.state for trial in record.trials)
    counts = ", ".join(f"{states[state]} {state}" for state in MARKS if states[state])
    spent = record.epochs
    share = f"{percent(spent.trained / spent.full_search)} of the " if spent.full_search else "of "
    return [
        Fact("trials", str(len(record.trials)), counts),
        Fact("epochs trained", str(spent.trained), f"{share}{spent.full_search} of a full search"),
        Fact(
            "time on the clock",
            duration(record.pool.wall_s),
            f"{counted(record.slots, 'slot')} of {counted(record.workers_per_trial, 'worker')}",
        ),
    ]


def _tested(test: Comparison) -> str:
    low, high = test.difference_interval
    if not all(map(math.isfinite, (low, high))):
        verdict = "How sure the difference is, is not known."
    elif low <= 0 <= high:
        verdict = "The interval of the difference holds zero: these images do not tell the two apart."
    else:
        verdict = "The interval of the difference does not hold zero: these images tell the two apart."
    return f"On {counted(test.samples, 'test image')}, which neither was chosen by, in 95 % intervals. {verdict}"


def _test_facts(test: Comparison) -> tuple[Fact, ...]:
    named = (
        ("best", number(test.best), test.best_interval),
        ("default", number(test.default), test.default_interval),
        ("difference", f"{test.difference:+.4g}", test.difference_interval),
    )
    return tuple(
        Fact(f"test {test.metric}, {name}", value, f"{number(low)} .. {number(high)}")
        for name, value, (low, high) in named
    )


def _histories(record: SearchRecord) -> tuple[Part, ...]:
    if not record.trials:
        return (Prose("No trial has begun."),)
    return tuple(objective_history(record, index) for index in range(len(record.objectives)))


def _fronts(record: SearchRecord) -> list[Section]:
    figures = pareto_fronts(record)
    return [Section("Pareto front", figures)] if figures else []


def _importance(record: SearchRecord) -> Section:
    missing = Prose("Not known: importance needs finished trials with different values and more than one setting.")
    return Section("Importance", (importance_bars(record) or missing,))


def _pool(record: SearchRecord) -> Section:
    pool, reuse = record.pool, record.reuse
    capacity = pool.wall_s * pool.slots
    busy = percent(pool.training_s / capacity) if capacity > 0 else "unknown"
    facts = [
        Fact("slots", str(pool.slots), f"trained {busy} of their time"),
        Fact("training", duration(pool.training_s), "summed over slots"),
        Fact("waiting", duration(pool.waiting_s), "summed over slots"),
        Fact("starting up", duration(pool.startup_s), "summed over slots"),
    ]
    if reuse is not None:
        lookups = reuse.hits + reuse.misses
        facts += [
            Fact(
                "features read again",
                percent(reuse.hits / lookups) if lookups else "none",
                f"{reuse.hits} of {lookups}",
            ),
            Fact("stored features", size(reuse.stored_bytes)),
            Fact("time saved by them", duration(reuse.saved_s), "as estimated by the search"),
        ]
    drawn = timeline(record) or Prose("No trial has begun to train, so there is no time to draw.")
    return Section("Pool and reuse", (Facts(tuple(facts)), drawn))
