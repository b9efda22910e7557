import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.errors import ConfigError
from ray_jobs.search.config import best_value
from ray_jobs.search.records import EndedBy, Params, SearchDirectory, TrialRecord, digest_of, repeated
from ray_jobs.search.trainable import PARAMS, params_of, values_of
from resnet_dist.errors import RunError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | st.text(max_size=8)
PARAMETERS = st.dictionaries(
    st.sampled_from(["a.b", "c", "d.e", "f"]), PLAIN | st.lists(FINITE | st.integers(-9, 9), max_size=3).map(tuple)
)
EPOCHS = st.lists(st.dictionaries(st.sampled_from(["epoch", "val/loss", "val/top1"]), st.floats()), max_size=3)


@st.composite
def records(draw: st.DrawFn) -> TrialRecord:
    return TrialRecord(
        number=draw(st.integers(0, 999)),
        params=draw(PARAMETERS),
        is_default=draw(st.booleans()),
        state=draw(st.sampled_from(["running", "finished", "stopped", "diverged", "failed"])),
        values=tuple(draw(st.lists(st.none() | st.floats(), max_size=3))),
        history=tuple(draw(EPOCHS)),
        slot=draw(st.none() | st.integers(0, 9)),
        queued_s=draw(st.none() | FINITE),
        started_s=draw(st.none() | FINITE),
        ended_s=draw(st.none() | FINITE),
        error=draw(st.text(max_size=20)),
        reuse=draw(st.none() | st.dictionaries(st.sampled_from(["hits", "misses"]), FINITE)),
        repeats=draw(st.integers(0, 3)),
        ended_by=draw(st.none() | st.sampled_from(get_args(EndedBy))),
    )


def same(one: object, other: object) -> bool:
    """Equal, types and NaN included."""
    return repr(one) == repr(other)


@given(records())
def test_a_record_survives_json_whatever_its_numbers(record: TrialRecord):
    back = TrialRecord.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
    assert same(back, record)
    assert back.digest == record.digest
    assert back.is_over is (record.state != "running")


@given(PARAMETERS, st.randoms())
def test_a_digest_knows_no_order_and_survives_json(params: Params, chance: Any):
    names = list(params)
    chance.shuffle(names)
    assert digest_of({name: params[name] for name in names}) == digest_of(params)
    assert digest_of(json.loads(json.dumps(params))) == digest_of(params)
    back = params_of({PARAMS: json.dumps(params)})
    assert same(sorted(back.items()), sorted(params.items()))
    assert len(digest_of(params)) == 16


@given(PARAMETERS, PARAMETERS)
def test_other_parameters_have_another_digest(one: Params, other: Params):
    texts = [json.dumps(each, sort_keys=True) for each in (one, other)]
    assert (digest_of(one) == digest_of(other)) is (texts[0] == texts[1])


def test_a_digest_stays_as_stored_searches_have_it():
    assert digest_of({"b": (0.35, 1.0), "a": None}) == digest_of({"a": None, "b": (0.35, 1.0)})
    assert digest_of({}) == "44136fa355b3678a"


@pytest.fixture
def directory(tmp_path: Path) -> SearchDirectory:
    return SearchDirectory.named(str(tmp_path), "search")


def test_a_search_is_claimed_once_and_again_only_by_itself(directory: SearchDirectory):
    identity = {"search.objectives": ("val/top1",), "seed": 0, "data fingerprint": "f"}
    assert directory.claim(identity, 12.5) == 12.5
    assert directory.claim({**identity, "search.objectives": ["val/top1"]}, 99.0) == 12.5
    with pytest.raises(ConfigError) as caught:
        directory.claim({**identity, "seed": 3, "space model.dropout": "x"}, 99.0)
    first, *lines = str(caught.value).splitlines()
    assert directory.uri in first
    assert "--name" in first
    assert lines == ["seed: 0 -> 3", "space model.dropout: absent -> x"]
    assert directory.claim(identity, 99.0) == 12.5


def test_trials_are_read_in_the_order_in_which_they_began(
    directory: SearchDirectory, make_trial: Callable[..., TrialRecord]
):
    trials = [make_trial(number, 0.5, float("nan"), state="running") for number in range(11)]
    assert directory.read_trials() == []
    for trial in reversed(trials):
        directory.write_trial(trial)
    directory.store.write("trials/begun/config.toml", b"")
    assert same(directory.read_trials(), trials)
    directory.write_trial(repeated(trials[3]))
    assert [record.repeats for record in directory.read_trials()] == [0, 0, 0, 1] + [0] * 7


def test_a_losers_checkpoints_go_and_its_records_stay(
    directory: SearchDirectory, make_trial: Callable[..., TrialRecord]
):
    trial = make_trial(0, 0.5)
    directory.write_trial(trial)
    directory.trial(trial.digest).write("checkpoints/step/model", b"x")
    directory.drop_checkpoints(trial.digest)
    assert directory.store.list(f"trials/{trial.digest}") == ["trial.json"]
    directory.drop_checkpoints(trial.digest)


