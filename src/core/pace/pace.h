/* SPDX-License-Identifier: Apache-2.0 */
/* pace: when the shards of a node close the entries that they gather. Layer: core.
 *
 * A shard closes a small entry when fewer than two of its own are under way; until then commands gather
 * in it. That makes large entries where one shard has all commands. Where many shards share them, each of
 * them has few, and closes entries of one or two: what an entry costs (a record of the log, two messages,
 * two answers) is paid for nearly each command, and they trickle: each tick has one or two to send.
 *   So the shards of a node, those that it leads, keep step. While entries are under way, two or more and
 * more than half of what was under way after the latest was closed, nobody closes another one. Then all
 * that have something do so in the same tick: fewer and larger entries, and they leave in one write to
 * each of the other nodes, and with one flush. It is the tick after the one that found it possible, if more
 * than two were under way: clients that were just answered, and ask again, have a part in it.
 *
 * Invariants
 *   I1. With one busy shard it changes nothing: two entries under way are what that shard waits for.
 *   I2. Nobody waits longer than PACE_PATIENCE_MS for the entries of others: then those that are
 *       under way are counted no more. So a group that has lost its quorum holds up the others that long,
 *       and not again for the same entries; one whose members are slow, again with each entry of its.
 *   I3. It decides when an entry is closed and nothing else. An entry that is full does not ask.
 *
 * Driven by the host of the shards: pace_tick() before each tick of them. The shards say what is under way.
 * One for all shards of a loop, of zeros at first. It belongs to their thread and holds no memory. A host
 * that does not drive it holds up nobody. */
#ifndef CORE_PACE_PACE_H
#define CORE_PACE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_PATIENCE_MS 10u
/* So many entries hold up nobody; a shard by itself waits for the same number. */
#define PACE_FREE_COUNT 2u

struct pace {
    uint64_t round; /* Only entries that were closed in it count. */
    uint32_t in_flight_count;
    uint32_t peak_count; /* Under way after the latest was closed. */
    uint64_t open_at_ms; /* The latest tick in which entries might be closed. */
    bool is_turning;     /* Closed for this tick, and not for the next, as it looks. */
    bool is_closed;      /* For this tick. */
};

/* A tick begins: may entries be closed in it? */
bool pace_tick(struct pace *pace, uint64_t now_ms);

/* May they be closed soon, as it looks now? Then there is to be a tick at once. */
bool pace_may_go_on(const struct pace *pace);

/* When the wait is over in any case. */
uint64_t pace_wake_at_ms(const struct pace *pace);

/* An entry was closed, and is under way from now on. Returns what pace_leave() needs; not 0. */
uint64_t pace_enter(struct pace *pace);

/* That entry is applied, or void. Of no effect when it is not counted any more, and for 0. */
void pace_leave(struct pace *pace, uint64_t ticket);

#endif
