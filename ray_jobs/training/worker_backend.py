"""What Ray Train sets up on its workers: nothing but the device, since they make torch's process group themselves.

Ray's controller reads this too, and it would only start later for knowing torch: so torch is imported on workers alone.
"""

from contextlib import nullcontext

from ray.train.backend import Backend, BackendConfig


class _NoBackend(Backend):
    """Sets nothing up. Workers of a node see each other's GPUs, as NCCL needs."""

    share_cuda_visible_devices = True


class _OnOwnDevice(nullcontext[None]):
    def __enter__(self) -> None:
        import ray.train.torch  # noqa: PLC0415
        import torch  # noqa: PLC0415

        device = ray.train.torch.get_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)


class WorkersOwnGroup(BackendConfig):
    """As Ray's TorchConfig, but the workers make the process group themselves, with `process_group`."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray runs on its workers before the training function."""
        return _NoBackend

    @property
    def train_func_context(self) -> type[nullcontext[None]]:
        """What the training function runs within."""
        return _OnOwnDevice
