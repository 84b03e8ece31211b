/* SPDX-License-Identifier: Apache-2.0 */
/* Threads for a short time: what a replay reads from the store is read by several of them. At first as many as
 * there are processors; where these turn out to wait for the disk, as many as it may be good for. */
#include <stdatomic.h>

#include "base/assert/assert.h"
#include "node/node_recovery.h"

enum {
    HELPER_COUNT_MAX = 15,
    WAITING_SHARE = 3, /* Of the time of a part so much is left to the processor if it waits. */
};

struct crew {
    void (*run)(void *argument, uint32_t part);
    void *argument;
    uint32_t part_count;
    _Atomic uint32_t next_part;
    struct os_thread *helpers[HELPER_COUNT_MAX];
    uint32_t helper_count;
};

static bool run_next(struct crew *crew)
{
    uint32_t part = atomic_fetch_add(&crew->next_part, 1);
    if (part >= crew->part_count) {
        return false;
    }
    crew->run(crew->argument, part);
    return true;
}

static void help(void *context)
{
    while (run_next(context)) {
    }
}

static void grow(struct crew *crew, uint32_t helper_count)
{
    helper_count = helper_count < crew->part_count ? helper_count : crew->part_count - 1;
    while (crew->helper_count < helper_count && crew->helper_count < HELPER_COUNT_MAX &&
           os_thread_start(&crew->helpers[crew->helper_count], "replay", help, crew, NULL) == 0) {
        crew->helper_count++;
    }
}

void node__run_parts(void *context, void (*run)(void *argument, uint32_t part), void *argument,
                     uint32_t part_count)
{
    (void)context;
    ASSERT(part_count > 0);
    struct crew crew = {.run = run, .argument = argument, .part_count = part_count};
    grow(&crew, os_processor_count() - 1);
    uint64_t started_ns = os_monotonic_ns();
    uint64_t used_ns = os_thread_processor_ns();
    while (run_next(&crew)) {
        uint64_t took_ns = os_monotonic_ns() - started_ns;
        if ((os_thread_processor_ns() - used_ns) * WAITING_SHARE < took_ns) {
            grow(&crew, HELPER_COUNT_MAX);
        }
    }
    while (crew.helper_count > 0) {
        os_thread_join(crew.helpers[--crew.helper_count]);
    }
}
