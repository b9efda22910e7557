"""What a search begins with: initial configurations, trials of an earlier search, and what was drawn before."""

from dataclasses import replace

from ray_jobs.search.config import SearchConfig
from ray_jobs.search.early_checks import earlier_search
from ray_jobs.search.parameter import Params
from ray_jobs.search.records import TrialRecord, digest_of
from ray_jobs.search.results import SearchFacts, ranked
from ray_jobs.search.trainable import values_of


def trials_left(config: SearchConfig, records: list[TrialRecord]) -> int:
    """Trials of the budget that are not over; a repeated suggestion is one, too."""
    return config.trials - sum(1 + record.repeats for record in records if record.is_over)


def first_draw(records: list[TrialRecord], initial: list[Params]) -> int:
    """The number of the sampler's first draw at this start: of all suggestions, initial ones and repeats among them.

    An unfinished trial is suggested again and keeps the number that it had.
    """
    begun = {record.digest for record in records}
    new = sum(digest_of(params) not in begun for params in initial)
    return sum(1 + record.repeats for record in records) + new


def initial_params(facts: SearchFacts, records: list[TrialRecord], warm: list[TrialRecord]) -> list[Params]:
    """What is tried before anything is suggested: unfinished trials, the default, and what was best elsewhere."""
    begun = {record.digest for record in records}
    best = ranked(facts.config, warm)[:1]
    wanted = [facts.space.default(facts.job), *(each.params for each in best)]
    unfinished = [record.params for record in records if not record.is_over]
    return [*unfinished, *(params for params in wanted if digest_of(params) not in begun)]


def warm_trials(name: str | None, facts: SearchFacts) -> list[TrialRecord]:
    """Trials of an earlier search that are over and lie in this one's space, with the values of its objectives."""
    if name is None:
        return []
    place = earlier_search(name, facts.job.storage.root)
    over = [record for record in place.read_trials() if record.is_over]
    objectives = facts.config.objectives
    return [
        replace(record, values=values_of(objectives, record.history, dict[str, float]()))
        for record in over
        if facts.space.contains(record.params)
    ]
