"""Write scikit-learn's handwritten digits as an image folder and train timm's CSPResNeXt50 on their training part.

    python examples/digits/train.py .demo

makes `.demo/digits/{train,val}/` with `train_label.txt` and `val_label.txt`, and `.demo/cspresnext50_digits.pth`, which a
second run reuses. Four epochs of bf16 take about 90 s on two cores and reach about 98.6 % on the 360 images held out.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from modelport.data.decode import Decoder
from modelport.data.digits import PREPROCESS, write_digits
from modelport.data.labels import label_key, read_labels
from modelport.data.source import open_source
from modelport.exporter.checkpoint import build_network
from modelport.files import atomic_path, digest

EPOCHS, BATCH, PEAK_RATE = 4, 32, 2e-3


def load(folder: Path, labels: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a folder, prepared exactly as they will be for inference, and their classes."""
    decoder, known = Decoder(PREPROCESS), read_labels(labels)
    source = open_source(folder)
    images = np.empty((len(source), *PREPROCESS.input_size), np.float32)
    for row, sample in enumerate(source):
        decoder(sample, sample.read(), images[row])
    return torch.from_numpy(images), torch.tensor([known[label_key(sample.key)] for sample in source])


def train(images: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """Train from random weights; the seed is fixed."""
    torch.manual_seed(0)
    model = build_network("cspresnext50", 10, PREPROCESS.input_size).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.05)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=steps, loss=float("nan"))
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images))[: len(images) // BATCH * BATCH].view(-1, BATCH):
                with torch.autocast("cpu", torch.bfloat16):
                    scores = model(images[batch].contiguous(memory_format=torch.channels_last))
                loss = torch.nn.functional.cross_entropy(scores.float(), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update(task, advance=1, loss=loss.item())
    return model.eval().to(memory_format=torch.contiguous_format)


def main(directory: Path) -> None:
    """Make what is not there yet."""
    train_folder, _ = write_digits(directory / "digits")
    checkpoint = directory / "cspresnext50_digits.pth"
    if checkpoint.exists():
        print(f"{checkpoint}: trained already, kept")
        return
    images, labels = load(train_folder, train_folder.with_name("train_label.txt"))
    print(f"training cspresnext50 on {len(images)} digits, {EPOCHS} epochs")
    model = train(images, labels)
    with atomic_path(checkpoint) as temporary:
        torch.save(model.state_dict(), temporary)
    print(f"{checkpoint}: sha256 {digest(checkpoint)}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="torch")
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo"))
