"""Pointwise (1x1) convolutions on a single CPU thread: by oneDNN, as on several threads."""

import torch
from torch import nn

from resnet_dist.config import TrainingConfig


def use_onednn(network: nn.Module, training: TrainingConfig) -> None:
    """Have oneDNN compute the pointwise convolutions of a network that is trained so on the CPU, in place.

    With one thread and fewer than 16 images torch otherwise takes its own kernel for those with stride 1
    (ConvParams::use_mkldnn in aten/src/ATen/native/Convolution.cpp). A step of a ResNet-50 at 224 pixels then takes 1.4
    times as long with AVX-512 and 1.1 times with AVX2, and its numbers are rounded unlike those of several threads.
    Dilated convolutions are exempt from that rule, and a dilation means nothing to a kernel of one point.

    Nothing changes with several threads, where the rule does not apply; with less precision, which oneDNN may not
    support on this processor; nor compiled or without AVX2, where it was not measured.
    """
    if training.precision != "fp32" or training.compile or not _applies():
        return
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1):
            part.dilation = (2, 2)


def _applies() -> bool:
    return (
        torch.get_num_threads() == 1
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    )
