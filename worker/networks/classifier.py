"""ResNet-18 that distinguishes infection from regions that merely look like it: Wu et al. 2020, figure 8."""

from __future__ import annotations

from monai.networks.nets.resnet import resnet18
from torch import Tensor, nn

from worker.networks.network import Network


class PatchClassifier(Network):
    """ResNet-18 on the square around a candidate region: (n, 1, size, size) to one logit each, (n, 1).

    The paper flattens the convolutions' output to 256 features and ends in three fully connected layers; it
    states neither their widths nor the size of the square. Here a linear layer maps ResNet-18's 512 pooled
    channels to the 256 features, the widths are 128, 32 and 1, and any size from 32 pixels works.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = resnet18(spatial_dims=2, n_input_channels=1, conv1_t_stride=2, num_classes=256)
        self.classifier = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Linear(256, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, 32),
            nn.ReLU(inplace=True),
            nn.Linear(32, 1),
        )

    @property
    def example_shape(self) -> tuple[int, ...]:
        """The shape of one small square."""
        return 1, 1, 32, 32

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of infection."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
