"""The guide's model: how its images are prepared."""

from __future__ import annotations

from ..spec import Preprocess

PREPROCESS = Preprocess(input_size=(3, 224, 224), crop_pct=0.875)
"""Shorter side to 256, centre crop 224, bilinear, ImageNet's mean and standard deviation, RGB."""
