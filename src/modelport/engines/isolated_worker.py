"""The far end of `isolated_process.py`: opens an offline model and runs the batches that it finds in shared memory."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from time import process_time
from typing import NoReturn

import numpy as np

from .. import child
from ..errors import EngineDiedError, ModelportError
from ..offline import OfflineModel
from . import open_model
from .session import Session, SessionOptions
from .shared_memory import map_slots


def main() -> None:
    """Serve until the parent closes the pipes or has gone; the request is the only argument."""
    child.end_with_parent()
    request = json.loads(sys.argv[1])
    for handle in (request["memory"], *request["pipes"]):
        os.set_inheritable(handle, False)  # or what the engine starts would keep them open after our death
    pipes = [Connection(handle) for handle in request["pipes"]]
    options = SessionOptions(streams=request["streams"], threads=request["threads"], devices=tuple(request["devices"]))
    try:
        model = OfflineModel.load(Path(request["model"]))
        session = open_model(model, options)
    except ModelportError as error:
        pipes[0].send(error)
        return
    places = map_slots(request["memory"], model.tensors, len(pipes))
    with session, suppress(OSError):
        pipes[0].send((session.slots, session.on_cores))
        threads = [
            Thread(target=_serve, args=(session, pipe, *place)) for pipe, place in zip(pipes, places, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _serve(session: Session, pipe: Connection, batch: np.ndarray, scores: np.ndarray) -> None:
    """Run one slot's batches: an answer is the processor time used so far, or the error."""
    with suppress(EOFError, OSError):  # the parent has closed its end
        while True:
            pipe.recv()
            answer: float | ModelportError
            try:
                np.copyto(scores, session.infer(batch))
                answer = process_time()
            except EngineDiedError as error:  # an engine with processes of its own: ours ends as well, to begin anew
                _die(str(error))
            except ModelportError as error:
                answer = error
            except BaseException:  # a bug, or no memory
                _die(traceback.format_exc())
            pipe.send(answer)


def _die(last_words: str) -> NoReturn:
    print(last_words, file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main()
