"""LoadGen's own process: the only module that imports it. A crash of its C++ code, or of the engine's, ends this child and no more.

LoadGen cannot be stopped: a query that is never answered keeps `StartTest` waiting for ever. So it runs in a thread, and where
an image cannot be read or the engine fails, this process answers with the error and ends under it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import mlperf_loadgen as lg

from .. import child
from ..data.source import open_source
from ..engines import load
from ..engines.session import Session, SessionOptions
from ..errors import DataError, InferenceError
from ..measure.bench import run_rounds
from ..measure.trial import run_for
from ..offline import OfflineModel
from .library import SampleLibrary, identity
from .settings import BENCHMARK, LEAST_MS, LoadGenOptions, Pace, user_conf
from .system import SystemUnderTest

_WARMUP_ROUNDS = 2
_PACE_S, _QUICK_PACE_S = 3.0, 0.3
_LOOK_S = 0.25
_QUERY = {"MultiStream": 8}  # samples in a query; 1 elsewhere


class _Test:
    """One test: what LoadGen calls back, and how it ends."""

    def __init__(self, session: Session, library: SampleLibrary) -> None:
        self._library, self._over, self.error = library, Event(), None
        self.system = SystemUnderTest(session, library, _complete, self._fail)

    def _fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self._over.set()

    def _load(self, places: list[int]) -> None:
        try:
            self._library.load(places)
        except BaseException as error:  # it must not pass through LoadGen, which would abort
            self._fail(error)
            Event().wait()  # nothing to test with: the process ends under this thread

    def run(self, images: int, settings: lg.TestSettings, logs: lg.LogSettings, look: Callable[[], None]) -> None:
        """Run the test to its end.

        Raises:
            ModelportError: an image cannot be read, or the engine failed.
        """

        def start() -> None:
            try:
                sut = lg.ConstructFastSUT(self.system.issue, lambda: None)
                count = settings.performance_sample_count_override
                qsl = lg.ConstructQSL(images, count, self._load, self._library.unload)
                lg.StartTestWithLogSettings(sut, qsl, settings, logs, "")
                lg.DestroyQSL(qsl)
                lg.DestroyFastSUT(sut)
            except Exception as error:
                self._fail(InferenceError(f"LoadGen failed: {type(error).__name__}: {error}"))
            self._over.set()

        with self.system.working():
            Thread(target=start, name="modelport-loadgen-test", daemon=True).start()
            while not self._over.wait(_LOOK_S):
                look()
            if self.error is not None:
                raise self.error


def _complete(ids: list[int], address: int, size: int) -> None:
    lg.QuerySamplesComplete(
        [lg.QuerySampleResponse(one, address + size * place, size) for place, one in enumerate(ids)]
    )


def _drive(request: dict[str, Any]) -> dict[str, Any]:
    told, folder = _Told(Path(request["progress"])), Path(request["folder"])
    model = OfflineModel.load(Path(request["model"]))
    session_options = SessionOptions(**request["session"] | {"devices": tuple(request["session"]["devices"])})
    options = LoadGenOptions(**request["options"], session=session_options)
    source = open_source(request["images"]).limited(options.limit)
    if identity(source) != request["digest"]:
        raise DataError(
            f"{source.where}: its images changed while they were listed; run again when nobody writes there"
        )
    session = load(model.manifest.engine.name).open(model, session_options)
    told.say("warm up", 0, 1)
    pace = _pace(session, options)
    told.say("warm up", 1, 1)
    settings = _settings(folder, user_conf(options, len(source), pace), options)
    library = SampleLibrary(
        source,
        model.manifest.model.preprocess,
        model.manifest.input,
        lambda *so_far: told.say("load images", *so_far),
    )
    test = _Test(session, library)
    test.run(len(source), settings, _logs(folder), lambda: told.say_running(test.system, settings, len(source)))
    session.close()  # after good work only: where one thread fails, another may still be in the engine
    return {"rate": pace.rate}


def _pace(session: Session, options: LoadGenOptions) -> Pace:
    """Warm the session up, and see how fast it is."""
    batch = session.random_batch()
    run_rounds(session, batch, _WARMUP_ROUNDS * session.slots, lambda done, total: None)
    latencies, wall = run_for(session, batch, _QUICK_PACE_S if options.quick else _PACE_S)
    rounds = ceil(_QUERY.get(options.scenario, 1) / (session.batch_size * session.slots))
    return Pace(rate=len(latencies) * session.batch_size / wall, query_s=min(latencies) * rounds)


def _settings(folder: Path, conf: str, options: LoadGenOptions) -> lg.TestSettings:
    path = folder / "user.conf"
    path.write_text(conf, encoding="utf-8")
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, options.scenario)
    if settings.FromConfig(str(path), BENCHMARK, options.scenario):
        raise InferenceError(f"LoadGen refuses its settings, {path}: {conf!r}")
    if (
        not options.quick and settings.min_duration_ms < LEAST_MS
    ):  # it reads MLPerf's once in a process, at the first call
        raise InferenceError(
            f"LoadGen did not take up MLPerf's own settings (it would run {settings.min_duration_ms} ms); is it 5.0 or newer?"
        )
    settings.scenario = getattr(lg.TestScenario, options.scenario)
    settings.mode = lg.TestMode.AccuracyOnly if options.accuracy else lg.TestMode.PerformanceOnly
    return settings


def _logs(folder: Path) -> lg.LogSettings:
    logs = lg.LogSettings()
    logs.enable_trace = False  # a line for each sample, of which there may be a million
    logs.log_output.outdir = str(folder)
    return logs


class _Told:
    """How far it is, in a small file that the parent looks at now and then."""

    def __init__(self, path: Path) -> None:
        self._path, self._begun = path, 0.0

    def say(self, what: str, done: int, total: int) -> None:
        with suppress(OSError):
            self._path.write_text(f"{done} {total} {what}", encoding="utf-8")

    def say_running(self, system: SystemUnderTest, settings: lg.TestSettings, images: int) -> None:
        """Samples of all, where that is known: Offline, accuracy. Else seconds or queries of the least, whichever is less far."""
        if not system.asked:
            return
        if settings.mode == lg.TestMode.AccuracyOnly:
            self.say("images", min(system.answered, images), images)
            return
        if settings.scenario == lg.TestScenario.Offline:
            self.say("samples", system.answered, system.asked)
            return
        self._begun = self._begun or monotonic()
        seconds, least = int(monotonic() - self._begun), settings.min_duration_ms // 1000
        queries = system.answered // _QUERY.get(settings.scenario.name, 1)
        if queries / settings.min_query_count < seconds / least:
            self.say("queries", min(queries, settings.min_query_count), settings.min_query_count)
        else:
            self.say("seconds", min(seconds, least), least)


if __name__ == "__main__":
    code = 1
    try:
        child.answer(_drive)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # not by Python's own end: after a failure LoadGen's threads still wait for answers
