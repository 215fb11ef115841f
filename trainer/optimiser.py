"""AdamW with a rate for each layer group, and its state as named tensors."""

from typing import Final

import torch
from torch import Tensor, nn

from bearloop.contract.recipes import FitStage
from trainer.model import Classifier
from trainer.schedule import Rate, group_rates, rate_at

SQUARED_MOMENTUM: Final = 0.99
EPSILON: Final = 1e-5
"""Both are fastai's, whose rates the recipes are tuned to."""


def new_optimiser(model: Classifier, stage: FitStage) -> torch.optim.AdamW:
    """Build the stage's optimiser over the layer groups that are not frozen.

    Decayed are the weights of convolutions, linear layers and attention. Biases and norms are not,
    as in fastai; nor are a transformer's class token and embeddings of places, as in torchvision's
    own training, nor the scales that some networks learn for their layers.
    """
    groups = []
    for place, modules in enumerate(model.layer_groups()):
        trained = [
            (name, parameter)
            for module in modules
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        ]
        decayed = [weight for name, weight in trained if _is_decayed(name, weight)]
        others = [weight for name, weight in trained if not _is_decayed(name, weight)]
        groups.append({"params": decayed, "place": place, "weight_decay": stage.weight_decay})
        groups.append({"params": others, "place": place, "weight_decay": 0.0})
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=stage.rate,
        betas=(0.9, SQUARED_MOMENTUM),
        eps=EPSILON,
        fused=True,
    )


def set_rates(
    optimiser: torch.optim.AdamW, stage: FitStage, *, groups: int, step: int, steps: int
) -> Rate:
    """Set each layer group's rate and momentum for step `step` (from 0); return the head's."""
    highest = group_rates(groups, lr=stage.rate, lr_body=stage.lr_body)
    rates = [
        rate_at(step, steps, schedule=stage.schedule, lr=lr, epochs=stage.epochs) for lr in highest
    ]
    for group in optimiser.param_groups:
        rate = rates[group["place"]]
        group["lr"] = rate.lr
        group["betas"] = (rate.momentum, SQUARED_MOMENTUM)
    return rates[-1]


def optimiser_tensors(optimiser: torch.optim.AdamW, model: nn.Module) -> dict[str, Tensor]:
    """Name the optimiser's state `<parameter>/<what>`."""
    return {
        f"{name}/{what}": tensor
        for name, parameter in model.named_parameters()
        for what, tensor in optimiser.state.get(parameter, {}).items()
    }


def restore_optimiser(
    optimiser: torch.optim.AdamW, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` named."""
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, what = key.rsplit("/", 1)
        parameter = parameters[name]
        # The fused step walks memory in the parameter's own order (channels last), which the
        # saved tensor has lost.
        like = torch.empty_like(parameter) if what != "step" else tensor.to(parameter.device)
        optimiser.state[parameter][what] = like.detach().copy_(tensor)


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    # torch calls every matrix that a layer multiplies with a weight, and nothing else of two
    # dimensions or more.
    return parameter.ndim > 1 and name.endswith("weight")
