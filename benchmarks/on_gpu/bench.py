"""The steps of `benchmarks/gpu.py`, in order, within its budget."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import limits, ours, pure, table
from .clock import Device
from .compiling import Job, Outcome, Place, compile_all
from .contestants import DTYPES, batch_of, load_network, prepared, set_arithmetic
from .correct import compare, decisions, float32_on
from .end_to_end import EndToEnd
from .network import CSPRESNEXT50, SMALL, randomised, work
from .photos import Photos, jpegs
from .record import Record

_PHOTO_CLASSES = 100  # of the thousand: as many kinds of photos there are to tell apart
_COMPILED_BY = 0.55  # share of the budget after which nothing is compiled any more
_KEPT_FOR_FEEDING = 0.16  # share of the budget that pure inference leaves for end to end
_A_BATCH_S = 8.0  # what all contestants of a batch size take about, until it was seen


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured and how thoroughly.

    Attributes:
        batches: the most important first: what there is no time for is left out from the end.
        tuned: batches for which max-autotune is compiled.
        learn: photo batches that the weights are made from.
        decide: photos whose decisions are compared.
        turns, seconds: of each contestant; the first turn only chooses.
        feed_s: of each way end to end.
    """

    small: bool = False
    size: int = 224
    batches: tuple[int, ...] = (1, 256, 32, 8, 128, 64, 4, 16, 512)
    tuned: tuple[int, ...] = (256, 1, 32, 128, 8, 64, 512, 16, 4)
    learn: int = 40
    decide: int = 2048
    files: int = 128
    turns: int = 6
    seconds: float = 0.1
    feed_s: float = 4.0


QUICK = Plan(
    small=True, size=32, batches=(4,), tuned=(), learn=4, decide=32, files=8, turns=3, seconds=0.01, feed_s=0.3
)


