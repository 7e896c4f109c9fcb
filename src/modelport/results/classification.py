"""What a model says of single images: the likeliest classes by name."""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from ..spec import ModelSpec
from .base import Result
from .performance import Target


class Guess(Result):
    """One class that an image may be.

    Attributes:
        label: the class, from 0.
        name: its name; None where names are not known.
        score: as the model gave it.
        probability: of this class among all of the model's: the softmax of the scores, or the score itself where the model
            ends in a softmax.
    """

    label: int
    name: str | None
    score: float
    probability: float


class ClassifiedImage(Result):
    """One image. `guesses`, likeliest first, are empty where it could not be classified, and `error` says why."""

    key: str
    guesses: tuple[Guess, ...]
    error: str | None = None


class Classification(Target):
    """`modelport classify`: what the model says of each image, in the order in which they were given.

    Attributes:
        model: the network.
        names_from: where the names come from: `model`, `file`, or None where they are not known.
        images: one for each that was asked for.
    """

    model: ModelSpec
    names_from: Literal["model", "file"] | None
    images: tuple[ClassifiedImage, ...]

    @computed_field
    @property
    def failures(self) -> int:
        """Images that could not be classified."""
        return sum(image.error is not None for image in self.images)
