/* SPDX-License-Identifier: Apache-2.0 */
/* kv_hash: the handlers of the hash commands, for the table. */
#ifndef SERVICE_KV_KV_HASH_H
#define SERVICE_KV_KV_HASH_H

#include "service/kv/kv_internal.h"

/* How many fields HRANDFIELD draws at most when they may repeat: each takes a look at the rows. */
#define KV_RANDOM_FIELD_COUNT_MAX 65536

/* kv_hash.c */
kv__handler kv__command_hset;
kv__handler kv__command_hmset;
kv__handler kv__command_hsetnx;
kv__handler kv__command_hincrby;
kv__handler kv__command_hincrbyfloat;
kv__handler kv__command_hdel;
kv__handler kv__command_hget;
kv__handler kv__command_hmget;
kv__handler kv__command_hlen;
kv__handler kv__command_hexists;
kv__handler kv__command_hstrlen;

kv__handler kv__prefetch_field;       /* The second argument. */
kv__handler kv__prefetch_fields;      /* All arguments from the second on. */
kv__handler kv__prefetch_field_pairs; /* Every other one. */

/* kv_hash_walk.c */
kv__handler kv__command_hgetall;
kv__handler kv__command_hkeys;
kv__handler kv__command_hvals;
kv__handler kv__command_hscan;
kv__handler kv__command_hrandfield;

#endif
