"""A job's attempts on a running Ray: each has an id, and each id belongs to one attempt of one job."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.errors import SubmissionError
from cluster.jobs_api.names import attempt_of, check_name, submission_id

NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True)
ATTEMPTS = st.integers(1, 10**6)


@given(NAMES, ATTEMPTS)
def test_an_id_says_which_attempt_it_is(name: str, attempt: int) -> None:
    check_name(name)
    assert attempt_of(name, submission_id(name, attempt)) == attempt


@given(NAMES, ATTEMPTS, NAMES, ATTEMPTS)
def test_no_two_attempts_share_an_id(name: str, attempt: int, other: str, second: int) -> None:
    assume((name, attempt) != (other, second))
    assert submission_id(name, attempt) != submission_id(other, second)


@given(NAMES, ATTEMPTS, st.integers(1, 99))
def test_the_attempt_of_a_job_whose_name_ends_in_a_number_is_not_another_jobs(
    name: str, attempt: int, tail: int
) -> None:
    assert attempt_of(name, submission_id(f"{name}-{tail}", attempt)) is None


@pytest.mark.parametrize(
    "identifier", ["digits", "digits-", "digits-0", "digits-01", "digits-x", "digits-1 ", "digits-²"]
)
def test_what_is_no_attempt(identifier: str) -> None:
    assert attempt_of("digits", identifier) is None


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "ä", "a\n", "a" * 129, "../x", "a?b", "a%2fb"])
def test_a_name_that_is_no_part_of_an_address_is_refused(name: str) -> None:
    with pytest.raises(SubmissionError, match="choose another --name"):
        check_name(name)
