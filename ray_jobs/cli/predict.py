"""`resnet-dist predict` as a command. Apart from the others, whose flags are made from the tree of a whole job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from cyclopts import App, Parameter

from ray_jobs.cli.program import COMMAND, unknown_flag
from ray_jobs.errors import ConfigError
from resnet_dist.runtime.time_limit import BATCH_TIMEOUT_S

if TYPE_CHECKING:
    from resnet_dist.runtime.providers import Provider

_WHERE = "where"


def predict(
    bundle: Annotated[str, Parameter(group=COMMAND)],
    /,
    *paths: Annotated[str, Parameter(group=COMMAND, allow_leading_hyphen=True)],
    format: Annotated[str | None, Parameter(group=COMMAND, show_default=False)] = None,  # noqa: A002 - the flag's name
    output: Annotated[str, Parameter(group=COMMAND)] = "-",
    output_format: Annotated[Literal["csv", "jsonl", "table"] | None, Parameter(group=COMMAND)] = None,
    probabilities: Annotated[bool, Parameter(group=COMMAND, negative=(), show_default=False)] = False,
    providers: Annotated[str | None, Parameter(group=COMMAND, show_default=False)] = None,
    threads: Annotated[int | None, Parameter(group=COMMAND, show_default=False)] = None,
    batch_size: Annotated[int, Parameter(group=COMMAND)] = 8,
    batch_timeout_s: Annotated[float, Parameter(group=COMMAND)] = BATCH_TIMEOUT_S,
    verify_key: Annotated[Path | None, Parameter(group=COMMAND, show_default=False)] = None,
    fail_on_unreadable: Annotated[bool, Parameter(group=COMMAND, negative=(), show_default=False)] = False,
    workers: Annotated[int | None, Parameter(group=COMMAND, show_default=False)] = None,
    part_size: Annotated[int | None, Parameter(group=COMMAND, show_default=False)] = None,
    storage_root: Annotated[str | None, Parameter(name="--storage.root", group=_WHERE, show_default=False)] = None,
    outage_s: Annotated[float | None, Parameter(name="--storage.outage-s", group=_WHERE, show_default=False)] = None,
    address: Annotated[str | None, Parameter(name="--cluster.address", group=_WHERE, show_default=False)] = None,
    local_cpus: Annotated[int | None, Parameter(name="--cluster.local-cpus", group=_WHERE, show_default=False)] = None,
) -> None:
    """Classify images with a bundle: path, label (empty when rejected), confidence, error.

    An image that cannot be read is a row, too. The exit code is 3 if no image could be read.

    Parameters
    ----------
    bundle
        The folder of a bundle or of its run (with a slash: ./bundle), or the name of a run under storage.root.
    paths
        Images, folders, patterns in quotes, or - for a list on stdin, one path per line.
    format
        One of the bundle's formats, such as onnxruntime_int8; by default onnx.
    output
        A file, written whole or not at all; - is stdout. With --workers or --cluster.address, a folder for parts.
    output_format
        By default a table for few images on a terminal, else csv.
    probabilities
        Also write the probabilities of all classes.
    providers
        What an ONNX format runs on: the first of tensorrt, cuda and cpu that there is, or of those that are named, in
        their order. GPUs need resnet-dist[gpu-runtime]. Workers take the CPU.
    threads
        By default all cores; with --workers, the threads of each worker.
    batch_size
        Images at a time.
    batch_timeout_s
        Seconds that the model may take to load, and for a batch; then it is given up, with exit code 3.
    verify_key
        A public key (PEM file); the bundle must be signed by its private key.
    fail_on_unreadable
        End with exit code 3 if any image could not be read, after all others are classified.
    workers
        Classify with this number of Ray processes, into parts; a killed command resumes with the missing ones. Fewer
        than 1000 images are classified in this process, into the same parts.
    part_size
        Images per part; by default 1000.
    storage_root
        Where a run's name is looked up; by default outputs.
    outage_s
        Seconds that the storage of the output may be away (not mounted, read-only, not reached); by default 900.
    address
        A running Ray (auto, ray://host:10001); without it, --workers starts an embedded one for this command.
    local_cpus
        Logical CPUs that the embedded Ray offers; by default the cores of this machine.
    """
    _refuse_flags(paths)
    if not paths:
        raise ConfigError("predict needs images after the bundle; give files, folders, patterns, or - for a list")
    from ray_jobs.bundles.lookup import local_bundle
    from ray_jobs.prediction.predict import PredictOptions, run_predict

    options = PredictOptions(
        format_name=format,
        providers=None if providers is None else cast("tuple[Provider, ...]", tuple(providers.split(","))),
        threads=threads,
        batch_size=batch_size,
        public_key=verify_key,
        output_format=output_format,
        probabilities=probabilities,
        fail_on_unreadable=fail_on_unreadable,
        batch_timeout_s=batch_timeout_s,
        outage_s=PredictOptions.outage_s if outage_s is None else _checked(outage_s),
    )
    place = local_bundle(bundle, storage_root)
    if workers is None and address is None:
        if part_size is not None:
            raise ConfigError(f"--part-size {part_size} is for parts; give --workers or --cluster.address, too")
        run_predict(place, paths, options, output)
        return
    from ray_jobs.job.toml import check
    from ray_jobs.prediction.on_cluster import Parts, run_predict_on_cluster

    job = check({"cluster": {"address": address, "local_cpus": local_cpus}})
    parts = Parts(output, 1000 if part_size is None else part_size, workers)
    run_predict_on_cluster(place, paths, options, parts, job.cluster)


def _checked(outage_s: float) -> float:
    """As storage.outage_s of a job. Raises ConfigError."""
    from ray_jobs.job.toml import check

    return check({"storage": {"outage_s": outage_s}}).storage.outage_s


def _refuse_flags(paths: tuple[str, ...]) -> None:
    """Where "-" is a path, cyclopts takes a flag that it does not know for one, too."""
    for path in paths:
        if path.startswith("--"):
            app = App()
            app.default(predict)
            raise ConfigError(unknown_flag(path, app.assemble_argument_collection()))
