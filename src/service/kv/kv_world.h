/* SPDX-License-Identifier: Apache-2.0 */
/* kv_world: the machine over a store in memory, driven command by command; for tests only.
 *
 * What the shard does to the machine, without log and raft: a write is executed at once as an entry
 * of its own and committed with the saved state; a read runs in memory and, when the store says
 * that not all is there, again on a snapshot; a read that sees an expired key is executed. */
#ifndef SERVICE_KV_KV_WORLD_H
#define SERVICE_KV_KV_WORLD_H

#include "core/memstore/memstore.h"
#include "service/kv/kv.h"

struct kv__world {
    struct memstore *store;
    struct rows *rows;
    struct kv *kv;
    struct buffer saved;
    struct buffer answer;
    uint64_t index;
    uint64_t time_ms;
    uint64_t executed_count; /* Commands that went the way of the log. */
    uint8_t protocol;
    uint8_t known; /* What the next command is told that it found; then 0. */
    uint8_t found; /* What the latest said. */
};

void kv__world_init(struct kv__world *world, uint64_t seed);
void kv__world_deinit(struct kv__world *world);

/* Run a command, name first; the answer is `world->answer`. */
void kv__world_run(struct kv__world *world, const struct bytes *words, uint32_t word_count);
/* The same for words separated by single spaces, printf-like. Returns the answer as text. */
const char *kv__world_say(struct kv__world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Execute what background() asks for. False: nothing at this time. */
bool kv__world_background(struct kv__world *world);

/* Forget everything that is not stored, and load again. */
void kv__world_restart(struct kv__world *world);

/* Execute a command of the log, at a new index; the answer is in `answer`, the state in `saved`. */
void kv__world_execute(struct kv__world *world, const struct shard_command *command);

#endif
