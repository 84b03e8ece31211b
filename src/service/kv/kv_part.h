/* SPDX-License-Identifier: Apache-2.0 */
/* Watched keys and queued commands: what EXEC is within a shard, and what a part of a transaction over
 * several shards is. The arguments are those of `call`; kv_transaction.c says how they are laid
 * out. */
#ifndef SERVICE_KV_KV_PART_H
#define SERVICE_KV_KV_PART_H

#include "service/kv/kv_internal.h"

struct kv__part {
    uint32_t watch_count;
    uint32_t command_count;
};

/* How many of its commands the client sees replies of, at most. */
uint32_t kv__transaction_reply_count(const struct kv_transaction *transaction);

/* A cursor over the queued commands. */
struct kv__part_cursor {
    const struct bytes *arguments;
    uint32_t rest_count;
};
struct kv__part_cursor kv__part_begin(const struct kv_call *call, const struct kv__part *part);
/* Make `inner` a call of the next command. False: there is none. */
bool kv__part_next(struct kv__part_cursor *cursor, const struct kv_call *call,
                   struct kv_call *inner);

/* False: malformed. Nothing else of this may be called then. */
MUST_USE bool kv__part_parse(const struct kv_call *call, struct kv__part *part);

/* Have the watched keys the versions that they had? */
MUST_USE int kv__part_compare(struct kv_call *call, const struct kv__part *part, bool *are_equal);

/* Execute the commands, in their order: a reply each. */
MUST_USE int kv__part_run(struct kv_call *call, const struct kv__part *part);

MUST_USE int kv__part_prefetch(struct kv_call *call, const struct kv__part *part);

/* Which keys a queued command is about. */
enum kv__reach {
    KV__REACH_KEYS, /* Those that kv__keys_visit() visits, at least one. */
    KV__REACH_NONE, /* None: `answer` is what it answers, wherever and whenever it is executed. */
    KV__REACH_ALL,  /* Nobody can tell: it can be neither cut nor evaluated. */
};
/* Appends to `answer`, and nothing if it has keys; NULL: nobody wants to know. */
enum kv__reach kv__reach_of(const struct kv_call *call, struct buffer *answer);

/* Does each of its commands name the keys that it looks at? What looks at all keys cannot be locked. */
bool kv__part_names_keys(const struct kv_call *call, const struct kv__part *part);

/* Visit every key, those that are named several times as often; true: all were visited. */
bool kv__part_visit(const struct kv_call *call, const struct kv__part *part, kv__key_visitor *visit,
                    void *context);

#endif
