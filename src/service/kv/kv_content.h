/* SPDX-License-Identifier: Apache-2.0 */
/* What a key is and has, as CONTENT answers it (kv_move.c), and how it is put elsewhere. */
#ifndef SERVICE_KV_KV_CONTENT_H
#define SERVICE_KV_KV_CONTENT_H

#include "service/kv/kv_internal.h"
#include "service/kv/kv_work.h"

enum { KV_CONTENT_TOO_LARGE = 255 }; /* Beside enum kv_type. */

struct kv__content {
    uint64_t version; /* 0: there is no such key. */
    uint64_t expire_ms;
    uint8_t type;
    struct bytes rest; /* Borrowed from the answer. */
};

/* Of a bulk string. False: malformed, or an error. */
MUST_USE bool kv__content_parse(struct bytes answer, struct kv__content *content);

/* How large it is; of what is not there, or too large, nothing. False: malformed. */
MUST_USE bool kv__content_extent(const struct kv__content *content, struct kv__extent *extent);

/* Add what makes `target` what the content is, which is there and not too large. False: malformed. */
MUST_USE bool kv__content_add_writes(struct kv_transaction *transaction, struct bytes target,
                                     const struct kv__content *content);

#endif
