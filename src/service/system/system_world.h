/* SPDX-License-Identifier: Apache-2.0 */
/* system_world: the machine over a store in memory, driven command by command; for tests only. */
#ifndef SERVICE_SYSTEM_SYSTEM_WORLD_H
#define SERVICE_SYSTEM_SYSTEM_WORLD_H

#include "core/memstore/memstore.h"
#include "service/system/system_internal.h"

struct system__world {
    struct memstore *store;
    struct rows *rows;
    struct system *system;
    struct shard_machine machine;
    struct buffer saved;
    struct buffer answer;
    uint64_t index;
    uint64_t time_ms;
};

/* `data` may be NULL. */
void system__world_init(struct system__world *world, const struct shard_machine *data);
void system__world_deinit(struct system__world *world);

/* Execute a command as an entry of its own; the answer is `world->answer`. Returns the status of
 * execute(). */
int system__world_execute(struct system__world *world, const struct shard_command *command);
/* Answer a read: in memory, or on a snapshot. */
int system__world_read(struct system__world *world, const struct shard_command *command);
/* Either, as the command wants. It must not fail. */
struct bytes system__world_run(struct system__world *world, const struct system_command *command);

/* Execute what background() asks for. False: nothing at this time. */
bool system__world_background(struct system__world *world);

/* Load into another machine, which must hold the same as this one (I9), and verify the rows; takes
 * its place. */
void system__world_restart(struct system__world *world);

/* Do they hold the same? */
bool system__world_is_same(const struct system *left, const struct system *right);
bool system__world_is_same_node(const struct system_node *left, const struct system_node *right);

#endif
