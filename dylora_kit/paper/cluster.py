"""Trainings on the workers of a Dask cluster, by joblib's backend for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import parallel_config


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A block whose jobs go to the workers of a Dask cluster, if there is an address.

    Raises `ValueError` for workers with more than one thread, which would draw from one random state, and for a single
    worker, beside which joblib would train in this process.
    """
    if address is None:
        yield
        return
    try:
        from dask.distributed import Client, KilledWorker
    except ImportError as error:
        raise ValueError("--dask needs Dask: pip install 'dylora_kit[cluster]'") from error
    with Client(address, timeout=10) as client:
        threads = client.nthreads()
        if set(threads.values()) != {1}:
            raise ValueError("each worker needs one thread of its own: start them with dask worker --nthreads 1")
        if len(threads) < 2:
            raise ValueError("the cluster has one worker: start another one, or run the command on that machine")
        try:
            with parallel_config("dask", n_jobs=-1):
                yield
        except KilledWorker as error:
            raise ChildProcessError("a worker of the cluster was killed, perhaps for want of memory") from error
