"""`resnet-dist submit`: a command as a job on Kubernetes or on a running Ray."""

from typing import Annotated, Literal

from cyclopts import Parameter

from ray_jobs.cli.flags import JobFlags, with_folder
from ray_jobs.cli.program import COMMAND, DryRun, File, Switch, Text, Whole, strategy_of
from ray_jobs.errors import ConfigError
from ray_jobs.job.toml import read_changes, read_job, read_job_and_overrides
from ray_jobs.job.verb_fields import of_evaluation, of_export
from ray_jobs.submission.environment import is_ray_jobs_address


def submit(
    verb: Annotated[Literal["train", "tune", "evaluate", "export", "compress"], Parameter(group=COMMAND)],
    run: Text = None,
    compressed: Text = None,
    /,
    *,
    config: File = None,
    search: File = None,
    warm_start: Text = None,
    split: Text = None,
    checkpoint: Text = None,
    formats: Text = None,
    target: Text = None,
    scope: Annotated[Literal["inner", "blocks", "all"] | None, Parameter(group=COMMAND, show_default=False)] = None,
    rounds: Whole = None,
    floor: Annotated[float | None, Parameter(group=COMMAND, show_default=False)] = None,
    score_microbatches: Whole = None,
    threads: Whole = None,
    recipe: Text = None,
    always: Switch = False,
    max_loss: Annotated[float | None, Parameter(group=COMMAND, show_default=False)] = None,
    then: Annotated[Literal["export"] | None, Parameter(group=COMMAND)] = None,
    team: Text = None,
    namespace: Text = None,
    queue: Text = None,
    priority: Text = None,
    image: Text = None,
    kube_context: Text = None,
    working_tree: File = None,
    dry_run: DryRun = "none",
    job: Annotated[JobFlags, Parameter("*")] | None = None,
) -> None:
    """Run a command as a job on Kubernetes, or with --cluster.address http://HOST:8265 on any running Ray.

    The same name and configuration again is the same job: a running one is left alone, a failed one resumes.

    Parameters
    ----------
    verb
        The command to run.
    run
        For evaluate and export: the run, as a name under storage.root, a URI, or a path that the cluster has, too.
        For train and tune: the images, as --data.root. For compress: distill, prune, quantize or
        chain.
    compressed
        For compress: the run, as for evaluate.
    config
        The job's TOML file.
    search
        For tune: the search's TOML file.
    warm_start
        For tune: an earlier search.
    split
        For evaluate: train, val or test.
    checkpoint
        For evaluate and export: best, last, or the number of a step.
    formats
        For export: names separated by commas.
    target
        For compress prune, as there.
    scope
        For compress prune, as there.
    rounds
        For compress prune, as there.
    floor
        For compress prune, as there.
    score_microbatches
        For compress prune, as there.
    threads
        For compress prune, as there.
    recipe
        For compress chain: the name of a recipe that ships.
    max_loss
        For compress distill, prune and quantize, as there.
    always
        For compress quantize, as there.
    then
        For train: the same job exports the run when it is trained. --checkpoint and --formats are the export's.
    team
        Short for the namespace and the queue of that name.
    namespace
        By default the team's, else that of the kubeconfig's context.
    queue
        A Kueue LocalQueue of the namespace; without a queue and a team, the job is not queued.
    priority
        A Kueue WorkloadPriorityClass: production, research or idle.
    image
        NAME:VERSION or NAME@sha256:DIGEST; by default the image in the manifests.
    kube_context
        The context of the kubeconfig; by default its current one.
    working_tree
        With --cluster.address http://...: a checkout whose code the job runs.
    dry_run
        client prints the objects as YAML and stops; server lets the API server check them first.
    """
    words: dict[str, object] = {
        "--split": split,
        "--checkpoint": checkpoint,
        "--formats": formats,
        "--target": target,
        "--scope": scope,
        "--rounds": rounds,
        "--floor": floor,
        "--score-microbatches": score_microbatches,
        "--threads": threads,
        "--recipe": recipe,
        "--always": always or None,
        "--max-loss": max_loss,
    }
    _check_options(verb, run, compressed, {**words, "--search": search, "--warm-start": warm_start, "--then": then})
    from ray_jobs import api
    from ray_jobs.cli.show_jobs import say
    from ray_jobs.cli.show_submit import print_objects, show_pool_job, show_ray_job
    from ray_jobs.submission.command import PoolFlags, SubmitCommand, on_compressed, words_of

    options = words_of(words)
    if verb == "compress":
        command = on_compressed(str(run), str(compressed), options, read_changes(config, job or {}))
    elif verb in {"evaluate", "export"}:
        wanted = of_evaluation if verb == "evaluate" else of_export
        resolved, changes = read_job_and_overrides(config, job or {}, wanted)
        command = SubmitCommand(verb, resolved, run=str(run), options=options, overrides=changes)
    else:
        resolved = read_job(config, with_folder(job or {}, run))
        found = None
        if verb == "tune":
            from ray_jobs.search.toml import read_search

            found = read_search(search, {})
        command = SubmitCommand(verb, resolved, found, warm_start, options=options, then=then)
    strategy = strategy_of(dry_run)
    flags = PoolFlags(team, namespace, queue, priority, image, kube_context)
    if is_ray_jobs_address(command.job.cluster.address):
        flags.check_none_given(str(command.job.cluster.address))
        if strategy != "none":
            raise ConfigError(
                f"--dry-run={strategy} shows Kubernetes objects, and the job goes to a running Ray, which has none; "
                "remove it"
            )
        show_ray_job(api.submit_to_ray(command, working_tree=working_tree))
    elif working_tree is not None:
        raise ConfigError(
            "--working-tree is for a running Ray (--cluster.address http://HOST:8265); pods have an image"
        )
    elif strategy != "none":
        print_objects(api.job_objects(command, flags, server=strategy == "server", say=say))
    else:
        show_pool_job(api.submit_to_pool(command, flags, say=say))


_OF_COMPRESS = {
    "distill": {"--max-loss"},
    "prune": {"--target", "--scope", "--rounds", "--floor", "--score-microbatches", "--threads", "--max-loss"},
    "quantize": {"--always", "--max-loss"},
    "chain": {"--recipe"},
}
"""What each verb of compress takes."""


def _check_options(verb: str, run: str | None, compressed: str | None, options: dict[str, object]) -> None:
    if verb == "compress" and (run not in _OF_COMPRESS or compressed is None):
        raise ConfigError(
            f"submit compress {run or ''}: name its verb, one of {', '.join(_OF_COMPRESS)}, and then the run"
        )
    if verb != "compress" and compressed is not None:
        raise ConfigError(f"submit {verb} takes one argument; remove {compressed}")
    needed = {"prune": "--target", "chain": "--recipe"}.get(str(run)) if verb == "compress" else None
    if needed is not None and options[needed] is None:
        raise ConfigError(f"submit compress {run} needs {needed}; see resnet-dist compress {run} --help")
    takes = {
        "compress": _OF_COMPRESS.get(str(run), set()),
        "train": {"--then", "--checkpoint", "--formats"} if options["--then"] is not None else {"--then"},
        "tune": {"--search", "--warm-start"},
        "evaluate": {"--split", "--checkpoint"},
        "export": {"--formats", "--checkpoint"},
    }
    if verb in {"evaluate", "export"} and run is None:
        raise ConfigError(f"submit {verb} needs a RUN: a name under storage.root, a URI or a path")
    for flag, value in options.items():
        if value is not None and flag not in takes[verb]:
            raise ConfigError(f"{flag} does not apply to {verb}{f' {run}' if verb == 'compress' else ''}; remove it")
