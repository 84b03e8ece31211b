# SPDX-License-Identifier: Apache-2.0
"""Chaos: real nodes in network namespaces, real clients, and everything that goes wrong, drawn from a seed.

    network     namespaces, a switch between them, partitions in any direction
    weather     delay, loss, duplicates and disorder on single directions
    nodes       the processes: start, kill, pause, a disk that fills up; how a cluster is formed
    nemesis     the schedule of faults, a function of the seed
    workloads   clients that write down what they saw
    run         all of it, and the checks at the end: tools/chaos

Needs root. Everything that is made (namespaces, mounts, processes) is removed at the end, on Ctrl-C, and by the next
run when a run was killed.
"""
