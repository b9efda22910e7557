"""How a person names a run in the next command."""

import shlex
from pathlib import Path

from cluster.config import StorageConfig
from ray_jobs.run.argument import root_and_name


def run_words(verb: str, run: str, *options: str) -> str:
    """`resnet-dist VERB`, of one word or two, for the run at a URI: by its name, with --storage.root where that is not
    the default; a run that is elsewhere by its whole address. Quoted for a shell.
    """
    match root_and_name(run):
        case None:
            words = [run, *options]
        case root, name if root == str(Path(StorageConfig().root).absolute()):
            words = [name, *options]
        case root, name:
            words = [name, *options, "--storage.root", root]
    return shlex.join(["resnet-dist", *verb.split(), *words])
