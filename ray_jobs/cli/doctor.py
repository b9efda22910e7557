"""`resnet-dist doctor`: whether this machine, or the nodes of a cluster, can run jobs."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ray_jobs.cli.flags import job_flags
from ray_jobs.cli.program import File, Number
from ray_jobs.exit_codes import ExitCode
from ray_jobs.job.toml import read_job

_FIELDS = {"model.arch", "model.weights", "storage.root", "cluster.use_gpu", "cluster.address"}

if TYPE_CHECKING:
    DoctorFlags = dict[str, Any]
else:
    DoctorFlags = job_flags(_FIELDS.__contains__)


def doctor(
    *,
    config: File = None,
    timeout: Number = 60.0,
    json: File = None,
    job: Annotated[DoctorFlags, Parameter("*")] | None = None,
) -> ExitCode:
    """Check whether this machine, or each node of the Ray at cluster.address, can run jobs, and say how to fix it.

    Parameters
    ----------
    config
        The TOML file of the job to run.
    timeout
        Seconds to wait for the answer of a cluster's node; a node that does not answer is an error.
    json
        Also write the checks to this file: a list of objects with node, name, status, found, remedy.
    """
    resolved = read_job(config, job or {})
    from ray_jobs import api
    from ray_jobs.cli.show import show_checks, show_node_checks, write_checks

    found = api.doctor(resolved, timeout_s=timeout)
    if resolved.cluster.address is None:
        show_checks([each.check for each in found])
    else:
        show_node_checks(found)
    if json is not None:
        write_checks(json, found)
    return ExitCode.FAILED if any(each.check.status == "error" for each in found) else ExitCode.DONE
