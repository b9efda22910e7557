"""The network as it is deployed: uint8 images in, normalisation inside, BatchNorm folded."""

import torch
from torch import nn

from resnet_dist.model.resnet import ResNetClassifier
from resnet_dist.model.trunk import fold_batch_norm
from resnet_dist.runtime.preprocess import Preprocess


class InferenceModule(nn.Module):
    """Logits float32 [N, classes] of images uint8 [N, height, width, 3], RGB. In evaluation mode, without gradients."""

    def __init__(self, model: ResNetClassifier, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = fold_batch_norm(model).to(memory_format=torch.contiguous_format)
        mean, std = (torch.tensor(each, dtype=torch.float64) for each in (preprocess.mean, preprocess.std))
        self.scale = nn.Buffer((1 / (255 * std)).float().reshape(1, 3, 1, 1))
        self.shift = nn.Buffer((-mean / std).float().reshape(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """As above. The first step is the cast: TensorRT lets bytes into a graph for nothing else."""
        return self.network(images.float().permute(0, 3, 1, 2) * self.scale + self.shift)


def example(preprocess: Preprocess) -> torch.Tensor:
    """A batch to trace with. Of two images: one would be taken for a constant; fresh, since a file stores it whole."""
    return torch.zeros((2, *preprocess.input_size, 3), dtype=torch.uint8)
