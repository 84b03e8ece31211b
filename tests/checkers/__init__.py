# SPDX-License-Identifier: Apache-2.0
"""What clients saw, written down as a history, and checks of what a history may be.

    history        operations with their times and outcomes; JSON lines
    linearizable   each key by itself behaves like one register
    transactions   list-append transactions are strictly serializable
    counters       a counter lies between what was acknowledged and what was tried

Only Python's own library, so that a history can be checked anywhere.
"""
