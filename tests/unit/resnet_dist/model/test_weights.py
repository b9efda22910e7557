"""First weights from every place they may come from, and from places they must not."""

import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from resnet_dist.compression.pruning.narrowing import narrowed
from resnet_dist.errors import RunError
from resnet_dist.model import weights as weights_module
from resnet_dist.model import weights_file
from resnet_dist.model.resnet import ResNetClassifier, build_model
from resnet_dist.model.structure import Structure
from resnet_dist.model.weights import StructuredWeights, Weights, hub_file, initialize
from resnet_dist.model.widths import Widths

torch.set_num_threads(1)


def no_run(name: str) -> StructuredWeights | None:
    raise AssertionError(f"{name} was looked up as a run")


def of_resnet18(weights: Weights) -> StructuredWeights:
    return StructuredWeights(weights, Structure("resnet18"))


def fresh(classes: int = 3, seed: int = 0) -> ResNetClassifier:
    return build_model(Structure("resnet18"), classes, 0.0, seed)


@pytest.fixture(scope="module")
def stored() -> Weights:
    """What another training left behind."""
    return fresh(seed=7).state_dict()


def differing(model: ResNetClassifier, expected: Weights) -> list[str]:
    return [name for name, value in model.state_dict().items() if not torch.equal(value, expected[name])]


def assert_refused(model: ResNetClassifier, weights: str, match: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RunError, match=match):
        initialize(model, weights, no_run)
    assert differing(model, before) == []


def test_none_keeps_the_seeds_weights() -> None:
    model, untouched = fresh(), fresh().state_dict()
    assert initialize(model, "none", no_run) == ["weights: none, initialised from the seed"]
    assert differing(model, untouched) == []


def test_safetensors(tmp_path: Path, stored: Weights) -> None:
    save_file(stored, tmp_path / "a.safetensors")
    model = fresh()
    assert initialize(model, f"{tmp_path}/a.safetensors", no_run) == [f"weights: {tmp_path}/a.safetensors"]
    assert differing(model, stored) == []


