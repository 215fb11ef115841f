"""How each family of torchvision's classifiers is taken apart: its body, groups and weights.

The second layer group begins where fastai divides the body. Where fastai does not say, it begins
where the feature map falls to a sixteenth of the picture's side, which is where fastai divides
resnets and densenets too; a transformer's body is halved.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer, get_model_builder
from torchvision.models.vision_transformer import interpolate_embeddings

StateDict = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """What is alike in the networks of one family."""

    parts: tuple[str, ...]
    """The network's modules that make the body, in the order of its forward; `x.*` is each child
    of `x`."""
    second: int
    """Where the second layer group begins in the body."""
    classifier: tuple[str, ...]
    """How the keys of weights begin that are not the body's."""
    whole: "Callable[[nn.Module, list[nn.Module]], list[nn.Module]] | None" = None
    """Adds to the parts what the network's forward does beside them."""
    options: tuple[tuple[str, Any], ...] = ()
    """What torchvision's builder is told."""
    sized: Callable[[int], Mapping[str, Any]] | None = None
    """What it is told of the side of the pictures."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Patterns in the keys of older weights, and what stands there today."""
    resized: Callable[[nn.Module, StateDict], StateDict] | None = None
    """Fits weights to the network's size of pictures."""

    def network(self, model: str, *, size: int) -> nn.Module:
        """Build torchvision's own network for pictures of `size` pixels, with random weights."""
        told = {} if self.sized is None else self.sized(size)
        network: nn.Module = get_model_builder(model)(weights=None, **dict(self.options), **told)
        return network

    def body(self, network: nn.Module) -> nn.Sequential:
        """Return a network of the family without its pool and classifier."""
        parts: list[nn.Module] = []
        for name in self.parts:
            part = network.get_submodule(name.removesuffix(".*"))
            parts += part.children() if name.endswith(".*") else [part]
        return nn.Sequential(*(parts if self.whole is None else self.whole(network, parts)))


def family_of(model: str) -> Family:
    """Return the family whose name the model's begins with, the longest one that does."""
    return FAMILIES[max(filter(model.startswith, FAMILIES), key=len)]


class Tokens(nn.Module):
    """A vision transformer's first step: [n, 3, s, s] -> [n, 1 + patches, width].

    Each patch becomes a token; the class token comes first; each place has its embedding.
    """

    def __init__(self, network: VisionTransformer) -> None:
        """Take the network's own weights."""
        super().__init__()
        self.conv_proj = network.conv_proj
        self.class_token = network.class_token
        self.pos_embedding = network.encoder.pos_embedding

    def forward(self, pixels: Tensor) -> Tensor:
        """Cut pictures into tokens."""
        patches = self.conv_proj(pixels).flatten(2).transpose(1, 2)
        # Not len(): the ONNX exporter would take the batch for a constant.
        first = self.class_token.expand(patches.shape[0], -1, -1)
        placed: Tensor = torch.cat([first, patches], dim=1) + self.pos_embedding
        return placed


class ClassToken(nn.Module):
    """What the class token has gathered: [n, tokens, width] -> [n, width]."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Take the first token."""
        return tokens[:, 0]


def _with_relu(_network: nn.Module, parts: list[nn.Module]) -> list[nn.Module]:
    """DenseNet's forward has one behind its last module."""
    return [*parts, nn.ReLU(inplace=True)]


def _with_tokens(network: nn.Module, parts: list[nn.Module]) -> list[nn.Module]:
    assert isinstance(network, VisionTransformer)
    return [Tokens(network), *parts, ClassToken()]


def _interpolated(network: nn.Module, weights: StateDict) -> StateDict:
    """Stretch the embeddings of the places to another number of patches."""
    assert isinstance(network, VisionTransformer)
    fitted: StateDict = interpolate_embeddings(
        network.image_size, network.patch_size, OrderedDict(weights)
    )
    return fitted


def _transformer(*, layers: int) -> Family:
    return Family(
        ("encoder.layers.*", "encoder.ln"),
        second=1 + layers // 2,
        classifier=("heads.",),
        whole=_with_tokens,
        sized=lambda size: {"image_size": size},
        renamed=((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")),
        resized=_interpolated,
    )


def _sequence(second: int) -> Family:
    return Family(("features.*",), second=second, classifier=("classifier.",))


_STAGES: Final = ("layer1", "layer2", "layer3", "layer4")
_RESNET: Final = Family(
    ("conv1", "bn1", "relu", "maxpool", *_STAGES), second=6, classifier=("fc.",)
)
_SWIN: Final = Family(("features.*", "norm", "permute"), second=4, classifier=("head.",))

FAMILIES: Final[Mapping[str, Family]] = {
    "alexnet": _sequence(6),
    "convnext": _sequence(4),
    "densenet": Family(
        ("features.*",),
        second=7,
        classifier=("classifier.",),
        whole=_with_relu,
        renamed=((r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2"),),
    ),
    "efficientnet": _sequence(4),
    "googlenet": Family(
        (
            *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b"),
            *("maxpool3", "inception4a", "inception4b", "inception4c", "inception4d"),
            *("inception4e", "maxpool4", "inception5a", "inception5b"),
        ),
        second=7,
        # Two more classifiers, which only torchvision's own training uses.
        classifier=("fc.", "aux1.", "aux2."),
        options=(("aux_logits", False), ("init_weights", True)),
    ),
    "inception": Family(
        (
            *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1"),
            *("Conv2d_4a_3x3", "maxpool2", "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a"),
            *("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c"),
        ),
        second=10,
        classifier=("fc.", "AuxLogits."),
        options=(("aux_logits", False), ("init_weights", True)),
    ),
    "maxvit": Family(
        ("stem", "blocks.*"),
        second=3,
        classifier=("classifier.",),
        sized=lambda size: {"input_size": (size, size)},
    ),
    "mnasnet": Family(("layers.*",), second=10, classifier=("classifier.",)),
    "mobilenet_v2": _sequence(7),
    "mobilenet_v3_large": _sequence(7),
    "mobilenet_v3_small": _sequence(4),
    "regnet": Family(("stem", "trunk_output.*"), second=3, classifier=("fc.",)),
    "resnet": _RESNET,
    "resnext": _RESNET,
    "shufflenet": Family(
        ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"), second=3, classifier=("fc.",)
    ),
    "squeezenet": _sequence(5),
    "swin": _SWIN,
    # fastai's 22 would leave the second group of a VGG of 11 layers empty.
    "vgg": _sequence(22),
    "vgg11": _sequence(11),
    "vgg11_bn": _sequence(15),
    "vit_b": _transformer(layers=12),
    "vit_l": _transformer(layers=24),
    "vit_h": _transformer(layers=32),
    "wide_resnet": _RESNET,
}
"""By the beginning of the models' names; where several fit, the longest counts."""
