"""The entry point of a job on a cluster: it runs the command, again where that may help, and keeps its output.

`python -m ray_jobs.submission.entrypoint VERB ARGUMENTS` runs `resnet-dist VERB ARGUMENTS` and ends with its exit code.
With `--then VERB ARGUMENTS` behind it, a second command follows where the first is done, and a later start of the same
submission begins with the command that was not done. In the environment, RESNET_DIST_SUBMISSION names the submission,
RESNET_DIST_RUN the run's URI, and RESNET_DIST_RETRIES how often a command that failed starts again (0 where it is not
set). Each attempt resumes. What another attempt would meet again ends the job at once, in this one and in every later
start of the same submission, with the same words. RESNET_DIST_HELD_GPUS says which GPUs of which queue the job holds;
where it is set, the run records how long.
"""

import os
import re
import sys
from functools import partial
from itertools import groupby

from cluster.config import StorageConfig
from cluster.errors import StorageError
from cluster.jobs import HELD_GPUS, RETRIES, RUN, SUBMISSION, THEN
from cluster.storage.outage import Patience
from cluster.storage.store import Store
from ray_jobs.exit_codes import FINAL, ExitCode
from ray_jobs.run.directory import RunDirectory
from ray_jobs.run.driver_log import DriverEnd, DriverLog, read_end
from ray_jobs.submission.attempts import Attempts, say
from ray_jobs.submission.environment import valid_submission
from ray_jobs.submission.usage_record import UsageLog, held_gpus_of


def main(arguments: list[str]) -> int:
    """Run the command to its end and return its exit code."""
    submission, uri = os.environ.get(SUBMISSION, ""), os.environ.get(RUN, "")
    retries = os.environ.get(RETRIES, "0")
    is_empty = not arguments or arguments[0] == THEN
    if is_empty or not valid_submission(submission) or not uri or not re.fullmatch(r"\d{1,3}", retries):
        sys.stderr.write(
            f"error: `resnet-dist submit` starts this; it needs a verb, {SUBMISSION} and {RUN}, and a number in "
            f"{RETRIES}\n"
        )
        return ExitCode.USAGE
    try:
        run = Store.open(uri).patient(Patience.at_start(StorageConfig().outage_s, say))
        ended = final_end(run, submission)
        commands = commands_left(arguments, read_end(run, submission))
        log = DriverLog.begin(run.impatient(), submission, commands[0][0])
    except StorageError as error:
        sys.stderr.write(f"error: {error}\n")
        return ExitCode.UNUSABLE
    if ended is not None:
        code, reason = ended
        sys.stderr.write(f"this submission ended with exit code {code} before, and another try would, too\n{reason}\n")
        return code
    held = held_gpus_of(os.environ.get(HELD_GPUS, ""))
    usage = None if held is None else partial(UsageLog, run.impatient(), submission, held)
    return Attempts(log, int(retries), usage).of_all(commands)


def commands_left(arguments: list[str], end: DriverEnd | None) -> list[list[str]]:
    """The commands to run, each with its verb first; `end`: how the submission's last ended attempt ended."""
    commands = [list(words) for then, words in groupby(arguments, THEN.__eq__) if not then]
    verbs = [command[0] for command in commands]
    if end is None or end.verb not in verbs:
        return commands
    at = verbs.index(end.verb)
    return commands[at + 1 :] if end.exit_code == ExitCode.DONE and commands[at + 1 :] else commands[at:]


def final_end(run: Store, submission: str) -> tuple[int, str] | None:
    """With which exit code and words the same submission has ended for good; None where it may be tried."""
    end = read_end(run, submission)
    if end is not None and end.exit_code in FINAL:
        return end.exit_code, end.last_line
    status = RunDirectory(run).read_status()
    code = None if status is None or status.submission != submission else status.exit_code
    if status is not None and code is not None and code in FINAL:
        return code, f"error: {status.message}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
