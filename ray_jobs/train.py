"""`resnet-dist train`: prepares a run on the driver, launches its workers, restarts them where they fail."""

import os
import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import ray
import ray.train
import ray.train.torch

from cluster.lease import ProcessIdentity, held_by_other, read_history
from cluster.ray_session import ray_session
from cluster.resources import WorkerPlan, check_before_start, plan_workers
from cluster.storage import Store
from data_pipeline.errors import DataError
from data_pipeline.splits import split_csv
from ray_jobs.config import JobConfig, run_name
from ray_jobs.errors import ConfigError, exit_code_of
from ray_jobs.identity import difference, identity
from ray_jobs.outcome import TrainOutcome
from ray_jobs.prepared_data import PreparedData, prepare_data
from ray_jobs.progress import Progress
from ray_jobs.run_directory import RunDirectory
from ray_jobs.worker import WorkerTask, train_worker
from resnet_dist import checkpoint as checkpoints
from resnet_dist.errors import RunError
from resnet_dist.run_records import Status
from resnet_dist.runtime.preprocess import Preprocess
