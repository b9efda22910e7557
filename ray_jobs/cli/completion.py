"""`resnet-dist completion`: what a shell needs to complete commands and flags."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from ray_jobs.cli.program import COMMAND


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(group=COMMAND)], /) -> None:
    """Print the script with which a shell completes commands and flags. Write it where the shell looks for it:

    bash: resnet-dist completion bash > ~/.local/share/bash-completion/completions/resnet-dist

    zsh: resnet-dist completion zsh > DIR/_resnet-dist, with DIR in $fpath before compinit

    fish: resnet-dist completion fish > ~/.config/fish/completions/resnet-dist.fish

    Parameters
    ----------
    shell
        The shell.
    """
    from ray_jobs.cli.app import app

    sys.stdout.write(app.generate_completion(shell=shell))
