"""Classes, labels, splits and frozen versions."""
