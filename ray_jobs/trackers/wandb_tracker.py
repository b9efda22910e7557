"""Weights & Biases: online where a key is set, else offline files that `wandb sync` sends later."""

import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ray_jobs.trackers.high_water_mark import HighWaterMark
from ray_jobs.trackers.tracker import ExitState, Plain, TrackedRun, TrackerError, optional_module, upload_folder
from resnet_dist.runtime.telemetry import refuse_telemetry

_TIMEOUT_S = 30.0
_MARKS = "told.json"
_EXIT_CODES: dict[ExitState, int] = {"finished": 0, "stopped": 255, "failed": 1}
"""wandb gives 255 to a run that Ctrl-C has ended (wandb/sdk/lib/exit_hooks.py), and shows it as killed."""


class WandbTracker:
    """One run under one id, resumed under it. Its x axis is "step": wandb's own counter refuses a step that it had."""

    def __init__(self, run: TrackedRun, capture: Sequence[str], finish_s: float) -> None:
        self._tracked = run
        self._high_water_mark = HighWaterMark(run.folder / _MARKS)
        self._capture = capture
        self._finish_s = finish_s
        self._wandb: Any = None
        self._run: Any = None
        self.link = ""

    def start(self) -> str | None:
        """Begin or go on with the run of this id."""
        run = self._tracked
        refuse_telemetry()  # reports of wandb's own errors
        self._wandb = wandb = optional_module("wandb", "train")
        run.folder.mkdir(parents=True, exist_ok=True)
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_key(wandb.Settings().base_url) else "offline")
        system = "system" in self._capture
        settings = wandb.Settings(
            mode=mode,
            silent=True,
            allow_val_change=True,  # a continued run has more epochs
            console="wrap" if "console" in self._capture else "off",
            save_code="code" in self._capture,
            disable_code="code" not in self._capture,
            disable_git="code" not in self._capture,
            x_save_requirements=False,
            x_disable_stats=not system,
            x_disable_meta=not system,
            x_disable_machine_info=not system,
            init_timeout=_TIMEOUT_S,
            finish_timeout=self._finish_s,
            x_graphql_retry_max=2,
            x_graphql_timeout_seconds=_TIMEOUT_S / 3,
        )
        try:
            self._run = wandb.init(
                project=run.project,
                group=run.group or None,
                id=run.id,
                name=run.name,
                resume="allow",
                dir=str(run.folder),
                config=dict(run.config),
                tags=list(run.tags),
                settings=settings,
            )
        except wandb.Error as error:
            raise TrackerError(
                f"{str(error).strip().splitlines()[0]}; check WANDB_API_KEY, WANDB_BASE_URL and the connection, or "
                "set WANDB_MODE=offline"
            ) from error
        self._run.define_metric("*", step_metric="step")
        if self._run.resumed and not (run.folder / _MARKS).exists():
            # Another machine than before: the server knows the furthest step, though not of which kind it was.
            self._high_water_mark.reach(int(self._run.summary.get("step", -1)), ["train/loss"])
            self._high_water_mark.reach(int(self._run.summary.get("step", -1)), ["val/loss"])
        if mode != "offline":
            self.link = self._run.url or ""
            return None
        # wandb makes files/ in the folder that is synced.
        if run.upload is None:
            self.link = str(Path(self._run.dir).parent)
            how = f"wandb sync {self.link}"
        else:
            self.link = run.place
            how = f"copy {run.place} to a machine and there: wandb sync wandb/offline-run-*"
        return f"tracker.kind=wandb keeps the run offline; to send it, {how}"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record what was not recorded before."""
        if self._high_water_mark.is_new(step, metrics):
            self._run.log({"step": step, **metrics})
            self._high_water_mark.record(step, metrics)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]) -> None:
        """A wandb.Table; once, as it would be a new version with each start."""
        if self._tracked.resumed_step is None:
            self._run.log({name: self._wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def epoch_done(self) -> None:
        """Nothing: wandb's own process stores and sends all the time."""

    def finish(self, state: ExitState) -> None:
        """Close the run; what is offline goes to the run directory."""
        self._run.finish(exit_code=_EXIT_CODES[state])
        upload_folder(self._tracked, "offline-run-*/**/*")


def _has_key(base_url: str) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(path).authenticators(urlsplit(base_url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
