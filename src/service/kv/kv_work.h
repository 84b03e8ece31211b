/* SPDX-License-Identifier: Apache-2.0 */
/* What executing commands costs, counted before it is done: whoever evaluates does so where others wait.
 *
 * Of each key it is known how large it is at most. A command counts for itself, the bytes of its
 * arguments, the keys and fields that it names, whether they are there or not, and the bytes and fields
 * that it looks at or writes; LCS for its table, a pattern for each byte that it may be compared with. Then its keys are
 * as large as it may have made them. The unit is what a byte costs that is read or written. */
#ifndef SERVICE_KV_KV_WORK_H
#define SERVICE_KV_KV_WORK_H

#include "service/kv/kv_internal.h"

enum {
    KV_WORK_OF_COMMAND = 1024,
    KV_WORK_OF_KEY = 256,   /* Each that is named, as often as it is. */
    KV_WORK_OF_FIELD = 512, /* Each that is gone through, or named. */
    KV_WORK_OF_CELL = 2,    /* Of the table of LCS. */
    KV_WORK_OF_STEP = 4,    /* Of a pattern: a byte of it with a byte of a name. */
};

/* Of a key, at most. */
struct kv__extent {
    uint64_t size_bytes;
    uint64_t field_count;
    uint64_t field_size_bytes; /* Of the largest one. */
};

struct kv__work {
    struct kv__extent *(*extent_of)(void *context, struct bytes key);
    void *context;
    uint64_t done;
};

/* Count going through all of it. False: that is too much. */
MUST_USE bool kv__work_add_extent(struct kv__work *work, const struct kv__extent *extent);
/* Count a command, which has keys. False: that is too much, and it may not be executed. */
MUST_USE bool kv__work_add_command(struct kv__work *work, const struct kv_call *call);

#endif