class Bench:
    """One run."""

    def __init__(self, plan: Plan, record: Record, device: str, dtype: str, directory: Path):
        self._plan, self._record, self._directory = plan, record, directory
        self._device = Device(device)
        self._place = Place(str(directory), plan.small, plan.size, device, dtype)
        self._dtype = DTYPES[dtype]
        self._classes = SMALL.classes if plan.small else _PHOTO_CLASSES
        self._compiled: list[Job] = []
        self._pure: dict[str, Any] = {}

    def run(self) -> list[str]:
        """All steps; returns the lines of the table."""
        record = self._record
        set_arithmetic(self._place.dtype)
        record.put("dtype", self._place.dtype)
        record.put("size", self._plan.size)
        with record.step("the machine"):
            record.put("machine", limits.describe(self._device))
        with record.step("its limits"):
            record.put("limits", limits.measure(self._device, self._dtype, quick=self._plan.small))
        with record.step("weights"):
            self._make_weights()
        with record.step("compiling"):
            self._compile()
        with record.step("correctness"):
            self._check()
        with record.step("pure inference"):
            self._measure_pure()
        with record.step("copying and computing apart"):
            self._split()
        with record.step("end to end"):
            self._end_to_end()
        with record.step("the machine afterwards"):
            record.put("machine_afterwards", limits.describe(self._device))
        return list(table.lines({**record.sections, "left_out": record.dropped, "failed": record.failed}))

    def _photos(self, seed: int) -> Photos:
        return Photos(self._device.name, self._plan.size, self._classes, seed)

    def _make_weights(self) -> None:
        network = randomised(SMALL if self._plan.small else CSPRESNEXT50, self._photos(1), batches=self._plan.learn)
        self._record.put("work", asdict(work(network, self._plan.size)))
        torch.save({name: value.cpu() for name, value in network.state_dict().items()}, self._directory / "weights.pt")

    def _layout(self) -> bool:
        """Whether eager PyTorch is faster channels-last: the layout that is compiled for first."""
        if not self._device.cuda:
            return True
        network, pixels = self._network(), self._photos(2)(128)[0]
        took = {}
        for last in (False, True):
            model = prepared(network, self._device.name, self._dtype, channels_last=last)
            images = batch_of(pixels, self._dtype, channels_last=last)
            for _ in range(5):
                model(images)
            took[last] = min(self._device.seconds(lambda m=model, i=images: m(i)) for _ in range(5))
        self._record.put("eager_at_128_s", {"nchw": took[False], "channels_last": took[True]})
        return took[True] < took[False]

    def _network(self) -> torch.nn.Module:
        return load_network(str(self._directory / "weights.pt"), small=self._place.small)

    def _jobs(self, first: bool) -> list[Job]:
        """What to compile, the most wanted first. `first` is the layout that seems the faster one."""
        plain = [
            job
            for batch in self._plan.batches
            for job in (Job("package", batch, channels_last=first), Job("torch.compile", batch))
        ]
        if self._plan.small:
            return plain
        ours_tuned, theirs_tuned = (
            [Job(kind, batch, True, last) for batch in self._plan.tuned]
            for kind, last in (("package", first), ("torch.compile", False))
        )
        other = [
            job
            for batch in self._plan.batches
            for job in (Job("torch.compile", batch, channels_last=True), Job("package", batch, channels_last=not first))
        ]
        # What takes longest begins first.
        return [*ours_tuned[:2], *plain, *theirs_tuned[:2], *other[:6], *ours_tuned[2:3], *theirs_tuned[2:3], *other[6:],
                *ours_tuned[3:], *theirs_tuned[3:]]  # fmt: skip

    def _compile(self) -> None:
        record, jobs = self._record, self._jobs(self._layout())
        cores = len(os.sched_getaffinity(0))
        told: list[dict[str, Any]] = []

        def tell(outcome: Outcome) -> None:
            job = outcome.job
            if outcome.reason is None:
                self._compiled.append(job)
                record.say(f"compiled {job.name}, batch {job.batch} in {outcome.seconds:.0f} s")
            else:
                record.drop(f"{job.name}, batch {job.batch}", outcome.reason)
            told.append({"name": job.name, "batch": job.batch, "seconds": outcome.seconds, "reason": outcome.reason})
            record.put("compiling", told)

        compile_all(
            jobs,
            self._place,
            at_once=max(2, cores // 2),
            threads=2 if cores >= 4 else 1,
            left=lambda: record.at(_COMPILED_BY),
            told=tell,
        )

    def _of(self, batch: int) -> list[Job]:
        return [job for job in self._compiled if job.batch == batch]

    def _packages(self) -> list[Job]:
        """Ours, default before tuned, at most 256 images: for checks and for feeding."""
        found = [job for job in self._compiled if job.kind == "package" and job.batch <= 256]
        return sorted(found, key=lambda job: (job.tuned, -job.batch))

    def _check(self) -> None:
        """The reference against the processor, a package against the processor, and decisions on many photos."""
        network, photos, told = self._network(), self._photos(1000 + int.from_bytes(os.urandom(3))), {}
        few = 8 if self._plan.small else 32
        reference = float32_on(self._device.name, network)
        pixels, _ = photos(few)
        on_processor = float32_on("cpu", network)(pixels)
        told["reference"] = {"what": "float32 on the device against the processor"} | compare(
            reference(pixels), on_processor
        ).told()
        self._record.put("correctness", told)
        if not self._packages():
            self._record.drop("correctness of packages", "none was compiled")
            return
        job = self._packages()[0]
        with ours.opened(self._directory / f"{job.file}.pt2") as runner:
            padded = pixels.repeat(-(-job.batch // few), 1, 1, 1)[: job.batch]
            scores = torch.from_numpy(runner.run(padded.cpu().numpy()))[:few]
            told["on_the_processor"] = {
                "what": f"{job.name} {self._place.dtype} against float32 on the processor"
            } | compare(scores, on_processor[: len(scores)]).told()
            told["decisions"] = decisions(runner, photos, reference, max(1, self._plan.decide // job.batch))
        self._record.put("correctness", told)

    def _measure_pure(self) -> None:
        record = self._record
        network = self._network()
        contest = pure.Contest(
            self._device, network, float32_on(self._device.name, network), self._dtype, self._directory,
            self._plan.turns, self._plan.seconds,
        )  # fmt: skip
        needs, kept = _A_BATCH_S if self._device.cuda else 0.0, _KEPT_FOR_FEEDING if self._device.cuda else 0.0
        photos = self._photos(3)
        for batch in self._plan.batches:
            if record.at(1 - kept) < needs:
                record.drop(f"pure inference at batch {batch}")
                continue
            since = record.spent
            with record.step(f"pure inference at batch {batch}"):
                told = pure.at_batch(contest, photos(batch)[0], self._of(batch), record.failed.append)
                self._pure[str(batch)] = told
                record.put("pure", self._pure)
            needs = max(needs, record.spent - since)

    def _fastest(self) -> tuple[Job, float] | None:
        """The package that makes the most images a second in a batch of at most 256."""
        rates = {
            job: self._pure[str(job.batch)]["contestants"][job.name]["images_per_s"]
            for job in self._packages()
            if job.name in self._pure.get(str(job.batch), {}).get("contestants", {})
        }
        return max(rates.items(), key=lambda item: item[1]) if rates else None

    def _split(self) -> None:
        if not self._device.cuda:
            self._record.drop("copying and computing apart", "a processor copies nothing")
            return
        told = {}
        for job in self._packages():
            if job.tuned or str(job.batch) in told or self._record.left < 20:
                continue
            with ours.opened(self._directory / f"{job.file}.pt2", timing=True) as runner:
                told[str(job.batch)] = pure.split(runner, self._photos(4)(job.batch)[0].cpu().numpy())
            self._record.put("split", told)

    def _end_to_end(self) -> None:
        found = self._fastest()
        if found is None:
            self._record.drop("end to end", "no package was measured")
            return
        job, rate = found
        files = jpegs(self._device.name, self._classes, self._plan.files, seed=5)
        ways = EndToEnd(
            self._record,
            self._directory / f"{job.file}.pt2",
            files,
            size=self._plan.size,
            pure=rate,
            seconds=self._plan.feed_s,
        )
        pixels: Tensor = self._photos(6)(4 * job.batch)[0]
        self._record.put("fed", {"package": job.name, "batch": job.batch})
        ways.all_ways(pixels, self._directory, device=self._device.name, batch=job.batch)


def main(options: Any, record: Record, directory: Path) -> int:
    """Run the plan that the options ask for, print the table; 0 where every step came to its end."""
    plan = QUICK if options.quick else Plan()
    lines = Bench(plan, record, options.device, options.dtype, directory).run()
    record.put("table", lines)
    print("\n".join([*lines, f"spent {record.spent:.0f} s; all figures: {record.path}"]), flush=True)
    return 1 if record.failed else 0
