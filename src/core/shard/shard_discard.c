/* SPDX-License-Identifier: Apache-2.0 */
/* A replica that does not belong to its group any more gives up what it has (decision 18): its
 * rows, its log, and the slots that it claims.
 *
 * That it does not belong there a leader has said, who was confirmed after it was asked, of a
 * configuration that is committed (shard_ask.c); since then this replica has answered nobody. So
 * nothing that it has acknowledged is needed: what was committed by then is on a majority of
 * others, and whatever it has that is of the same term and behind it keeps it from discarding. But
 * it may have voted, and without its log it would vote for whom it must not. So it discards as one
 * that is impaired (I8 of raft), and stays so: taken back, it first learns, and counts when it has
 * all that is committed. Term and vote stay in the log.
 *
 *   flagged    the meta row says that it is impaired, flushed
 *   void       no entry of the log is left, durably
 *   emptied    one batch: its rows go, and what was staged, and the meta row becomes that of an
 *              impaired one that has nothing; flushed
 *
 * Each step leaves what a replica may be after damage, so a crash between two of them needs no
 * care: it will ask again. Meanwhile it hears nothing and says nothing. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"
#include "core/shard/shard_message.h"

enum { RETRY_MS = 20, CHANGE_COUNT_MAX = 4 };

enum discard_stage { DISCARD_FLAGGING, DISCARD_VOIDING, DISCARD_EMPTYING };

struct shard_discard {
    struct shard_work work;
    struct shard *shard;
    enum discard_stage stage;
    bool is_working;
    uint64_t retry_at_ms;
    uint64_t void_sequence;
    bool has_rows;
    struct buffer flagged; /* Meta rows. */
    struct buffer emptied;
    struct buffer lower; /* Of the rows that go, */
    struct buffer upper; /* and behind them. */
    int status;
    struct error error;
};

/* ---- On a worker ----------------------------------------------------------------------------- */

static uint32_t list_flag(const struct shard_discard *discard, struct bytes meta_key,
                          struct env_change *changes)
{
    changes[0] = (struct env_change){ENV_CHANGE_PUT, meta_key, buffer_bytes(&discard->flagged)};
    return 1;
}

static uint32_t list_end(const struct shard_discard *discard, struct bytes meta_key,
                         struct bytes staged[3], struct env_change *changes)
{
    uint32_t count = 0;
    if (discard->has_rows) {
        changes[count++] = (struct env_change){
            ENV_CHANGE_DELETE_RANGE, buffer_bytes(&discard->lower), buffer_bytes(&discard->upper)};
    }
    changes[count++] = (struct env_change){ENV_CHANGE_DELETE_RANGE, staged[0], staged[1]};
    changes[count++] = (struct env_change){ENV_CHANGE_DELETE, staged[2], BYTES("")};
    changes[count++] =
        (struct env_change){ENV_CHANGE_PUT, meta_key, buffer_bytes(&discard->emptied)};
    return count;
}

static void run(struct shard_work *work)
{
    struct shard_discard *discard = LIST_ITEM(work, struct shard_discard, work);
    const struct env_store *store = &discard->shard->options.store;
    wal_shard id = discard->shard->options.id;
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    uint8_t keys[3][SHARD_INSTALL_KEY_SIZE_BYTES];
    struct bytes meta_key = shard__meta_key(id, key);
    struct bytes staged[3];
    struct env_change changes[CHANGE_COUNT_MAX];
    shard__install_keys(id, keys, staged);
    uint32_t count = discard->stage == DISCARD_FLAGGING
                         ? list_flag(discard, meta_key, changes)
                         : list_end(discard, meta_key, staged, changes);
    discard->error = (struct error){0};
    discard->status = store->ops->write(store->context, changes, count, &discard->error);
    if (discard->status == 0) {
        discard->status = store->ops->flush(store->context, &discard->error);
    }
}

/* ---- On the shard's thread ------------------------------------------------------------------- */

static void destroy(struct shard_discard *discard)
{
    buffer_deinit(&discard->flagged);
    buffer_deinit(&discard->emptied);
    buffer_deinit(&discard->lower);
    buffer_deinit(&discard->upper);
    memory_free(discard);
}

static void done(struct shard_work *work);

static void start(struct shard_discard *discard)
{
    struct shard *shard = discard->shard;
    struct shard_host *host = &shard->options.host;
    discard->work.run = run;
    discard->work.done = done;
    discard->is_working = host->work_elsewhere(host->context, &discard->work) == 0;
    if (discard->is_working) {
        shard->works_elsewhere++;
    } else {
        discard->retry_at_ms = shard__now_ms(shard) + RETRY_MS;
    }
}

/* Nothing of it is left: it is as if it had been opened with what the store says now. */
static void finish(struct shard *shard)
{
    struct shard_discard *discard = shard->discard;
    struct error error = {0};
    raft_index last_index = raft_last_index(shard->raft);
    TRACE("shard.discarded", shard->options.id, shard->applied_index, last_index, 0);
    PROBE("shard.discarded");
    shard__log_drop(shard, last_index, shard->applied_index);
    shard__ahead_deinit(shard);
    shard__reread_cancel(shard);
    rows_destroy(shard->rows);
    shard->rows = rows_create(shard->options.store, shard->options.cache_size_bytes);
    shard->is_stateless = false;
    int status = shard__meta_load(shard, &error);
    if (status != 0) {
        shard__fail(shard, status, &error);
    }
    rows_set_tier(shard->rows, ENV_TIER_MEMORY);
    shard__window_reset(shard->window, 0);
    shard->commit_index = shard->stored_index = shard->handed_index = 0;
    shard->stored_stamp_ms = 0;
    shard->is_flag_stale = false;
    shard->discard = NULL;
    destroy(discard);
    struct shard_host *host = &shard->options.host;
    if (host->emptied != NULL) {
        host->emptied(host->context, shard);
    }
    shard__begin_again(shard);
}

