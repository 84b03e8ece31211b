/* SPDX-License-Identifier: Apache-2.0 */
/* pace: when the shards of a node close the entries that they gather, and when their loop rests. Layer: core.
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
 *   While many commands wait for nothing but a flush, what clients send meanwhile waits for it too. A
 * loop that is woken for each of it is woken too often: waking it costs its client and itself more than
 * reading the command. So it rests for a moment, and finds what came together. The end of the flush ends
 * the rest. (Network cards moderate their interrupts for the same reason.)
 *
 * Invariants
 *   I1. With one busy shard it changes nothing: two entries under way are what that shard waits for.
 *   I2. Nobody waits longer than PACE_PATIENCE_MS for the entries of others: then those that are
 *       under way are counted no more. So a group that has lost its quorum holds up the others that long,
 *       and not again for the same entries; one whose members are slow, again with each entry of its.
 *   I3. It decides when an entry is closed, when the loop looks at its sockets, and nothing else. An entry
 *       that is full does not ask.
 *   I4. The loop rests only while PACE_REST_COMMAND_COUNT commands or more wait for a flush of this host alone,
 *       PACE_REST_US at a time; not when a read came within PACE_PATIENCE_MS, as reads wait for no flush;
 *       and not because of entries that are as old as that: a disk that hangs makes nothing slower.
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
/* Fewer are those of few clients, which gain nothing by waiting for each other. */
#define PACE_REST_COMMAND_COUNT 16u
/* About what a flush takes. */
#define PACE_REST_US 150u

struct pace {
    uint64_t round; /* Only entries that were closed in it count. */
    uint32_t in_flight_count;
    uint32_t peak_count;     /* Under way after the latest was closed. */
    uint32_t flushing_count; /* Commands that wait for a flush of this host alone. */
    uint64_t entered_at_ms;  /* The tick of the latest of them. */
    uint64_t read_at_ms;     /* The latest tick before which a read came. */
    uint64_t now_ms;         /* Of the latest tick. */
    uint64_t open_at_ms;     /* The latest tick in which entries might be closed. */
    bool has_read;           /* Since the latest tick. */
    bool is_turning;         /* Closed for this tick, and not for the next, as it looks. */
    bool is_closed;          /* For this tick. */
};

/* A tick begins: may entries be closed in it? */
bool pace_tick(struct pace *pace, uint64_t now_ms);

/* May they be closed soon, as it looks now? Then there is to be a tick at once. */
bool pace_may_go_on(const struct pace *pace);

/* When the wait is over in any case. */
uint64_t pace_wake_at_ms(const struct pace *pace);

/* An entry was closed, and is under way from now on. `flushing_count` is how many commands it has, if it waits
 * for a flush of this host alone; otherwise 0. Returns what pace_leave() needs; not 0. */
uint64_t pace_enter(struct pace *pace, uint32_t flushing_count);

/* That entry is applied, or void; `flushing_count` as it was given. */
void pace_leave(struct pace *pace, uint64_t ticket, uint32_t flushing_count);

/* A command came that reads: it would wait only for the loop. */
void pace_note_read(struct pace *pace);

/* How long the loop rests now that a tick is over, if it has nothing to do; 0: not at all. */
uint32_t pace_rest_us(const struct pace *pace, uint64_t now_ms);

#endif
