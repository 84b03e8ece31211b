/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine and its commands need of transactions over several shards. */
#ifndef SERVICE_KV_KV_PARTICIPANT_H
#define SERVICE_KV_KV_PARTICIPANT_H

#include "service/kv/kv_lock.h"
#include "service/kv/kv_record.h"

/* A commit that not all participants have finished. */
void kv__decision_open(struct kv *kv, struct txn_id id, uint32_t home,
                       const struct kv_decision *decision);

MUST_USE int kv__records_load(struct kv *kv, struct rows *rows, struct error *error);
void kv__records_deinit(struct kv *kv);
bool kv__forget_background(struct kv *kv, uint64_t time_ms, struct shard_command *command,
                           uint64_t *delay_ms);

/* The shard has fewer slots now: what is behind them is forgotten, here. */
void kv__records_cut(struct kv *kv);

/* FLUSHALL: all rows go but the records and decisions. No key is locked. */
MUST_USE int kv__records_keep(struct kv_call *call, struct bytes lower, struct bytes upper);

#endif