static void done(struct shard_work *work)
{
    struct shard_discard *discard = LIST_ITEM(work, struct shard_discard, work);
    struct shard *shard = discard->shard;
    discard->is_working = false;
    shard->works_elsewhere--;
    if (discard->status == -EBUSY || discard->status == -ENOSPC) {
        discard->retry_at_ms = shard__now_ms(shard) + RETRY_MS; /* The same again. */
    } else if (discard->status != 0) {
        shard__fail(shard, discard->status, &discard->error);
    } else if (discard->stage == DISCARD_FLAGGING) {
        shard->is_impaired = true; /* Not before: a crash until now leaves it whole. */
        discard->stage = DISCARD_VOIDING;
        discard->void_sequence = shard__void_log(shard);
    } else {
        finish(shard);
    }
    shard__finish_step(shard);
}

bool shard_is_discarding(const struct shard *shard)
{
    return shard->discard != NULL;
}

void shard__discard_persisted(struct shard *shard)
{
    struct shard_discard *discard = shard->discard;
    if (discard->stage == DISCARD_VOIDING && shard->durable_sequence >= discard->void_sequence) {
        discard->stage = DISCARD_EMPTYING;
        start(discard);
    }
}

uint64_t shard__discard_tick(struct shard *shard, uint64_t now_ms)
{
    struct shard_discard *discard = shard->discard;
    if (discard == NULL || discard->is_working || discard->stage == DISCARD_VOIDING) {
        return UINT64_MAX;
    }
    if (now_ms >= discard->retry_at_ms) {
        start(discard);
    }
    return discard->is_working ? UINT64_MAX : discard->retry_at_ms;
}

void shard__discard_deinit(struct shard *shard)
{
    if (shard->discard != NULL) {
        ASSERT(!shard->discard->is_working);
        destroy(shard->discard);
        shard->discard = NULL;
    }
}

/* ---- The answer ------------------------------------------------------------------------------ */

/* Is nothing of it under way, so that it can stop where it is? */
static bool is_at_rest(const struct shard *shard)
{
    return shard->install == NULL && !shard->is_stateless && shard_is_idle(shard) &&
           !shard->is_writing && !rows_is_committing(shard->rows) && shard->stalled == NULL &&
           !shard->is_flag_stale && shard->commit_index == shard->applied_index &&
           shard->handed_index == shard->applied_index &&
           shard->stored_index == shard->applied_index &&
           shard->durable_sequence == shard->issued_sequence &&
           list_is_empty(&shard->waiting_sends) && list_is_empty(&shard->snapshots) &&
           list_is_empty(&shard->log_reads);
}

/* It may have acknowledged to the leader who answers what that had not committed then. */
static bool may_be_needed(const struct shard *shard, const struct shard_membership *membership)
{
    raft_index last_index = raft_last_index(shard->raft);
    raft_term last_term = raft_entry_term(shard->raft, last_index);
    return last_term > membership->term ||
           (last_term == membership->term && last_index > membership->index);
}

/* Of one that has nothing: no entry, but who belongs to the group, so that it is not taken for
 * needed. */
static void encode_emptied(struct shard *shard, const struct shard_membership *membership,
                           struct buffer *target)
{
    struct shard_meta meta = {.is_impaired = true,
                              .has_range = shard->has_range,
                              .first_slot = shard->range.first,
                              .end_slot = shard->range.end,
                              .configuration = membership->members,
                              .saved = BYTES("")};
    shard__meta_encode(&meta, target);
}

static void begin(struct shard *shard, const struct shard_membership *membership)
{
    struct shard_discard *discard = memory_allocate_zeroed(1, sizeof *discard);
    discard->shard = shard;
    discard->has_rows = shard->applied_index > 0;
    shard__bounds_of(shard, &shard->stored_range, &discard->lower, &discard->upper);
    shard__meta_append(shard, &discard->flagged);
    shard__meta_set_impaired(&discard->flagged);
    encode_emptied(shard, membership, &discard->emptied);
    TRACE("shard.discards", shard->options.id, shard->applied_index, membership->term,
          membership->index);
    shard->question = 0;
    shard->discard = discard;
    shard->is_stateless = true;
    shard->reign++;
    shard->is_deposed = true; /* Reads that may be stale go back. */
    shard->role = RAFT_ROLE_FOLLOWER;
    shard->leader = 0;
    shard->raft_wake_at_ms = UINT64_MAX;
    start(discard);
}

int shard__discard_receive(struct shard *shard, raft_node from, struct bytes message)
{
    struct shard_membership membership;
    int status = shard__message_decode_membership(message, &membership);
    if (status != 0) {
        return status;
    }
    const struct raft_configuration *members = &membership.members;
    bool is_answer = shard->question != 0 && membership.number == shard->question;
    bool has_left = !raft_configuration_has_member(members, shard->options.self);
    if (!is_answer || !has_left || shard->role == RAFT_ROLE_LEADER || shard->discard != NULL ||
        shard_is_empty(shard) || !is_at_rest(shard) || may_be_needed(shard, &membership)) {
        return 0; /* It asks again. */
    }
    begin(shard, &membership);
    return 0;
}
