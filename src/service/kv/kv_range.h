/* SPDX-License-Identifier: Apache-2.0 */
/* kv_range: which slots the shard has, and how it becomes two (decision 18): the machine's side.
 *
 * The leader's way to a split that is wished: the census of the upper slots, step by step; then a
 * *hold*, in which whatever would be prepared waits; and when nothing is prepared, SPLIT. A hold that
 * does not come to that is given up after a while, and begun again later. */
#ifndef SERVICE_KV_KV_RANGE_H
#define SERVICE_KV_KV_RANGE_H

#include "service/kv/kv_internal.h"

/* Members of the machine. */
void kv__set_range(void *context, uint32_t first_slot, uint32_t end_slot);
int kv__split(void *context, struct rows *rows, uint32_t first_slot, struct buffer *child_saved);

/* Can it be one of the range? */
bool kv__census_fits(const struct kv__census *census, const struct kv *kv);

/* The next step to a split. As kv__collect_background(). */
bool kv__split_background(struct kv *kv, struct rows *rows, uint64_t time_ms,
                          struct shard_command *command, uint64_t *delay_ms);

bool kv__is_step_to_split(const struct shard_command *command);

#endif
