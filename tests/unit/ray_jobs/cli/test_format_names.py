"""Names of formats are typed into other commands, so no table breaks them over lines, however large its numbers are."""

import pytest

from ray_jobs.bundles.benchmark import BenchmarkOutcome
from ray_jobs.bundles.export import ExportOutcome
from ray_jobs.cli.show_benchmark import show_benchmark
from ray_jobs.cli.show_bundles import show_export
from resnet_dist.export.benchmarking.benchmark import Benchmark, Speed
from resnet_dist.export.benchmarking.candidate import REFERENCES, Candidate
from resnet_dist.export.benchmarking.timing import Timing
from resnet_dist.export.config import FORMATS
from resnet_dist.export.parity import Parity


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def cells(shown: str) -> list[list[str]]:
    return [line.split() for line in shown.splitlines()]


def test_a_benchmark_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    timing = Timing(64, 10, 1234.56, 2345.67, 3456.78, 1234.56, 12345.6, 12.34)
    names = (*FORMATS, *REFERENCES)
    speeds = [
        Speed(Candidate(name, "onnxruntime", "int8", (), (8, 8)), 16, timing, timing, {}, is_reference=False)
        for name in names
    ]
    machine = {"processor": "a processor", "cores": 16}
    show_benchmark(BenchmarkOutcome("bundle", Benchmark(tuple(speeds), {}), "", (), "", machine))
    shown = capsys.readouterr().out
    row = ["int8", "64", "1234.6", "2345.7", "3456.8", "1234.6", "12346", "12.34"]
    found = [line for line in cells(shown) if line[:1] and line[0] in names]
    assert found == [[name, *row] for name in names for _ in ("one image", "the best batch")]
    assert all(len(line) <= 80 for line in shown.splitlines()[1:-1] if not line.startswith("ratio"))


def test_an_export_at_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = (1000, 0.5, -0.1234, (-0.1, 0.1), 0.5, 0.1, 1.0, 1.0, 1.0, 1.0, 1e-5, 0.1, 1234.5, 1234.5)
    parities = {str(name): Parity("inconclusive", "few images", *numbers) for name in FORMATS}
    point = {"temperature": 1.0, "reject_below": 0.5, "thresholds": {}}
    show_export(ExportOutcome("bundle", "step-1", parities, {}, {}, {}, point, ()))
    row = ["inconclusive", "-12.34", "100.00", "%", "1e-05", "1234.5", "1234.5"]
    assert [[name, *row] for name in FORMATS] == [
        line for line in cells(capsys.readouterr().out) if line[:1] and line[0] in FORMATS
    ]
