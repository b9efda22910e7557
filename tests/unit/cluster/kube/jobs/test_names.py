"""Names of jobs are ones that Kubernetes takes, differ where what they name differs, and stay where they can."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SubmissionError
from cluster.kube.jobs.names import MOST_LETTERS, check_image, check_label, job_name

RUN_NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", fullmatch=True)
VERBS = st.sampled_from(["train", "tune", "evaluate", "export"])


@given(RUN_NAMES, VERBS)
def test_any_name_of_a_run_becomes_a_name_of_a_job(name: str, verb: str) -> None:
    found = job_name(name, verb)
    assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", found)
    assert len(found) <= MOST_LETTERS
    assert found == job_name(name, verb)


@given(RUN_NAMES, RUN_NAMES)
def test_two_runs_have_two_jobs(one: str, other: str) -> None:
    assert (job_name(one, "train") == job_name(other, "train")) == (one == other)


def test_a_name_that_may_stand_stands() -> None:
    assert job_name("tiles-resnet50", "train") == "tiles-resnet50"
    assert job_name("tiles-resnet50", "export") == "tiles-resnet50-export"
    assert job_name("Tiles_1", "train").startswith("tiles-1-")
    assert job_name("7tiles", "train").startswith("job-7tiles-")


@pytest.mark.parametrize("value", ["", "Vision", "a b", "-a", "a-", "a" * 64, "a.b", "ä"])
def test_names_of_queues_and_namespaces_are_refused_with_their_flag(value: str) -> None:
    with pytest.raises(SubmissionError, match=f"^--queue {value!r} must be 1 to 63 small letters"):
        check_label(value, "--queue")


@pytest.mark.parametrize(
    "value", ["resnet-dist:0.2.0-gpu", "pool.example:5000/team/resnet-dist:1", f"resnet-dist@sha256:{'a' * 64}"]
)
def test_images_with_a_version_are_taken(value: str) -> None:
    assert check_image(value) == value


@pytest.mark.parametrize("value", ["resnet-dist", "resnet-dist:latest", "pool.example:5000/team/resnet-dist"])
def test_images_that_may_change_are_refused(value: str) -> None:
    with pytest.raises(SubmissionError, match="may be another image tomorrow"):
        check_image(value)


@pytest.mark.parametrize("value", ["", "a b:1", "resnet-dist:1; rm -rf /", "resnet-dist@sha256:12", ":1"])
def test_what_is_no_image_is_refused(value: str) -> None:
    with pytest.raises(SubmissionError, match="is no image"):
        check_image(value)
