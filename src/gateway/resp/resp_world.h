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
    struct resp_options resp;
};

struct world *world_create(const struct world_options *options);
/* Begin to stop the servers; world_destroy() waits for it. */
void world_begin_stop(struct world *world);
/* Stops the servers; fails the test when they do not stop. */
void world_destroy(struct world *world);

/* Writes are answered when this is false. */
void world_set_holding(struct world *world, bool is_holding);
/* Reads are answered like writes: later. */
void world_set_reading_late(struct world *world, bool is_reading_late);
/* Refuse so many next requests with this status. */
void world_refuse(struct world *world, int status, int count);
/* How often SHUTDOWN came. */
int world_stop_count(const struct world *world);
struct resp_group *world_group(struct world *world);

/* A connected socket with a timeout of 10 s. */
int world_connect(struct world *world);
void world_send(int socket, struct bytes bytes);
/* Read so many bytes; fewer when the server closed. */
void world_receive(int socket, size_t size_bytes, struct buffer *target);
bool world_is_closed(int socket);

#endif
