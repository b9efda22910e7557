"""What ONNX Runtime computes on: execution providers, tried one at a time in an order that is stated.

ONNX Runtime itself goes to the CPU without a word where a GPU's libraries do not load, and past CUDA where TensorRT's
do not. Here a provider that cannot be had is passed over only for one that was named behind it, and both are said.
"""

# onnxruntime carries few types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from resnet_dist.runtime.errors import RuntimeMissingError, brief

Provider = Literal["tensorrt", "cuda", "cpu"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
"""In the order in which they are tried."""
_NAMES: dict[Provider, str] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


@dataclass(frozen=True)
class StartedSession:
    """A session of ONNX Runtime."""

    session: Any
    provider: Provider
    passed_over: Mapping[Provider, str]
    """Those before it in the order, and why they cannot be had here."""

    @property
    def text(self) -> str:
        """For people."""
        where = "tensorrt, and cuda for what it leaves" if self.provider == "tensorrt" else self.provider
        return f"ONNX Runtime on {where}{passing_over(self.passed_over)}"


def start_session(
    model: bytes, options: Callable[[], Any], providers: Sequence[Provider] | None = None
) -> StartedSession:
    """A session on the first of the providers that there is, by default of those that the installed ONNX Runtime knows.

    TensorRT leaves to CUDA what it does not know itself. `options` makes those of one session. Raises
    RuntimeMissingError where none of the providers can be had, and on the CPU whatever ONNX Runtime does.
    """
    import onnxruntime  # noqa: PLC0415 - only the runtime in use is imported

    available = set(onnxruntime.get_available_providers())
    passed_over = dict[Provider, str]()
    known: list[Provider] = [each for each in PROVIDERS if _NAMES[each] in available]
    order = known if providers is None else providers
    for provider in order:
        if _NAMES[provider] not in available:
            passed_over[provider] = "this ONNX Runtime has no such provider; pip install 'resnet-dist[gpu-runtime]'"
            continue
        chosen = options()
        # Its own way out prints to stdout, tries others, and raises what they say.
        start = partial(onnxruntime.InferenceSession, model, chosen, enable_fallback=0)
        if provider == "cpu":
            return StartedSession(start(providers=[_NAMES["cpu"]]), "cpu", passed_over)
        # onnxruntime_session_options_config_keys.h: what the GPU cannot compute is an error, and not the CPU's work.
        chosen.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # The bundle's differences are those of fp32, which TF32 would not keep. TensorRT has no such option.
        cuda = (_NAMES["cuda"], {"use_tf32": "0"})
        try:
            session = start(providers=[cuda] if provider == "cuda" else [(_NAMES["tensorrt"], {}), cuda])
        except Exception as error:  # a runtime raises whatever it likes
            passed_over[provider] = f"it does not run this file here ({brief(error)})"
            continue
        if session.get_providers()[0] == _NAMES[provider]:
            return StartedSession(session, provider, passed_over)
        passed_over[provider] = "its libraries, or a GPU, are not here"
    reasons = "; ".join(f"{name}: {reason}" for name, reason in passed_over.items())
    raise RuntimeMissingError(
        f"none of the providers {', '.join(order)} can be had ({reasons}); install what they need, take another "
        "format, or name cpu, too"
    )


def passing_over(passed_over: Mapping[Provider, str]) -> str:
    """What follows the name of a device, for people: those that were passed over, and why."""
    return "".join(f"; not on {name}: {reason}" for name, reason in passed_over.items())