GOOD = TrialRecord(0, {"a": 1.0}).to_json()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"{}",
        b'{"schema": 1}',
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"schema": 2},
                {"state": "lost"},
                {"params": [1]},
                {"params": None},
                {"values": ["many"]},
                {"values": 3},
                {"history": [3]},
                {"history": [{"epoch": "first"}]},
                {"history": None},
                {"number": "first"},
                {"number": None},
                {"unheard": 1},
                {"ended_by": "chance"},
                {"repeats": "many"},
                {"slot": "left"},
                {"queued_s": "soon"},
                {"reuse": [1]},
                {"error": None},
                {"is_default": 0},
            )
        ),
        json.dumps({name: value for name, value in GOOD.items() if name != "params"}).encode(),
        json.dumps({name: value for name, value in GOOD.items() if name != "number"}).encode(),
    ],
)
def test_a_damaged_record_is_named(directory: SearchDirectory, make_trial: Callable[..., TrialRecord], content: bytes):
    directory.write_trial(make_trial(1, 0.5))
    directory.store.write("trials/0123/trial.json", content)
    with pytest.raises(RunError, match=r"trials/0123/trial\.json") as caught:
        directory.read_trials()
    assert "delete" in str(caught.value)


@pytest.mark.parametrize(("written", "changed"), [(b"0.5", b"0.9"), (b'"number": 1', b'"number": 4'), (b"\n", b" \n")])
def test_one_changed_digit_of_a_trial_is_named(
    directory: SearchDirectory, make_trial: Callable[..., TrialRecord], written: bytes, changed: bytes
):
    trial = make_trial(1, 0.5)
    directory.write_trial(trial)
    path = f"trials/{trial.digest}/trial.json"
    whole = directory.store.read(path)
    assert written in whole
    directory.store.write(path, whole.replace(written, changed, 1))
    with pytest.raises(RunError, match=rf"{trial.digest}/trial\.json is damaged \(its own hash does not fit\).*delete"):
        directory.read_trials()


def test_a_trial_that_was_not_sealed_is_read_and_is_that_of_its_folder(
    directory: SearchDirectory, make_trial: Callable[..., TrialRecord]
):
    trial = make_trial(1, 0.5)
    place = directory.trial(trial.digest)
    place.write("trial.json", json.dumps(trial.to_json()).encode())
    assert same(directory.read_trials(), [trial])
    other = make_trial(2, 0.5)
    assert other.digest != trial.digest
    place.write("trial.json", json.dumps(other.to_json()).encode())
    with pytest.raises(RunError, match=f"its parameters are those of {other.digest}"):
        directory.read_trials()


def test_an_identity_that_was_not_sealed_is_gone_by_and_a_changed_digit_of_a_sealed_one_is_named(
    directory: SearchDirectory,
):
    directory.store.write("identity.json", json.dumps({"schema": 1, "began": 3.5, "identity": {"seed": 0}}).encode())
    assert directory.claim({"seed": 0}, 9.0) == 3.5
    directory.store.delete("identity.json")
    directory.claim({"seed": 0}, 9.0)
    directory.store.write("identity.json", directory.store.read("identity.json").replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(RunError, match=r"identity\.json is damaged \(its own hash does not fit\)"):
        directory.claim({"seed": 0}, 9.0)


def test_a_record_from_before_it_said_what_ended_a_trial_is_read(make_trial: Callable[..., TrialRecord]):
    trial = make_trial(1, 0.5, state="stopped")
    old = {name: value for name, value in trial.to_json().items() if name != "ended_by"}
    assert TrialRecord.from_json(old) == trial
    assert trial.standing == "stopped"


@pytest.mark.parametrize(
    ("state", "ended_by", "standing"),
    [
        ("stopped", "scheduler", "stopped (scheduler)"),
        ("running", "hours", "unfinished (hours)"),
        ("running", None, "running"),
        ("finished", None, "finished"),
    ],
)
def test_a_person_hears_what_ended_a_trial(
    make_trial: Callable[..., TrialRecord], state: str, ended_by: str | None, standing: str
):
    assert make_trial(1, 0.5, state=state, ended_by=ended_by).standing == standing


@pytest.mark.parametrize("content", [b"{", b"3", b'{"schema": 1}', b'{"identity": 3, "began": 0}'])
def test_a_damaged_identity_is_named(directory: SearchDirectory, content: bytes):
    directory.store.write("identity.json", content)
    with pytest.raises(RunError, match=r"identity\.json"):
        directory.claim({"seed": 0}, 1.0)


def test_json_that_is_written_is_json(directory: SearchDirectory):
    with pytest.raises(ValueError, match="JSON compliant"):
        directory.write_sealed("x.json", {"x": math.nan})
    assert not directory.store.exists("x.json")


@pytest.mark.parametrize(("objective", "best"), [("val/macro_f1", 0.9), ("val/loss", 0.2)])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_epoch_that_is_no_number_does_not_hide_the_best(objective: str, best: float, place: int) -> None:
    values = [0.9, 0.2]
    values.insert(place, float("nan"))
    history = [{"epoch": float(number), objective: value} for number, value in enumerate(values, 1)]
    assert best_value(objective, values) == best
    assert values_of((objective,), history, {}) == (best,)
