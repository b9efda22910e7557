"""How a person names a run in the next command."""

import shlex
from pathlib import Path

from cluster.config import StorageConfig
from ray_jobs.run.argument import names_a_place


def run_words(verb: str, run: str, *options: str) -> str:
    """`resnet-dist VERB`, of one word or two, for the run at a URI: by its name, with --storage.root where that is not
    the default; a run that is elsewhere by its whole address. Quoted for a shell.
    """
    place, mark, query = run.partition("?")
    folder, _, name = place.rpartition("/runs/")
    root = folder + mark + query
    if not folder or not name or names_a_place(name):
        words = [run, *options]
    elif root == str(Path(StorageConfig().root).absolute()):
        words = [name, *options]
    else:
        words = [name, *options, "--storage.root", root]
    return shlex.join(["resnet-dist", *verb.split(), *words])
