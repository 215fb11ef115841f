"""Weights that a body starts from; those that cannot be had end the run, never silently random."""

import io
import lzma
import re
from typing import Final

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

# What torch.load(weights_only=True) raises at what it refuses.
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from bearloop.contract.recipes import Recipe
from bearloop.store import StoreError, open_store
from trainer.errors import InputError
from trainer.families import Family

SUFFIXES: Final = (".pth", ".pth.xz", ".safetensors")


def load_weights(recipe: Recipe) -> dict[str, Tensor] | None:
    """Return the state dict that the recipe names, or None for `none`; raises InputError."""
    if recipe.weights == "none":
        return None
    if recipe.weights == "imagenet":
        return _download(recipe)
    if recipe.weights.startswith(("file:", "s3:")):
        return _parse(_read(recipe), recipe)
    raise _unavailable(recipe, "no such kind of weights")


def put_weights(
    network: nn.Module, state_dict: dict[str, Tensor], *, recipe: Recipe, family: Family
) -> None:
    """Give torchvision's network the weights of its body; raises InputError where they do not fit.

    The classifier's own are left out: whatever its classes are, they are not the version's.
    """
    given = {_today(key, family): tensor for key, tensor in state_dict.items()}
    given = {key: v for key, v in given.items() if not key.startswith(family.classifier)}
    wanted = {
        key: tensor
        for key, tensor in network.state_dict().items()
        if not key.startswith(family.classifier)
    }
    # Older files do not have these counters, and BatchNorm does without.
    lacking = [k for k in wanted if k not in given and not k.endswith(".num_batches_tracked")]
    if lacking:
        raise _unfit(recipe, f"they lack {lacking[0]!r}")
    try:
        given = given if family.resized is None else family.resized(network, given)
    except (ValueError, RuntimeError) as error:
        raise _unfit(recipe, str(error)) from error
    for key, tensor in given.items():
        if key not in wanted:
            raise _unfit(recipe, f"{recipe.model} has no {key!r}")
        shape, expected = list(tensor.shape), list(wanted[key].shape)
        if shape != expected:
            raise _unfit(recipe, f"{key!r} is {shape}, expected {expected}")
    # Into the network's own tensors: its hooks for older files would want their metadata.
    for key, tensor in given.items():
        wanted[key].copy_(tensor)


def _download(recipe: Recipe) -> dict[str, Tensor]:
    try:
        weights = torchvision.models.get_model_weights(recipe.model).DEFAULT
        state_dict: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unavailable(recipe, f"torchvision's download failed: {error}") from error
    return state_dict


def _read(recipe: Recipe) -> bytes:
    folder, _, name = recipe.weights.rpartition("/")
    if not name.endswith(SUFFIXES):
        raise _unavailable(recipe, f"expected a name that ends in {', '.join(SUFFIXES)}")
    try:
        return open_store(folder).get(name)
    except (StoreError, OSError) as error:
        raise _unavailable(recipe, str(error)) from error


def _parse(data: bytes, recipe: Recipe) -> dict[str, Tensor]:
    try:
        if recipe.weights.endswith(".safetensors"):
            return safetensors.torch.load(data)
        plain = lzma.decompress(data) if recipe.weights.endswith(".xz") else data
        # weights_only: a file that somebody names must not be able to run code.
        content = torch.load(io.BytesIO(plain), map_location="cpu", weights_only=True)
    except (
        lzma.LZMAError,
        UnpicklingError,
        safetensors.SafetensorError,
        RuntimeError,
        EOFError,
    ) as error:
        raise _unavailable(recipe, f"the file is no state dict: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise _unavailable(recipe, "the file holds something other than a state dict")
    return content


def _today(key: str, family: Family) -> str:
    for pattern, name in family.renamed:
        key = re.sub(pattern, name, key)
    return key


def _unfit(recipe: Recipe, what: str) -> InputError:
    return InputError(
        "weights_unfit",
        f"the weights at {recipe.weights!r} are not those of {recipe.model}: {what}",
        field="recipe.weights",
        value=recipe.weights,
        way_out=f"give torchvision's state dict of {recipe.model}, or name the model they are of",
    )


def _unavailable(recipe: Recipe, what: str) -> InputError:
    return InputError(
        "weights_unavailable",
        f"weights {recipe.weights!r}: {what}",
        field="recipe.weights",
        value=recipe.weights,
        way_out="give a file: or s3: address of torchvision's state dict, `imagenet` where the"
        " job can download, or `none` to train from scratch",
    )
