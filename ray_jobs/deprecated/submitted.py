"""The entry point of pods as releases before 0.2 named it: jobs that were submitted with it go on. Gone in 0.3."""

import sys

from ray_jobs.submission.entrypoint import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
