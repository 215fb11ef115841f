"""The smallest classifier without BatchNorm: its gradient is a plain sum over pictures."""

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """One convolution and one linear layer, a layer group each."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(pixels).relu().mean((2, 3)))
        return logits

    def layer_groups(self) -> list[list[nn.Module]]:
        return [[self.body], [self.head]]
