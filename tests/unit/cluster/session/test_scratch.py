"""What is left of killed processes goes, what living ones use stays."""

import subprocess
import sys
from pathlib import Path

from cluster.session.scratch import remove_abandoned, scratch_folder

HOLDER = """
import sys
from cluster.session.scratch import scratch_folder
with scratch_folder("rd-ray-", sys.argv[1]) as folder:
    (folder / "r").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


def start(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_process_s_folder_goes_with_the_next_start_and_a_living_one_s_stays(tmp_path: Path):
    (killed, left), (living, used) = start(tmp_path), start(tmp_path)
    try:
        killed.kill()
        killed.wait()
        assert (left / "r").is_dir()
        with scratch_folder("rd-train-", str(tmp_path)) as folder:
            assert not left.exists()
            assert (used / "r").is_dir()
            assert sorted(tmp_path.iterdir()) == sorted([used, folder])
        living.communicate(timeout=30)
        assert list(tmp_path.iterdir()) == []
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()


def test_what_was_made_by_something_else_stays(tmp_path: Path):
    other = tmp_path / "rd-of-somebody"
    (other / "r").mkdir(parents=True)
    aside = tmp_path / "aside"
    aside.mkdir()
    (aside / "lock").touch()
    (tmp_path / "rd-link").symlink_to(aside)
    (tmp_path / "rd-file").touch()
    linked = tmp_path / "rd-linked-lock"
    linked.mkdir()
    (linked / "lock").symlink_to(aside / "lock")
    before = sorted(tmp_path.rglob("*"))
    assert remove_abandoned(tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before
