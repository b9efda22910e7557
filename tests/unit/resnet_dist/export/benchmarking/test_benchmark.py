"""Processes that measure, what their turns come to, and the gate. How fast anything is, no test says."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from ray_jobs.bundles.benchmark import BenchmarkOptions, run_benchmark, write_json
from ray_jobs.cli.app import main
from ray_jobs.errors import ConfigError
from resnet_dist.export.benchmarking.benchmark import Plan, Speed, benchmark, best_batch
from resnet_dist.export.benchmarking.candidate import Candidate, format_candidate, reference_candidates
from resnet_dist.export.benchmarking.machine_load import jiffies
from resnet_dist.export.benchmarking.speed_gate import SpeedGate
from resnet_dist.export.benchmarking.timing import Timing, Turn, summary, time_calls
from resnet_dist.export.benchmarking.worker import BenchmarkError, BenchmarkWorker
from resnet_dist.runtime.bundle import Bundle
from resnet_dist.runtime.errors import BundleError, RuntimeMissingError
from tests.hostile_models import bundle_with, endless, out_of_bounds
from tests.real_bundle import SIZE, changed, digest_of

SHORT = BenchmarkOptions(threads=(1,), batch_sizes=(1, 2), seconds=0.05)


def turn(batch: int, *seconds: float) -> Turn:
    return Turn(batch, seconds, 1_000_000)


def speed(name: str, threads: int, ratio: float | None, images_per_second: float) -> Speed:
    candidate = Candidate(name, "onnxruntime", "fp32", (), (SIZE, SIZE))
    timing = Timing(1, 9, 1.0, 2.0, 3.0, images_per_second, 10.0, ratio)
    return Speed(candidate, threads, timing, timing, {1: images_per_second}, False)


def test_a_summary_has_percentiles_of_all_runs_and_medians_of_rounds():
    own = [turn(2, 0.010, 0.010, 0.010), turn(2, 0.020, 0.020, 0.020), turn(2, 0.100, 0.100, 0.100)]
    other = [turn(1, 0.040), turn(1, 0.040), turn(1, 0.050)]
    found = summary(own, 5_000_000, other)
    assert (found.batch, found.runs, found.peak_mb) == (2, 9, 5.0)
    assert found.p50_ms == pytest.approx(20.0)
    assert found.p99_ms == pytest.approx(100.0)
    assert found.images_per_second == pytest.approx(100.0)
    # By round: 200/25, 100/25, 20/20. A slow round of both is none of the ratio.
    assert found.ratio == pytest.approx(4.0)
    assert summary(own, 1, None).ratio is None


def test_a_call_is_warmed_up_and_timed_at_least_twice():
    calls: list[int] = []
    assert len(time_calls(lambda: calls.append(1), 0.0)) == 2
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 10.2, 4: 10.1}, 1),
        ({1: 10.0, 2: 15.0, 4: 15.1}, 2),
        ({1: 10.0, 2: 9.0, 4: 20.0}, 4),
    ],
)
def test_the_best_batch_is_the_smallest_that_no_larger_one_beats_by_much(speeds: dict[int, float], best: int):
    assert best_batch(speeds) == best


@pytest.mark.parametrize(
    ("formats", "eager"),
    [(["onnx"], 1), pytest.param(["torchscript", "onnx"], 2, marks=pytest.mark.slow)],
)
def test_formats_and_references_take_turns(real_bundle: Path, formats: list[str], eager: int):
    bundle = Bundle.open(real_bundle)
    candidates = [format_candidate(bundle, name) for name in formats]
    references = reference_candidates(real_bundle.with_name("bundle-network"), (SIZE, SIZE))[:eager]
    said: list[str] = []
    # One thread: those of torch spin while they wait, and this machine may be busy.
    found = benchmark(candidates, references, Plan((1,), (1, 2), 0.02), said.append)
    assert found.skipped == {}
    assert [each.candidate.name for each in found.speeds] == [*formats, *("eager", "eager_nhwc")[:eager]]
    for each in found.speeds:
        assert each.single.batch == 1
        assert each.best.batch in (1, 2)
        assert each.single.p50_ms <= each.single.p90_ms <= each.single.p99_ms
        assert each.single.peak_mb > 20
        assert each.single.ratio is not None
        assert each.best.ratio is not None
        assert each.is_reference == each.candidate.name.startswith("eager")
    # The faster reference is the one that everything is compared with.
    assert 1.0 in [each.single.ratio for each in found.speeds if each.is_reference]
    assert any("batches of 2" in line for line in said)


@pytest.mark.slow
def test_each_number_of_threads_is_measured(real_bundle: Path):
    candidates = [format_candidate(Bundle.open(real_bundle), name) for name in ("onnx", "openvino")]
    found = benchmark(candidates, [], Plan((1, 2), (1,), 0.02))
    assert [(each.candidate.name, each.threads) for each in found.speeds] == [
        (name, threads) for threads in (1, 2) for name in ("onnx", "openvino")
    ]
    assert all(each.best == each.single for each in found.speeds)


def test_the_memory_of_a_process_is_its_own(real_bundle: Path):
    """Not that of the process which started it, as the system's own count would have it after fork and exec."""
    held = bytearray(os.urandom(1024) * 400_000)
    with BenchmarkWorker(format_candidate(Bundle.open(real_bundle), "onnx"), 1) as process:
        process.ready()
        peak = process.run(1, 0.0).peak_bytes
    assert 20e6 < peak < len(held)


