"""Fit stages that the tests of recipes share, each with one peculiarity."""

from bearloop.contract.recipes import CosineRestarts, FitStage

AUTO = FitStage(name="first", epochs=1, lr="auto")
SMALL = FitStage(name="small", epochs=1, lr=1e-3, size=64)
KEEPING = FitStage(name="keeping", epochs=1, lr=1e-3, schedule=CosineRestarts(snapshots=True))
