"""Weights that a body starts from; those that cannot be had end the run, never silently random."""

import io
import lzma
from typing import Final

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor

# What torch.load(weights_only=True) raises at what it refuses.
from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

from bearloop.contract.recipes import Recipe
from bearloop.store import StoreError, open_store
from trainer.errors import InputError

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


def _unavailable(recipe: Recipe, what: str) -> InputError:
    return InputError(
        "weights_unavailable",
        f"weights {recipe.weights!r}: {what}",
        field="recipe.weights",
        value=recipe.weights,
        way_out="give a file: or s3: address of torchvision's state dict, `imagenet` where the"
        " job can download, or `none` to train from scratch",
    )
