/* SPDX-License-Identifier: Apache-2.0 */
/* The file in which a node of the simulator notes what commands found (core/recall), as src/node does. It is
 * never flushed: with each life some of it may be lost, cut, or damaged. */
#ifndef SIM_SIM_RECALL_H
#define SIM_SIM_RECALL_H

#include "core/recall/recall.h"

/* Of zeros before the first life. */
struct sim__recall {
    struct recall *recall;
    struct buffer file;
};

/* Another life begins; the seed says what is left of the file. */
void sim__recall_begin(struct sim__recall *recall, uint64_t seed,
                       raft_index (*first_needed)(void *context, wal_shard shard), void *context);
void sim__recall_deinit(struct sim__recall *recall);

void sim__recall_note(struct sim__recall *recall, const struct recall_entry *entry);
bool sim__recall_find(struct sim__recall *recall, struct recall_entry *entry);

#endif
