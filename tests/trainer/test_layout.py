"""What makes a step fast, and is lost unnoticed: the order in memory, and one fused step."""

import numpy as np
import torch
from torch import nn

from bearloop.contract.recipes import SIDE_ON
from tests.trainer.versions import recipe, resnet, whole
from trainer.model import build_classifier
from trainer.optimiser import new_optimiser, optimiser_tensors, restore_optimiser
from trainer.step import train_step

LAST = torch.channels_last


def test_convolutions_see_pictures_and_weights_with_the_channels_last() -> None:
    wanted = resnet(augment=SIDE_ON)
    model = build_classifier(wanted, 3, None).to(memory_format=LAST)
    seen: list[bool] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=LAST)
            module.register_forward_pre_hook(
                lambda _, given: seen.append(given[0].is_contiguous(memory_format=LAST))
            )
    model.train()
    stage = whole(1, mixup=0.4)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 40, 40, 3)).astype(np.uint8)
    for parts in (1, 2):
        train_step(
            model,
            new_optimiser(model, stage),
            pictures=pixels,
            labels=np.arange(4) % 3,
            recipe=wanted.model_copy(update={"batch_size": 4 // parts}),
            stage=stage,
            seed=1,
            step=1,
        )
    assert len(seen) == 3 * 20
    assert all(seen)


def test_the_optimiser_takes_one_fused_step_and_stays_in_its_weights_order() -> None:
    model = build_classifier(recipe(), 3, None).to(memory_format=LAST)
    optimiser = new_optimiser(model, whole(1))
    assert all(group["fused"] is True for group in optimiser.param_groups)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    optimiser.step()
    again = new_optimiser(model, whole(1))
    kept = {key: value.contiguous() for key, value in optimiser_tensors(optimiser, model).items()}
    restore_optimiser(again, model, kept)
    for weight, state in again.state.items():
        assert state["exp_avg"].stride() == weight.stride()
