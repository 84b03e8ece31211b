/* SPDX-License-Identifier: Apache-2.0 */
/* Where a shard would be halved, for a conductor that asked. Where its requests are its leader knows
 * (core/demand), and tells at once. What its slots have is estimated by the store from the indexes of its
 * tables, some dozens of times, which may wait for its locks: on the admin's thread, like the samples, and
 * only when somebody asked. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "node/node_parts.h"

struct node_halver {
    struct os_mutex *mutex; /* Over the rest. */
    struct conductor_question question;
    struct conductor_halves halves;
    bool is_asked;
    bool is_found;
};

struct node_halver *node_halver_create(void)
{
    struct node_halver *halver = memory_allocate_zeroed(1, sizeof *halver);
    halver->mutex = os_mutex_create();
    return halver;
}

void node_halver_destroy(struct node_halver *halver)
{
    os_mutex_destroy(halver->mutex);
    memory_free(halver);
}

void node_halver_ask(struct node_halver *halver, const struct conductor_question *question)
{
    os_mutex_lock(halver->mutex);
    halver->question = *question;
    halver->is_asked = true;
    os_mutex_unlock(halver->mutex);
}

void node_halver_tell(struct node_halver *halver, const struct conductor_halves *halves)
{
    os_mutex_lock(halver->mutex);
    halver->halves = *halves;
    halver->is_found = true;
    os_mutex_unlock(halver->mutex);
}

bool node_halver_take(struct node_halver *halver, struct conductor_halves *halves)
{
    os_mutex_lock(halver->mutex);
    bool is_found = halver->is_found;
    halver->is_found = false;
    if (is_found) {
        *halves = halver->halves;
    }
    os_mutex_unlock(halver->mutex);
    return is_found;
}

uint64_t node_slots_size_bytes(struct store *store, uint32_t first, uint32_t end)
{
    uint8_t lower[KV_SLOT_ROW_SIZE_BYTES];
    uint8_t upper[KV_SLOT_ROW_SIZE_BYTES];
    return store_estimate_size_bytes(store, kv_slot_row(first, lower),
                                     end == SLOTS_COUNT ? BYTES("\xff") : kv_slot_row(end, upper));
}

static uint64_t measure(void *context, uint32_t first, uint32_t end)
{
    return node_slots_size_bytes(context, first, end);
}

void node_halver_run(struct node_halver *halver, struct store *store)
{
    os_mutex_lock(halver->mutex);
    struct conductor_question question = halver->question;
    bool is_asked = halver->is_asked;
    halver->is_asked = false;
    os_mutex_unlock(halver->mutex);
    if (!is_asked || question.end < question.first + 2) {
        return;
    }
    struct conductor_halves halves = conductor_halve(&question, measure, store);
    node_halver_tell(halver, &halves);
}
