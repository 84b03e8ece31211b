/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of kv_verify(). Each gives a status of the store, and what is wrong or NULL. */
#ifndef SERVICE_KV_KV_VERIFY_H
#define SERVICE_KV_KV_VERIFY_H

#include "service/kv/kv_internal.h"

struct kv__verify_store {
    struct env_store store;
    const struct env_store_snapshot *snapshot;
};

MUST_USE int kv__verify_record(const struct kv__verify_store *store, struct bytes name,
                               struct bytes value, const char **wrong);
MUST_USE int kv__verify_lock(const struct kv__verify_store *store, const struct kv_row_name *name,
                             struct bytes value, const char **wrong);

#endif
