"""The errors of this package, and the tree of all.

All exceptions of the four packages, each with the exit code of a command that it ends, and its module:

    Exception
      ConfigError                  2   ray_jobs.errors
      GateError                    4   ray_jobs.errors
      JobFailedError               1   ray_jobs.errors
      RayDiedError                 1   cluster.errors
        RayNotStartedError         1   cluster.errors
        SearchActorDiedError       1   ray_jobs.search.actors
      ResourceError                2   cluster.errors
      StorageError                 3   cluster.errors
        RunHeldError               3   cluster.errors
        StorageOutageError         3   cluster.errors
          StorageBusyError         3   cluster.errors
      SubmissionError              2   cluster.errors
        NoSuchObjectError          2   cluster.errors
        ObjectChangedError         2   cluster.errors
      TargetUnreachableError       1   cluster.errors
      DataError                    3   data_pipeline.errors
      RunError                     3   resnet_dist.errors
        NoWholeCheckpointError     3   ray_jobs.training.restart_policy
      DivergedError                1   resnet_dist.errors
      ReportError                  1   resnet_dist.errors
      UnreachableTargetError       2   resnet_dist.errors
      BundleError                  3   resnet_dist.runtime.errors
      RuntimeMissingError          2   resnet_dist.runtime.errors

What ends a command from outside is no error, so `except Exception` lets it pass:

    KeyboardInterrupt
      TerminationError           143   ray_jobs.errors

No command shows these: the code that calls the module catches them.

    Exception
      TrialError                   -   ray_jobs.search.trainable
      TrackerError                 -   ray_jobs.trackers.tracker
      EndedOnRequestError          -   ray_jobs.training.last_checkpoint
      MicrobatchTooLargeError      -   resnet_dist.training.out_of_memory
      NoRoomError                  -   resnet_dist.features.store
      BenchmarkError               -   resnet_dist.export.benchmarking.worker
      RefusedError                 -   cluster.kube.client.outage
      BrokenError                  -   cluster.kube.client.outage
      _BrokenError                 -   cluster.jobs_api.log
      OverdueError                 -   resnet_dist.runtime.time_limit
      _DamagedError                -   resnet_dist.runtime.onnx_file
    OSError
      TooLargeError                -   resnet_dist.runtime.regular_file
    ValueError
      UnreadableImageError         -   resnet_dist.runtime.errors
"""

from cluster.errors import ResourceError, StorageError
from data_pipeline.errors import DataError
from resnet_dist.errors import DivergedError, RunError, UnreachableTargetError
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError


class ConfigError(Exception):
    """The configuration is wrong: each problem with its dotted key, value, rule and remedy."""


class GateError(Exception):
    """A quality gate refused the result: the measured value and the limit."""


class JobFailedError(Exception):
    """Workers failed repeatedly: the last failure and what was tried."""


class TerminationError(KeyboardInterrupt):
    """SIGTERM: the system, a scheduler or a service manager ends this process. Whoever handles Ctrl-C handles it."""


CERTAIN = (
    *(ConfigError, ResourceError, RuntimeMissingError, UnreachableTargetError),
    *(DataError, RunError, StorageError, BundleError, DivergedError),
)
"""Another attempt would end with the same error."""


def sentence(error: BaseException) -> str:
    """The first line of what an error says; its class where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def first_line(error: BaseException) -> str:
    """An error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
