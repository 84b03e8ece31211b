/* SPDX-License-Identifier: Apache-2.0 */
/* For tests: servers on threads of their own, over loopback, with a backend that keeps a few
 * strings. Its writes are answered later and in order, as a shard's are; what it does besides is
 * set here, by the thread of the test. */
#ifndef GATEWAY_RESP_RESP_WORLD_H
#define GATEWAY_RESP_RESP_WORLD_H

#include <stdatomic.h>

#include "gateway/resp/resp.h"

struct world;

struct world_options {
    uint32_t server_count; /* 0: one. */
    uint32_t
        shard_count; /* 0: one. Each sees the strings of its slots only, and fails the process when
                              it is given others, or a session that has something at another. */
    struct resp_options resp;
};

struct world *world_create(const struct world_options *options);
/* Begin to stop the servers; world_destroy() waits for it. */
void world_begin_stop(struct world *world);
/* Stops the servers; fails the test when they do not stop. */
void world_destroy(struct world *world);

/* Writes are answered when this is false. */
void world_set_holding(struct world *world, bool is_holding);
/* Shards have lost their parts of the transactions that are committed. */
/* What was asked of a shard that split is what a leader put into its place, and lost. */
void world_set_replacing(struct world *world, bool is_replacing);
void world_set_losing(struct world *world, bool is_losing);
/* That shard's are held, though others' are answered; 0: no such shard. */
void world_hold_shard(struct world *world, wal_shard shard);
/* Sessions are answered in any order, each its own requests in theirs. */
void world_set_shuffling(struct world *world, bool is_shuffling);
/* Though they are held, so many are answered. */
void world_let(struct world *world, int count);
/* Reads are answered like writes: later. */
void world_set_reading_late(struct world *world, bool is_reading_late);
/* Refuse so many next requests with this status. */
void world_refuse(struct world *world, int status, int count);
/* The shard that has the slot becomes two, and what names its old slots is refused from now on, what
 * waits too. The gateway knows the new map at once; or later, when it is shown. The child's number is
 * that of shards. Nothing when a shard begins with the slot. */
void world_split(struct world *world, uint32_t first_slot);
void world_split_unseen(struct world *world, uint32_t first_slot);
void world_show_splits(struct world *world);
/* It does so when so many more of those that wait are answered; 0: not any more. */
void world_split_after(struct world *world, uint32_t first_slot, int answer_count);
/* Until at least so many requests of all clients are under way: what was sent was read, and is held. */
void world_wait_for_pending(struct world *world, uint64_t count);
/* How often something was refused because of it. */
int world_moved_count(const struct world *world);
/* Until it was so often, at least. */
void world_wait_for_moved(const struct world *world, int count);
/* Be node 1 of three instead of alone:
 *   slots 0 to 5470       led by 1, replicas on 2 and 3
 *   slots 5470 to 10922   led by 2 (10.0.0.2:6379), replicas on 1 and 3
 *   the rest              without a leader, replicas on 3 (fd00::3, port 6380, does not answer) and 1 */
void world_set_cluster(struct world *world, bool is_cluster);
/* The order key of the number-th request that is answered later, from 0. */
#define WORLD_ORDER_KEYS_MAX 32u
int world_order_key(const struct world *world, int number);
/* How many reads might be stale. */
int world_stale_count(const struct world *world);
/* Take so many next requests and end them later with this status. */
void world_fail(struct world *world, int status, int count);
/* How often SHUTDOWN came. */
int world_stop_count(const struct world *world);
struct resp_group *world_group(struct world *world);
/* Of the world itself: has the part that PREPARE brings keys of the slots that are named alone? */
void world_check_part(const struct shard_request *request);

/* A connected socket with a timeout of 60 s. */
int world_connect(struct world *world);
void world_send(int socket, struct bytes bytes);
/* Read so many bytes; fewer when the server closed. */
void world_receive(int socket, size_t size_bytes, struct buffer *target);
bool world_is_closed(int socket);
/* What comes next, so many bytes; fewer when the server closed. Borrowed until the next call. */
const char *world_reply(int socket, size_t size_bytes);
/* In a test: what comes next is this; the same once these requests are sent. */
#define WORLD_EXPECT_REPLY(socket, expected) \
    assert_string_equal(world_reply((socket), strlen(expected)), (expected))
#define WORLD_EXPECT(socket, requests, expected) \
    (world_send((socket), bytes_of_text(requests)), WORLD_EXPECT_REPLY((socket), (expected)))

/* The backend's own. A step of core/txn: all goes well, and nothing is executed, so replies are lost. False: it is
 * none. */
bool world_execute_step(const struct shard_command *command, bool is_losing,
                        const struct reply *reply);

#endif
