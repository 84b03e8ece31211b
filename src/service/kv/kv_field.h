/* SPDX-License-Identifier: Apache-2.0 */
/* kv_field: the rows of the fields of hashes, and what becomes of them when their hash is gone.
 *
 * A hash is a key row with a generation and a count; its fields are rows of their own under that
 * generation. When a hash of up to KV_DISCARD_AT_ONCE_MAX fields is gone, the same command deletes
 * their rows: whoever makes such garbage pays for it. A larger hash leaves a garbage row, which
 * takes the same time whatever its size, and background work deletes what that row names, about
 * KV_COLLECT_ROW_COUNT rows at a time (fewer when they are cold), each step a command of the log.
 * Which slots have garbage is remembered in memory only, as a hint: a slot that is not marked has
 * none. */
#ifndef SERVICE_KV_KV_FIELD_H
#define SERVICE_KV_KV_FIELD_H

#include "service/kv/kv_internal.h"

enum {
    KV_DISCARD_AT_ONCE_MAX = 64,
    KV_COLLECT_ROW_COUNT = 1000,
    /* The same when they are not in memory: clients wait while the disk is read. */
    KV_COLLECT_COLD_ROW_COUNT = 100,
    /* Between two steps: some 100,000 rows a second, so that clients do not notice. */
    KV_COLLECT_DELAY_MS = 10,
    /* How many slots are looked at between two steps, for garbage that a hint promises. */
    KV_COLLECT_PROBE_COUNT = 64,
};

/* The name of a field's row. 64 KiB on the stack, of which a short field touches one page. */
struct kv__field {
    struct bytes row; /* Points into `row_bytes`. */
    uint8_t row_bytes[KV_FIELD_ROW_PREFIX_SIZE_BYTES + KV_KEY_SIZE_BYTES_MAX];
};

/* `name` is at most KV_KEY_SIZE_BYTES_MAX long. */
void kv__field_init(struct kv__field *field, uint16_t slot, uint64_t generation, struct bytes name);

/* All fields of a generation, in the order of (hash, name). The iterator is not positioned. */
MUST_USE int kv__fields_open(struct rows *rows, uint16_t slot, uint64_t generation,
                             struct rows_iterator **iterator);
/* Move to the first field whose hash is `hash` or above. As rows_iterator_seek(). */
MUST_USE int kv__fields_seek(struct rows_iterator *iterator, uint16_t slot, uint64_t generation,
                             uint32_t hash);
/* Of the field that the iterator is at. */
struct bytes kv__fields_name(const struct rows_iterator *iterator);
uint32_t kv__fields_hash(const struct rows_iterator *iterator);

/* The hash of `count` fields is gone. Notes it; changes no rows. */
void kv__hash_discard(struct kv_call *call, uint16_t slot, uint64_t generation, uint64_t count);

/* At the end of a command of the log: do what was noted. A status of the rows is final. */
MUST_USE int kv__discards_finish(struct kv_call *call);

/* Bring into memory what discarding the hash of `key` would read, should it be one. */
MUST_USE int kv__discard_prefetch(struct kv_call *call, const struct kv_key *key);

/* ---- Collecting garbage ---------------------------------------------------------------------- */

/* After loading: any slot may have garbage when the saved count says that some has. */
void kv__garbage_hints_reset(struct kv *kv);

/* The shard has fewer slots now: what is behind them is not ours to collect. */
void kv__garbage_hints_cut(struct kv *kv);

/* After all rows are gone, and the count of garbage is 0. */
void kv__garbage_reset(struct kv *kv);

/* Is there something to collect? Then `command` (its arguments are `kv`'s) does the next step. Else
 * `*delay_ms` is lowered to when to ask again. */
bool kv__collect_background(struct kv *kv, struct rows *rows, uint64_t time_ms,
                            struct shard_command *command, uint64_t *delay_ms);

/* The command: how many rows at most, and the slots, as u64. Answers the number of rows deleted. */
kv__handler kv__execute_collect;

#endif
