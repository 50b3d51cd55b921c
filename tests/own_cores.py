"""Of several test workers each keeps to its own cores: threads that share them wait for each other busily."""

import os

worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
if worker and workers and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    if own := cores[int(worker.removeprefix("gw")) :: int(workers)]:
        os.sched_setaffinity(0, own)
