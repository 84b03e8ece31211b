/* SPDX-License-Identifier: Apache-2.0 */
/* A small world for the tests of route: three nodes, each with a route, a gateway and a replica of
 * one shard, and a network between them. All are simulated in one thread, a millisecond at a time;
 * what happens is a function of the seed.
 *
 * The replicas keep what shard.h promises, and no more: the order of a session, the window, and
 * that what a leader has not committed may survive it or not. There is one log, which only the true
 * leader extends; others may think that they lead, and take requests that they hand back.
 *
 * The world judges by itself: what it finds first is the failure. Claims:
 *   - a write takes effect at most once; exactly once if it was answered; never if it was refused
 *   - a reply is that of its request
 *   - the effects of a session come in its order, and reads show what came before, nothing after of the
 *     same key
 *   - a read shows all that was answered, to anyone, before it was submitted
 *   - every request is done exactly once, in time
 *   - what is said to have moved did not take effect, and its command is whole
 *   - what takes effect, or is read, is so while the shard has the slots that the request named
 *   - nobody waits for what a floor says is not needed; replicas forget it at once
 *   - a node with older software, which would refuse it, is told nothing of slots or floors */
#ifndef CORE_ROUTE_ROUTE_WORLD_H
#define CORE_ROUTE_ROUTE_WORLD_H

#include "base/random/random.h"
#include "core/route/route.h"

#define WORLD_NODE_COUNT 3u
#define WORLD_SHARD 7u

struct world_options {
    uint64_t seed;
    struct route_options route; /* Limits only; 0: the default. */
    uint64_t window_count;      /* Effects that a retry finds; 0: all. */
    /* Of a thousand: each submission to a replica, each step. */
    uint32_t busy_permille;       /* -EBUSY */
    uint32_t late_read_permille;  /* A read that is not answered at once. */
    uint32_t late_write_permille; /* A write that must be fetched first. */
    uint32_t commit_delay_ms_max;
    uint32_t network_delay_ms_max; /* 0: messages arrive in the next step. */
    uint32_t lost_permille;        /* Messages that vanish, */
    uint32_t repeated_permille;    /* come twice, */
    uint32_t delayed_permille;     /* come again much later, */
    uint32_t choked_permille;      /* or must be sent again by the sender. */
    bool are_followers_blank; /* Who does not lead has applied nothing, as if it had no replica. */
    uint32_t older_nodes;     /* A bit for each whose first life does not know what a split is. */
};

struct world;
struct world *world_create(const struct world_options *options);
void world_destroy(struct world *world);

/* With a leader that all know; WORLD_NODE_COUNT: none. */
struct world *world_create_led(const struct world_options *options, uint32_t leader);
/* Destroy it: it must have seen nothing wrong, and routes in which nothing is pending must be empty. */
void world_end(struct world *world);

/* The first claim that was violated; NULL: none. */
const char *world_failure(const struct world *world);
struct random *world_random(struct world *world);
uint64_t world_now_ms(const struct world *world);
void world_step(struct world *world);
void world_run(struct world *world, uint32_t steps);

/* Until nothing is pending any more, which must come about within so many steps; returns the milliseconds. */
uint64_t world_run_until_done(struct world *world, uint32_t steps_max);
struct route_statistics world_statistics(struct world *world, uint32_t node);

/* ---- Clients --------------------------------------------------------------------------------- */

struct world_session;
/* A connection to the gateway of a node. */
struct world_session *world_connect(struct world *world, uint32_t node);
/* Once all its requests are done. */
void world_disconnect(struct world *world, struct world_session *session);
/* Requests that are not done; of all sessions when it is NULL. */
uint32_t world_pending_count(const struct world *world, const struct world_session *session);

enum world_kind {
    WORLD_WRITE,
    WORLD_RELEASE, /* A write on which others wait. */
    WORLD_READ,
    WORLD_CHEAP_READ,
    WORLD_STALE_READ,
};
static inline bool world_is_write(enum world_kind kind)
{
    return kind == WORLD_WRITE || kind == WORLD_RELEASE;
}

/* A request; returns its number. What the gateway is refused with -EBUSY it tries again. */
uint32_t world_submit(struct world *world, struct world_session *session, enum world_kind kind,
                      uint32_t size_bytes);
/* The same for one of the keys, from 1 on. */
uint32_t world_submit_for(struct world *world, struct world_session *session, enum world_kind kind,
                          uint32_t size_bytes, uint16_t key);
#define WORLD_KEY_COUNT_MAX 8u
#define WORLD_NOT_DONE 1
#define WORLD_LOST 2 /* The node of its client was killed. */
/* The status that it ended with, or one of the above. */
int world_status(const struct world *world, uint32_t request);
/* When it took effect, or what it read: a position in the log. 0: never. */
uint64_t world_position(const struct world *world, uint32_t request);

/* ---- Nodes ----------------------------------------------------------------------------------- */

struct route *world_route(struct world *world, uint32_t node);
bool world_is_up(const struct world *world, uint32_t node);
/* Its software does not know of splits. */
bool world_is_older(const struct world *world, uint32_t node);
void world_kill(struct world *world, uint32_t node);
/* A node that is started again is a newer one. */
void world_start(struct world *world, uint32_t node);

/* ---- Replicas -------------------------------------------------------------------------------- */

/* The node, or WORLD_NODE_COUNT: none. */
uint32_t world_leader(const struct world *world);
/* The leader has lost the others; what it has open may have been replicated. It goes on thinking
 * that it leads. */
void world_lose_leader(struct world *world);
/* There is none: this one leads from now on, and is ready. */
void world_elect(struct world *world, uint32_t node);
/* A replica hears who leads: hands back if it thought that it did itself. */
void world_learn(struct world *world, uint32_t node);
/* It has heard that nobody does. */
void world_forget(struct world *world, uint32_t node);
/* The shard gets smaller, by an entry of the true leader's log (decision 18): some of what is open is
 * before it, the rest is handed back. Each node hears of it in its time; the clients' gateway asks
 * again what is refused, by the newer map. At most WORLD_SPLIT_COUNT_MAX times, and only when no node is
 * an older one. */
void world_split(struct world *world);
uint32_t world_split_count(const struct world *world);
#define WORLD_SPLIT_COUNT_MAX 12u
/* Hold back what is committed next, or go on. */
void world_set_committing(struct world *world, bool is_committing);
void world_set_full(struct world *world, bool is_full);
/* Refuse everything, or as the options say. */
void world_set_busy(struct world *world, bool is_busy);

/* ---- The network ----------------------------------------------------------------------------- */

/* Break the connection; each side hears of it within `notice_ms_max`. */
void world_disconnect_nodes(struct world *world, uint32_t left, uint32_t right,
                            uint32_t notice_ms_max);
void world_connect_nodes(struct world *world, uint32_t left, uint32_t right);
bool world_are_connected(const struct world *world, uint32_t left, uint32_t right);
/* Messages vanish without a sign, or go again. */
void world_set_deaf(struct world *world, uint32_t from, uint32_t to, bool is_deaf);
uint64_t world_message_count(const struct world *world);

/* No more faults, and nothing slow; all connected, all up. */
void world_heal(struct world *world);

#endif