WRAPPINGS: dict[str, Callable[[Weights], object]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "data_parallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "both": lambda state: {"state_dict": {"model": state}},
}


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_pickled_tensors(tmp_path: Path, stored: Weights, wrapping: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    torch.save(WRAPPINGS[wrapping](stored), path, _use_new_zipfile_serialization=suffix == ".pt")
    model = fresh()
    initialize(model, str(path), no_run)
    assert differing(model, stored) == []


class Malicious:
    """Unpickling this creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_never_runs(tmp_path: Path, stored: Weights, zipped: bool) -> None:
    trace, path = tmp_path / "executed", tmp_path / "evil.pth"
    torch.save({"state_dict": stored, "extra": Malicious(trace)}, path, _use_new_zipfile_serialization=zipped)
    assert_refused(fresh(), str(path), "could run code")
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the attack is a real one
    assert trace.exists()


def test_a_bare_malicious_pickle_never_runs(tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    assert_refused(fresh(), str(path), "could run code|damaged")
    assert not trace.exists()


def test_a_run_is_looked_up_by_its_name(stored: Weights) -> None:
    asked: list[str] = []

    def find_run(name: str) -> StructuredWeights | None:
        asked.append(name)
        return of_resnet18(stored) if name == "tiles-resnet18" else None

    model = fresh()
    assert initialize(model, "tiles-resnet18", find_run) == ["weights: tiles-resnet18"]
    assert differing(model, stored) == []
    with pytest.raises(RunError, match=r"'nowhere' is no finished run; give one, a \.safetensors"):
        initialize(model, "nowhere", find_run)
    assert asked == ["tiles-resnet18", "nowhere"]


def test_a_head_of_another_size_is_replaced_by_the_seeds(stored: Weights) -> None:
    model, untouched = fresh(classes=5), fresh(classes=5).state_dict()
    messages = initialize(model, "other", lambda _: of_resnet18(stored))
    assert messages[1:] == ["head: 3 classes in the weights, 5 here: replaced by a new one from the seed"]
    assert differing(model, stored | {name: untouched[name] for name in ("fc.weight", "fc.bias")}) == []


def test_a_wider_run_is_narrowed_and_said_to_be() -> None:
    wide, narrow = Structure("resnet34"), Structure("resnet18", widths=Widths.of("resnet18", 0.5))
    other = build_model(wide, 3, 0.0, seed=7).state_dict()
    model = build_model(narrow, 5, 0.0, seed=0)
    head = model.state_dict()["fc.weight"].clone()
    messages = initialize(model, "other", lambda _: StructuredWeights(other, wide))
    assert messages == [
        "weights: other, narrowed from resnet34 of 21.3 million weights to resnet18 of 2.8 million weights",
        "head: 3 classes in the weights, 5 here: replaced by a new one from the seed",
    ]
    assert differing(model, narrowed(other, wide, narrow) | {"fc.weight": head, "fc.bias": model.fc.bias}) == []


def test_widths_that_are_written_out_are_no_other_network(stored: Weights) -> None:
    written = Structure("resnet18", widths=Widths.of("resnet18"))
    model = build_model(written, 3, 0.0, seed=0)
    assert initialize(model, "other", lambda _: of_resnet18(stored)) == ["weights: other"]
    assert differing(model, stored) == []


def test_a_narrower_run_or_one_of_other_blocks_is_refused(tmp_path: Path) -> None:
    half = Structure("resnet18", widths=Widths.of("resnet18", 0.5))
    runs = {
        "half": StructuredWeights(build_model(half, 3, 0.0, seed=7).state_dict(), half),
        "deep": StructuredWeights(build_model(Structure("resnet50"), 3, 0.0, 7).state_dict(), Structure("resnet50")),
    }
    model, untouched = fresh(), fresh().state_dict()
    for name, match in (("half", "a width of 64 for layer1, which has 32 channels"), ("deep", "2 convolutions")):
        with pytest.raises(RunError, match=match):
            initialize(model, name, runs.get)
    # Nothing says of a file what network it is of.
    save_file(runs["half"].tensors, tmp_path / "a.safetensors")
    assert_refused(model, f"{tmp_path}/a.safetensors", r"do not fit model\.arch=resnet18")
    assert differing(model, untouched) == []


def test_files_without_batch_counters_load(stored: Weights) -> None:
    old = {name: value for name, value in stored.items() if not name.endswith("num_batches_tracked")}
    model = fresh()
    initialize(model, "old", lambda _: of_resnet18(old))
    assert differing(model, stored) == []


Change = Callable[[Weights], Weights]


def without(*names: str) -> Change:
    return lambda state: {name: value for name, value in state.items() if name not in names}


def with_(**values: torch.Tensor) -> Change:
    return lambda state: state | {name.replace("__", "."): value for name, value in values.items()}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (without("layer1.0.conv1.weight"), r"layer1\.0\.conv1\.weight is missing"),
        (without("fc.bias"), r"fc\.bias is missing"),
        (without("fc.bias", "fc.weight"), r"fc\.weight is missing; fc\.bias is missing"),
        (with_(layer5__weight=torch.zeros(2)), r"layer5\.weight is unknown"),
        (with_(module__fc__bias=torch.zeros(2)), r"module\.fc\.bias is unknown"),
        (with_(bn1__weight=torch.ones(63)), r"bn1\.weight is \[63\], not \[64\]"),
        (with_(fc__weight=torch.ones(5, 512)), r"fc\.weight is \[5, 512\], not \[3, 512\]"),
        (with_(fc__weight=torch.ones(9, 7), fc__bias=torch.ones(9)), r"fc\.weight is \[9, 7\]"),
        (with_(fc__weight=torch.tensor(1.0), fc__bias=torch.tensor(1.0)), r"fc\.weight is \[\]"),
        (with_(bn1__weight=torch.ones(64, dtype=torch.int8)), r"bn1\.weight is torch\.int8, not torch\.float32"),
        (with_(bn1__weight=torch.ones(64).to_sparse()), r"bn1\.weight is not a dense tensor"),
        (with_(bn1__weight=torch.ones(64, device="meta")), r"bn1\.weight is not a dense tensor"),
        (with_(bn1__weight=torch.full((64,), torch.nan)), r"bn1\.weight has values that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(stored: Weights, change: Change, match: str) -> None:
    model, untouched = fresh(), fresh().state_dict()
    with pytest.raises(RunError, match=match):
        initialize(model, "other", lambda _: of_resnet18(change(stored)))
    assert differing(model, untouched) == []


def test_another_architecture_is_refused_with_the_first_few_names(tmp_path: Path) -> None:
    torch.save(build_model(Structure("resnet50"), 3, 0.0, 0).state_dict(), tmp_path / "a.pth")
    with pytest.raises(RunError, match=r"do not fit model\.arch=resnet18") as caught:
        initialize(fresh(), f"{tmp_path}/a.pth", no_run)
    assert str(caught.value).count("layer") == 5
    assert "more. Choose the architecture" in str(caught.value)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ([1, 2], "holds a list, no state_dict"),
        ({"state_dict": 3}, "holds a int, no state_dict"),
        ({"epoch": 3}, "no tensor under 'epoch'"),
        ({}, "is missing"),
    ],
)
def test_files_with_something_else_are_refused(tmp_path: Path, state: object, match: str) -> None:
    torch.save(state, tmp_path / "a.pth")
    assert_refused(fresh(), f"{tmp_path}/a.pth", match)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
def test_damaged_files_are_refused(tmp_path: Path, stored: Weights, suffix: str, kept: float) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        save_file(stored, path)
    else:
        torch.save(stored, path, _use_new_zipfile_serialization=suffix == ".pt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole) if isinstance(kept, float) else kept)])
    assert_refused(fresh(), str(path), str(path))


@pytest.mark.parametrize("name", ["no.pth", "no.pt", "no.safetensors"])
def test_absent_files_are_named(tmp_path: Path, name: str) -> None:
    assert_refused(fresh(), str(tmp_path / name), f"{name} does not exist; give a")
    (tmp_path / name).mkdir()
    assert_refused(fresh(), str(tmp_path / name), f"{name} does not exist; give a")


def test_files_too_large_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.truncate(4 * 1024**3 + 1)
    assert_refused(fresh(), str(path), "more than the 4294967296 that are read")


def test_an_archive_that_unpacks_to_too_much_is_not_read(
    tmp_path: Path, stored: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(stored, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.namelist():
            bomb.writestr(member, plain.read(member))
        bomb.writestr("archive/data/bomb", bytes(100_000_000))
    size = (tmp_path / "bomb.pt").stat().st_size
    monkeypatch.setattr(weights_file, "_MAX_FILE_BYTES", 2 * size)
    assert_refused(fresh(), f"{tmp_path}/bomb.pt", "bytes, more than")


class TestTorchvision:
    @pytest.fixture(autouse=True)
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing listens there: offline
        return tmp_path / "hub" / "checkpoints"

    @pytest.mark.parametrize(
        ("weights", "name"),
        [
            ("imagenet", "resnet50-11ad3fa6.pth"),
            ("IMAGENET1K_V1", "resnet50-0676ba61.pth"),
            ("imagenet1k_v2", "resnet50-11ad3fa6.pth"),
        ],
    )
    def test_names_lead_to_files(self, hub: Path, weights: str, name: str) -> None:
        assert hub_file("resnet50", weights) == (hub / name, f"https://download.pytorch.org/models/{name}")

    def test_the_cached_file_is_used(self) -> None:
        stored = fresh(classes=1000, seed=7).state_dict()
        path, _ = hub_file("resnet18")
        path.parent.mkdir(parents=True)
        torch.save(stored, path, _use_new_zipfile_serialization=False)
        model, untouched = fresh(), fresh().state_dict()
        messages = initialize(model, "imagenet", no_run)
        assert messages[1].startswith("head: 1000 classes in the weights, 3 here")
        assert differing(model, stored | {name: untouched[name] for name in ("fc.weight", "fc.bias")}) == []

    def test_they_are_narrowed_too(self) -> None:
        stored = fresh(classes=1000, seed=7).state_dict()
        path, _ = hub_file("resnet18")
        path.parent.mkdir(parents=True)
        torch.save(stored, path, _use_new_zipfile_serialization=False)
        narrow = Structure("resnet18", widths=Widths.of("resnet18", 0.5))
        model = build_model(narrow, 1000, 0.0, seed=0)
        messages = initialize(model, "imagenet", no_run)
        assert messages == [
            "weights: imagenet, narrowed from resnet18 of 11.2 million weights to resnet18 of 2.8 million weights"
        ]
        assert differing(model, narrowed(stored, Structure("resnet18"), narrow)) == []

    def test_offline_it_says_which_file_goes_where(self, hub: Path) -> None:
        with pytest.raises(RunError) as caught:
            initialize(fresh(), "imagenet", no_run)
        assert "download https://download.pytorch.org/models/resnet18-f37072fd.pth" in str(caught.value)
        assert f"put it at {hub}/resnet18-f37072fd.pth" in str(caught.value)
        assert not list(hub.glob("*.pth"))

    def test_code_in_a_cached_file_never_runs(self, tmp_path: Path) -> None:
        path, _ = hub_file("resnet18")
        path.parent.mkdir(parents=True)
        torch.save(Malicious(tmp_path / "executed"), path)
        assert_refused(fresh(), "imagenet", "could run code")
        assert not (tmp_path / "executed").exists()

    @pytest.mark.parametrize("weights", ["IMAGENET1K_V9", "IMAGENET1K_V2"])
    def test_unknown_names_list_the_valid_ones(self, weights: str) -> None:
        assert_refused(
            fresh(), weights, f"'{weights}' is none of torchvision's for resnet18; use imagenet, IMAGENET1K_V1"
        )

    def test_a_download_with_another_hash_is_not_used(
        self, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served = tmp_path / "served"
        served.mkdir()
        torch.save(fresh(classes=1000).state_dict(), served / "resnet18-f37072fd.pth")
        digest = hashlib.sha256((served / "resnet18-f37072fd.pth").read_bytes()).hexdigest()
        assert not digest.startswith("f37072fd")
        url = (served / "resnet18-f37072fd.pth").as_uri()
        monkeypatch.setattr(weights_module, "hub_file", lambda *_: (hub / "resnet18-f37072fd.pth", url))
        assert_refused(fresh(), "imagenet", "invalid hash value")
        assert not (hub / "resnet18-f37072fd.pth").exists()
        # The same way with the right hash in its name succeeds.
        renamed = served / f"resnet18-{digest[:8]}.pth"
        (served / "resnet18-f37072fd.pth").rename(renamed)
        monkeypatch.setattr(weights_module, "hub_file", lambda *_: (hub / renamed.name, renamed.as_uri()))
        assert initialize(fresh(), "imagenet", no_run)[1].startswith("head: 1000")
