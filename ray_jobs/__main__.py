"""Where the program starts: `predict` alone, since loading it must be quick, or with all other commands."""

import sys

from cluster.session.openmp import bound_spinning
from ray_jobs.cli.program import answer, new_app
from resnet_dist.runtime.telemetry import refuse_telemetry
from resnet_dist.runtime.time_limit import exit_code


def main() -> int:
    """Run this process's command line and return its exit code."""
    bound_spinning()
    refuse_telemetry()
    tokens = sys.argv[1:]
    if tokens[:1] == ["predict"]:
        from ray_jobs.cli.predict import predict  # noqa: PLC0415

        app = new_app()
        app.command(predict)
        return exit_code(answer(app, tokens))
    from ray_jobs.cli.app import main as all_commands  # noqa: PLC0415

    return exit_code(all_commands(tokens))


if __name__ == "__main__":
    sys.exit(main())
