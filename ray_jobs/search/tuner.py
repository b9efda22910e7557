"""Ray Tune as the engine of a search: it starts trials, hears their epochs, and asks scheduler and stopper."""

# Ray Tune carries no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import logging

from ray import tune

from cluster.errors import RayDiedError
from cluster.session.servers import require_life
from ray_jobs.errors import CERTAIN
from ray_jobs.search.actors import SearchActors
from ray_jobs.search.optuna_study import StudySearch
from ray_jobs.search.prepare import SearchStart
from ray_jobs.search.records import digest_of
from ray_jobs.search.scheduling import build_scheduler
from ray_jobs.search.starting_points import trials_left
from ray_jobs.search.stopping import SearchStopper
from ray_jobs.search.trainable import Trial
from ray_jobs.search.trial_log import TrialLog

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours ends the search as it should
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # its state is disposable
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""With these environment variables Tune prints nothing and installs nothing. It has no arguments for them."""
_NEXT_TO_NOTHING = {"node:__internal_head__": 0.0001}
"""What a trial's own process reserves: no CPU, since its workers need them, but Tune refuses to reserve nothing."""


def run_tuner(
    start: SearchStart, study: StudySearch, stopper: SearchStopper, trial_log: TrialLog, actors: SearchActors
) -> None:
    """Run the trials that are left of the budget; returns once the stopper ends them, or all are over."""
    facts, config = start.facts, start.facts.config
    records = trial_log.ordered
    over = [record for record in records if record.is_over]
    default = digest_of(facts.space.default(facts.job))
    trainable = tune.with_parameters(Trial, actors=actors, job=facts.job, objectives=config.objectives)
    tuner = tune.Tuner(
        tune.with_resources(trainable, _NEXT_TO_NOTHING),
        tune_config=tune.TuneConfig(
            search_alg=study,
            scheduler=build_scheduler(config, facts.job.training.epochs, over, default),
            num_samples=trials_left(config, records),
            max_concurrent_trials=start.slots,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(study.journal.parent),
            stop=stopper,
            callbacks=[trial_log],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)  # it misses files that nobody needs
    try:
        tuner.fit()
    except tune.TuneError as error:
        raise _own(error) from error
    except KeyboardInterrupt:
        require_life()  # it says that, and no signal came
        raise


def _own(error: BaseException) -> BaseException:
    """The error of ours that Ray Tune has hidden in one of its own; that one where there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (*CERTAIN, RayDiedError)):
        cause = cause.__cause__ or cause.__context__
    return cause or error
