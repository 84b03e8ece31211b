/* SPDX-License-Identifier: Apache-2.0 */
/* The store that the node gets, whose writes can be the last thing that it does, and the batches on
 * their way there: the node hands each to a thread; here it is an event when it is written and
 * another when the shard hears of it. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_node.h"

/* One simulation per thread at a time: the memstore's interface has no room for another context. */
static _Thread_local struct sim *current;

static int store_write(void *context, const struct env_change *changes, uint32_t change_count,
                       struct error *error)
{
    struct sim *sim = current;
    bool is_mine = context == memstore_interface(sim->memstore).context;
    if (!is_mine) {
        return sim->memstore_ops.write(context, changes, change_count, error);
    }
    if (!sim__node_touch(sim, "store.write")) {
        return error_say(error, -EIO, "the simulated process is dead");
    }
    int status = sim->memstore_ops.write(context, changes, change_count, error);
    sim->node->is_store_behind = status == -EBUSY;
    if (status == 0) {
        sim__oracle_written(sim);
        if (!sim__node_touch(sim, "store.written")) {
            return error_say(error, -EIO, "the simulated process is dead");
        }
    }
    return status;
}

struct env_store sim__store_interface(struct sim *sim, struct memstore *memstore)
{
    current = sim;
    struct env_store store = memstore_interface(memstore);
    sim->memstore_ops = *store.ops;
    sim->store_ops = *store.ops;
    sim->store_ops.write = store_write;
    return (struct env_store){&sim->store_ops, store.context};
}

void sim__store_write_elsewhere(void *context, struct shard_write *write)
{
    struct sim__node *node = context;
    struct sim *sim = node->sim;
    ASSERT(node->write == NULL);
    node->write = write;
    node->was_written = false;
    node->write_number++;
    if (!node->is_rehearsal) {
        if (sim__node_is_alive(node)) {
            sim__oracle_frozen(sim);
        }
        sim__schedule(sim, sim__delay(sim, sim->nature.store_write_us), SIM__EVENT_WRITE,
                      node->incarnation, node->write_number, NULL);
    }
}

void sim__store_finish_write(struct sim__node *node)
{
    struct shard_write *write = node->write;
    if (write == NULL) {
        return;
    }
    if (!node->was_written) {
        shard_write_run(write);
    }
    node->write = NULL;
    shard_write_done(write);
}

void sim__store_event(struct sim *sim, const struct sim__event *event)
{
    struct sim__node *node = sim->node;
    if (node->write == NULL || event->value != node->write_number) {
        return; /* It was finished for another reason. */
    }
    if (event->kind == SIM__EVENT_WRITE) {
        shard_write_run(node->write);
        node->was_written = true;
        sim__schedule(sim, random_below(&sim->random, 1 + sim->nature.store_write_us / 4),
                      SIM__EVENT_WRITE_DONE, node->incarnation, event->value, NULL);
        return;
    }
    sim__store_finish_write(node);
    sim__node_look_at_shard(sim);
    sim__node_wake(sim);
}

void sim__store_all(struct sim__node *node)
{
    while (shard_settle(node->shard) == -EBUSY) {
        PROBE("sim.settle_stalled");
        sim__store_finish_write(node);
    }
}

/* The first shard has the rows of the cluster, too. */
void sim__append_slot_row(uint32_t slot, struct buffer *row)
{
    uint8_t bytes[KV_SLOT_ROW_SIZE_BYTES];
    if (slot == 0) {
        buffer_append_byte(row, 0x02);
    } else if (slot == SLOTS_COUNT) {
        buffer_append_byte(row, 0xff);
    } else {
        buffer_append(row, kv_slot_row(slot, bytes));
    }
}
