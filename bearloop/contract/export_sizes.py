"""How large the ONNX file of a trained model becomes: protobuf ends at 2 GiB, and so does the file.

As data, so that a recipe is judged where there is no torch; a test holds it equal to torchvision.
"""

from collections.abc import Mapping
from typing import Final

LARGEST_FILE: Final = 2**31 - 1
"""Bytes of an ONNX file."""
ROOM: Final = 16 * 2**20
"""Bytes beside the body's parameters: a head takes 2 to 15 MiB, 1,000 classes 2, the graph and the
tables in it up to 6."""


def file_bytes(model: str, *, members: int) -> int:
    """Return how many bytes a file of so many models may take: fp32, with room for the rest."""
    return members * (4 * PARAMETERS[model] + ROOM)


def most_members(model: str) -> int:
    """Return how many of a model one file holds; 0: not even one."""
    return LARGEST_FILE // file_bytes(model, members=1)


def smaller(model: str, *, members: int) -> str | None:
    """Return the largest model of the same family of which so many fit; None: none does."""
    family = model.partition("_")[0]
    fit = [
        name
        for name in PARAMETERS
        if name.partition("_")[0] == family and most_members(name) >= members
    ]
    return max(fit, key=PARAMETERS.__getitem__, default=None)


PARAMETERS: Final[Mapping[str, int]] = {
    "alexnet": 2_469_696,
    "convnext_tiny": 27_818_592,
    "convnext_small": 49_453_152,
    "convnext_base": 87_564_416,
    "convnext_large": 196_227_264,
    "densenet121": 6_953_856,
    "densenet161": 26_472_000,
    "densenet169": 12_484_480,
    "densenet201": 18_092_928,
    "efficientnet_b0": 4_007_548,
    "efficientnet_b1": 6_513_184,
    "efficientnet_b2": 7_700_994,
    "efficientnet_b3": 10_696_232,
    "efficientnet_b4": 17_548_616,
    "efficientnet_b5": 28_340_784,
    "efficientnet_b6": 40_735_704,
    "efficientnet_b7": 63_786_960,
    "efficientnet_v2_s": 20_177_488,
    "efficientnet_v2_m": 52_858_356,
    "efficientnet_v2_l": 117_234_272,
    "googlenet": 5_599_904,
    "inception_v3": 21_785_568,
    "maxvit_t": 30_143_944,
    "mnasnet0_5": 937_512,
    "mnasnet0_75": 1_889_208,
    "mnasnet1_0": 3_102_312,
    "mnasnet1_3": 5_001_256,
    "mobilenet_v2": 2_223_872,
    "mobilenet_v3_small": 927_008,
    "mobilenet_v3_large": 2_971_952,
    "regnet_x_400mf": 5_094_976,
    "regnet_x_800mf": 6_586_656,
    "regnet_x_1_6gf": 8_277_136,
    "regnet_x_3_2gf": 14_287_552,
    "regnet_x_8gf": 37_651_648,
    "regnet_x_16gf": 52_229_536,
    "regnet_x_32gf": 105_290_560,
    "regnet_y_400mf": 3_903_144,
    "regnet_y_800mf": 5_647_512,
    "regnet_y_1_6gf": 10_313_430,
    "regnet_y_3_2gf": 17_923_338,
    "regnet_y_8gf": 37_364_472,
    "regnet_y_16gf": 80_565_140,
    "regnet_y_32gf": 141_333_770,
    "regnet_y_128gf": 637_419_894,
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "resnext50_32x4d": 22_979_904,
    "resnext101_32x8d": 86_742_336,
    "resnext101_64x4d": 81_406_272,
    "shufflenet_v2_x0_5": 341_792,
    "shufflenet_v2_x1_0": 1_253_604,
    "shufflenet_v2_x1_5": 2_478_624,
    "shufflenet_v2_x2_0": 5_344_996,
    "squeezenet1_0": 735_424,
    "squeezenet1_1": 722_496,
    "swin_t": 27_519_354,
    "swin_s": 48_837_258,
    "swin_b": 86_743_224,
    "swin_v2_t": 27_582_570,
    "swin_v2_s": 48_968_442,
    "swin_v2_b": 86_905_848,
    "vgg11": 9_220_480,
    "vgg11_bn": 9_225_984,
    "vgg13": 9_404_992,
    "vgg13_bn": 9_410_880,
    "vgg16": 14_714_688,
    "vgg16_bn": 14_723_136,
    "vgg19": 20_024_384,
    "vgg19_bn": 20_035_392,
    "vit_b_16": 85_798_656,
    "vit_b_32": 87_455_232,
    "vit_l_16": 303_301_632,
    "vit_l_32": 305_510_400,
    "vit_h_14": 630_764_800,
    "wide_resnet50_2": 66_834_240,
    "wide_resnet101_2": 124_837_696,
}
"""Of the models' bodies, at 224 pixels a side, by torchvision's names."""
