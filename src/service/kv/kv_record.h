/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of transactions over several shards: what a participant knows of its part, and what a home
 * has decided. docs/formats/rows.md. */
#ifndef SERVICE_KV_KV_RECORD_H
#define SERVICE_KV_KV_RECORD_H

#include "core/txn/txn.h"
#include "service/kv/kv_internal.h"

enum kv_record_state {
    KV_RECORD_PREPARED = 1,
    KV_RECORD_COMMITTED = 2, /* Executed. */
    KV_RECORD_ABORTED = 3,   /* Dropped, or never prepared. */
};

/* A participant's row. */
struct kv_record {
    enum kv_record_state state;
    uint8_t protocol; /* This and what follows only while it is prepared. */
    uint32_t home;
    uint64_t stamp_ms; /* When it was prepared. */
    uint32_t argument_count;
    struct bytes part; /* The arguments, encoded; borrowed. */
};

/* A home's row. */
struct kv_decision {
    bool is_commit;
    bool is_forgotten; /* All participants have finished. */
    uint64_t stamp_ms;
    struct bytes places; /* Of the participants, 4 bytes each; borrowed. Only of a commit. */
};

struct bytes kv__record_row(uint8_t target[KV_RECORD_ROW_SIZE_BYTES], uint32_t place,
                            enum kv_row_kind kind, struct txn_id id);
/* The identity in the name of such a row. */
struct txn_id kv__record_id(struct bytes row);

void kv__record_encode(const struct kv_record *record, const struct bytes *arguments,
                       struct buffer *target);
/* ERROR_CORRUPT. Whether the arguments are a part is not looked at. */
MUST_USE int kv__record_decode(struct bytes row, struct kv_record *record);
/* Give the arguments as an array; they borrow from the record. */
struct bytes *kv__record_arguments(const struct kv_record *record);

void kv__decision_encode(const struct kv_decision *decision, struct buffer *target);
MUST_USE int kv__decision_decode(struct bytes row, struct kv_decision *decision);

/* ---- What is kept in memory (kv_record.c) ---------------------------------------------------- */

/* The machine's list of what is not finished. `places` is copied. */
void kv__unfinished_add(struct kv *kv, const struct kv__unfinished *unfinished);
/* Is the part prepared? */
bool kv__unfinished_has(const struct kv *kv, struct txn_id id, uint32_t place);
void kv__unfinished_remove(struct kv *kv, struct txn_id id, uint32_t place, bool is_decision);

/* ---- What nobody has to remember any more (kv_forget.c) -------------------------------------- */

/* A record or decision was written, or found. */
void kv__record_hint(struct kv *kv, uint32_t place, enum kv_row_kind kind, struct txn_id id);
void kv__forgetting_deinit(struct kv *kv);
/* The range has ended earlier since. */
void kv__forgetting_cut(struct kv *kv);

#endif
