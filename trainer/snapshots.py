"""Snapshots: the weights at each cycle's end, kept in the store until they answer together."""

import copy
import math
from collections.abc import Sequence

import safetensors.torch
import torch
from torch import Tensor, nn

from bearloop.contract.jobs import checkpoint_prefix
from bearloop.contract.runs import RunSpec
from trainer.checkpoint import SUFFIX
from trainer.model import Classifier
from trainer.run import Run


class Ensemble(nn.Module):
    """Models that answer with the mean of their probabilities; [n, 3, size, size] -> [n, classes].

    What it gives is the logarithm of that mean: its softmax is the mean itself.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Join models of the same classes."""
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, pixels: Tensor) -> Tensor:
        """Classify normalised pixels."""
        each = torch.stack([member(pixels).log_softmax(dim=1) for member in self.members])
        return each.logsumexp(dim=0) - math.log(len(self.members))


def keep_snapshot(run: Run, model: Classifier, *, epoch: int) -> None:
    """Store the weights as they are after an epoch of the last stage."""
    if run.ranks.leads:
        weights = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
        run.mailbox.store.put(_key(run.spec, epoch), safetensors.torch.save(weights))


def answering(run: Run, model: Classifier) -> nn.Module:
    """Return what predicts and is exported: the trained model, or all of its snapshots together."""
    _, last = run.spec.recipe.fits()[-1]
    members = [_copy(run, model, epoch) for epoch in last.snapshots]
    return Ensemble(members).eval() if members else model


def _copy(run: Run, model: Classifier, epoch: int) -> Classifier:
    weights = safetensors.torch.load(run.mailbox.store.get(_key(run.spec, epoch)))
    member = copy.deepcopy(model)
    member.load_state_dict(weights)
    return member


def _key(spec: RunSpec, epoch: int) -> str:
    """Name a snapshot; another specification under the job's name must not find it."""
    return f"{checkpoint_prefix(spec.job)}snapshots/{spec.digest()}/{epoch:04d}{SUFFIX}"