def test_what_a_process_cannot_do_is_said_and_it_lives_on(real_bundle: Path, tmp_path: Path):
    candidate = format_candidate(Bundle.open(real_bundle), "onnx")
    with BenchmarkWorker(candidate, 1) as process:
        process.ready()
        with pytest.raises(BenchmarkError, match=r"onnx cannot run batches of 5000: .*N in 1\.\.1024"):
            process.run(5000, 0.0)
        assert process.run(3, 0.0).batch == 3
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    with BenchmarkWorker(Candidate("onnx", "onnxruntime", "fp32", (str(broken),), (8, 8)), 1) as process:
        with pytest.raises(BenchmarkError, match="onnx cannot be loaded"):
            process.ready()
        with pytest.raises(BenchmarkError, match="ended with 0"):
            process.run(1, 0.0)


def test_a_model_that_never_returns_is_given_up(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = {"onnx/model.onnx": endless().SerializeToString()}
    place = bundle_with(bundle_folder, tmp_path / "hostile", files)
    with BenchmarkWorker(format_candidate(Bundle.open(place), "onnx"), 1) as process:
        process.ready()
        monkeypatch.setattr("resnet_dist.export.benchmarking.worker._REPLY_S", 0.2)
        with pytest.raises(BenchmarkError, match=r"onnx did not load or run a batch in 0\.2 s"):
            process.run(1, 0.0)


def test_a_model_that_fails_is_said_with_its_bundle_and_file(bundle_folder: Path, tmp_path: Path):
    files = {"onnx/model.onnx": out_of_bounds().SerializeToString()}
    place = bundle_with(bundle_folder, tmp_path / "hostile", files)
    with pytest.raises(
        BundleError, match=r"hostile: onnx cannot run batches of 1: .*onnx/model\.onnx fails on a batch"
    ):
        run_benchmark(str(place), replace(SHORT, formats=("onnx",)))


def test_what_cannot_be_loaded_is_skipped_with_the_reason(real_bundle: Path, tmp_path: Path):
    good = format_candidate(Bundle.open(real_bundle), "onnx")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    bad = Candidate("onnxruntime_int8", "onnxruntime", "int8", (str(tmp_path / "model.onnx"),), (8, 8))
    found = benchmark([bad, good], [], Plan((1,), (1,), 0.02))
    assert [each.candidate.name for each in found.speeds] == ["onnx"]
    assert found.speeds[0].single.ratio is None
    assert "cannot be loaded" in found.skipped["onnxruntime_int8"]


@pytest.mark.slow
def test_a_bundle_without_its_run_is_measured_without_a_reference(real_bundle: Path, tmp_path: Path):
    outcome = run_benchmark(str(real_bundle), SHORT)
    assert [each.candidate.name for each in outcome.result.speeds] == ["onnx", "openvino"]
    assert "--run RUN" in outcome.no_reference
    assert "can hold code" in outcome.result.skipped["torchscript"]
    assert outcome.failures == ()
    write_json(tmp_path / "b.json", outcome)
    stored = json.loads((tmp_path / "b.json").read_text())
    assert [each["precision"] for each in stored["speeds"]] == ["fp32", "fp32"]
    with pytest.raises(ConfigError, match="--json"):
        write_json(tmp_path / "no" / "b.json", outcome)


def test_formats_that_can_hold_code_are_measured_where_they_are_named(real_bundle: Path):
    said: list[str] = []
    options = BenchmarkOptions(("torchscript",), (1,), (1,), 0.05)
    outcome = run_benchmark(str(real_bundle), options, say=said.append)
    assert any("1 in turns, about 1 minute, 8 s of them to load the models and warm them up" in line for line in said)
    assert [each.candidate.name for each in outcome.result.speeds] == ["torchscript"]


def test_a_damaged_format_is_refused(real_bundle: Path, tmp_path: Path):
    copy = changed(real_bundle, tmp_path / "bundle")
    assert digest_of(copy) == digest_of(real_bundle)
    graph = copy / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleError, match=r"onnx/model\.onnx was changed"):
        run_benchmark(str(copy), SHORT)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (BenchmarkOptions(formats=("tensorrt",)), "tensorrt is not in .* it has torchscript, onnx, openvino"),
        (BenchmarkOptions(formats=("onnx", "onnx")), "names one twice"),
        (BenchmarkOptions(threads=(0,)), r"--threads 0: .*1\.\.1024"),
        (BenchmarkOptions(batch_sizes=(1, 4096)), r"--batch-sizes 1,4096: .*1\.\.1024"),
        (BenchmarkOptions(seconds=0.0), "--seconds 0.0: give a number above 0"),
        (BenchmarkOptions(gates=(SpeedGate("tensorrt", 2.0, "ips"),)), "tensorrt is not measured here"),
        (BenchmarkOptions(gates=(SpeedGate("onnx", 2.0, "x"),)), "no reference: .*such as onnx=20ips"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_measured(real_bundle: Path, options: BenchmarkOptions, said: str):
    with pytest.raises(ConfigError, match=said):
        run_benchmark(str(real_bundle), options)


def test_a_format_that_was_asked_for_must_load(real_bundle: Path, tmp_path: Path):
    formats = json.loads((real_bundle / "bundle.json").read_bytes())["formats"]
    formats["openvino"]["hints"] = {"INFERENCE_PRECISION_HINT": "f7"}
    copy = changed(real_bundle, tmp_path / "bundle", formats=formats)
    with pytest.raises(RuntimeMissingError, match="openvino: openvino cannot be loaded"):
        run_benchmark(str(copy), BenchmarkOptions(("openvino",), (1,), (1,), 0.05))


@pytest.mark.parametrize("text", ["onnx", "onnx=", "onnx=0", "onnx=-1", "onnx=1.2.3", "onnx=4ms", "=4", "onnx=inf"])
def test_a_gate_that_is_none_is_refused(text: str):
    with pytest.raises(ValueError, match="write FORMAT=RATIO"):
        SpeedGate.parse(text)


def test_a_gate_looks_at_the_most_threads():
    speeds = [speed("onnx", 1, 9.0, 50.0), speed("onnx", 4, 1.5, 10.0), speed("openvino", 4, None, 10.0)]
    assert SpeedGate.parse("onnx=1.5") == SpeedGate.parse("onnx=1.5x") == SpeedGate("onnx", 1.5, "x")
    assert SpeedGate.parse("onnx=1.5").failure(speeds) is None
    assert SpeedGate.parse("onnx=10ips").failure(speeds) is None
    slow = SpeedGate.parse("onnx=1.6").failure(speeds)
    assert slow == "onnx: 1.5 times PyTorch eager fp32 with one image on 4 threads, at least 1.6 are asked for"
    assert "10 images/s with batches of 1 on 4 threads" in str(SpeedGate.parse("onnx=11ips").failure(speeds))
    assert "nothing to be compared with" in str(SpeedGate.parse("openvino=1").failure(speeds))
    assert "was not measured" in str(SpeedGate.parse("tensorrt=1").failure(speeds))
    assert SpeedGate("onnx", 1.0, "x").failure([speed("onnx", 1, float("nan"), 1.0)]) is not None


WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "safetensors", "pyarrow", "ray"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from ray_jobs.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_machine_with_no_more_than_the_runtime_measures_its_formats(real_bundle: Path, tmp_path: Path):
    """Without torch here; the processes that measure are not given it either, since no format needs it."""
    flags = ["--threads", "1", "--batch-sizes", "1", "--seconds", "0.05", "--json", str(tmp_path / "b.json")]
    run = [sys.executable, "-c", WITHOUT_TORCH, "benchmark", str(real_bundle), *flags]
    done = subprocess.run(run, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "no reference" in done.stdout
    assert {each["format"] for each in json.loads((tmp_path / "b.json").read_text())["speeds"]} == {"onnx", "openvino"}


def test_other_work_is_what_the_system_counts_now():
    first = jiffies()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as spinning:
        try:
            used = 0.0
            while used < 0.3:  # seconds of a core, however long that takes on a busy machine
                used = psutil.Process(spinning.pid).cpu_times().user
        finally:
            spinning.kill()
    last = jiffies()
    assert first is not None
    assert last is not None
    assert last[0] - first[0] >= 0.2 * os.sysconf("SC_CLK_TCK")
    assert last[1] - first[1] >= last[0] - first[0]


def test_where_numbers_cannot_be_stored_is_said_before_anything_is_measured(
    real_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("ray_jobs.bundles.benchmark.benchmark", lambda *_: pytest.fail("it was measured"))
    for place in (tmp_path / "no" / "b.json", tmp_path):
        assert main(["benchmark", str(real_bundle), "--json", str(place)]) == 2
        assert f"--json {place} cannot be written" in capfd.readouterr().err
