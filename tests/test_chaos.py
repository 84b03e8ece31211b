# SPDX-License-Identifier: Apache-2.0
"""The parts of chaos that decide something: the schedule, and what an error means. The rest runs in `make chaos`."""
import random

import pytest
import redis

from chaos import nemesis, workloads
from checkers import history

NODES = ["n1", "n2", "n3"]


def schedule(seed, seconds=120, nodes=tuple(NODES), has_small_disks=True):
    return nemesis.draw_schedule(random.Random(seed), seconds, list(nodes), has_small_disks)


def test_a_seed_is_a_schedule():
    """Equal seeds give equal faults, others do not."""
    assert schedule(7) == schedule(7)
    assert schedule(7) != schedule(8)


@pytest.mark.parametrize("names", [NODES[:1], NODES])
def test_faults_are_possible_and_end_in_time(names):
    """Of the same kind none begins before the one before has ended, so that to end one is to end it."""
    for seed in range(200):
        last_end = {}
        for fault in schedule(seed, nodes=names):
            assert 0 < fault.begin < fault.end <= 120
            assert set(fault.nodes) <= set(names)
            assert bool(fault.nodes) != bool(fault.directions)
            for source, target in fault.directions:
                assert source != target and {source, target} <= set(names) | {"client"}
            assert len(set(fault.directions)) == len(fault.directions)
            group = "network" if fault.directions else "disk" if fault.kind == "disk" else "process"
            assert last_end.get(group, 0) <= fault.begin
            last_end[group] = fault.end


def test_every_kind_of_fault_and_partition_comes():
    faults = [fault for seed in range(50) for fault in schedule(seed)]
    assert {fault.kind for fault in faults} == {"kill", "pause", "restart", "partition", "weather", "disk"}
    assert {fault.shape for fault in faults if fault.kind == "partition"} == {"alone", "halves", "one-way", "gap"}
    assert any(len(fault.nodes) == 3 for fault in faults if fault.kind == "kill")
    assert any(set(fault.directions) != {(target, source) for source, target in fault.directions}
               for fault in faults if fault.kind == "partition")
    assert not any(fault.kind == "disk" for seed in range(50) for fault in schedule(seed, has_small_disks=False))


def test_in_doubt_an_outcome_is_unknown():
    """Only what the server or the protocol says is a refusal."""
    refused = [redis.exceptions.BusyLoadingError("loading"), redis.ResponseError("OOM the disk is full"),
               redis.exceptions.ExecAbortError("Transaction discarded"), redis.WatchError("Watched variable changed.")]
    unknown = [redis.ConnectionError("closed"), redis.TimeoutError("no answer"), redis.ResponseError("ERR what now"),
               redis.WatchError("A ConnectionError occurred on while watching one or more keys")]
    for error in refused:
        assert isinstance(workloads.outcome_of(error), history.Refused), error
    for error in unknown:
        assert isinstance(workloads.outcome_of(error), history.Unknown), error


def test_a_broken_connection_in_a_watched_exec_is_unknown():
    """redis-py reports it as a WatchError, as if EXEC had been refused: this is how it tells."""
    pipeline = redis.Redis().pipeline()
    pipeline.watching = True

    class Connection:
        retry_on_timeout = False

        def disconnect(self):
            pass

    with pytest.raises(redis.WatchError) as caught:
        pipeline._disconnect_raise_reset(Connection(), redis.ConnectionError("closed"))  # pylint: disable=protected-access
    pipeline.watching = False
    assert isinstance(workloads.outcome_of(caught.value), history.Unknown)


def test_lists_are_read_as_they_were_appended():
    assert workloads.parse_list(None) == []
    assert workloads.parse_list(";1.1;2.7") == ["1.1", "2.7"]
