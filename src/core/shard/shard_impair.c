/* SPDX-License-Identifier: Apache-2.0 */
/* Going on without a part of the log (I8 of raft, decision 14).
 *
 * The flag is durable in the meta row, and in the mark of a snapshot that is about to take its
 * place, before the log forgets that anything was lost. It is cleared with the first batch after
 * Raft has found the replica whole. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum { ATTEMPT_COUNT_MAX = 100, LOSS_BATCH_COUNT = 64 };

static bool has_majority_without(const raft_node *voters, uint32_t count, raft_node self)
{
    uint32_t others = count;
    for (uint32_t i = 0; i < count; i++) {
        others -= voters[i] == self ? 1 : 0;
    }
    return count == 0 || others >= count / 2 + 1;
}

bool shard__is_dispensable(const struct raft_configuration *members, raft_node self)
{
    return has_majority_without(members->voters, members->voter_count, self) &&
           has_majority_without(members->outgoing, members->outgoing_count, self);
}

static int write_rows(const struct env_store *store, const struct env_change *changes,
                      uint32_t count, struct error *error)
{
    int status = -EBUSY;
    for (uint32_t i = 0; i < ATTEMPT_COUNT_MAX && status == -EBUSY; i++) {
        status = store->ops->write(store->context, changes, count, error);
    }
    return status;
}

static int write_row(const struct env_store *store, struct bytes key, struct bytes value,
                     struct error *error)
{
    struct env_change change = {.kind = ENV_CHANGE_PUT, .key = key, .value = value};
    return write_rows(store, &change, 1, error);
}

/* Set the flag in a row that is a meta row. -ENOENT: there is no such row. */
static int flag_row(const struct env_store *store, struct bytes key, struct error *error)
{
    struct buffer row = {0};
    int status = store->ops->get(store->context, NULL, ENV_TIER_DISK, key, &row);
    if (status == 0) {
        shard__meta_set_impaired(&row);
        status = write_row(store, key, buffer_bytes(&row), error);
    } else if (status != -ENOENT) {
        status = error_set(error, status, "the meta row");
    }
    buffer_deinit(&row);
    return status;
}

/* Of a replica that has stored nothing yet. */
static int make_row(struct shard *shard, struct bytes key, struct error *error)
{
    ASSERT(shard->applied_index == 0);
    struct shard_meta meta = {.is_impaired = true,
                              .configuration = shard->configuration,
                              .has_range = shard->is_narrow || shard->options.is_child,
                              .first_slot = shard->range.first,
                              .end_slot = shard->range.end};
    struct buffer row = {0};
    shard__meta_encode(&meta, &row);
    shard->options.machine.save(shard->options.machine.context, &row);
    int status = write_row(&shard->options.store, key, buffer_bytes(&row), error);
    buffer_deinit(&row);
    return status;
}

static struct bytes loss_key(wal_shard id, uint8_t key[SHARD_META_KEY_SIZE_BYTES])
{
    (void)shard__meta_key(id, key);
    key[1] = 'L';
    return bytes_make(key, SHARD_META_KEY_SIZE_BYTES);
}

int shard_remember_losses(const struct env_store *store, const wal_shard *ids, uint32_t count,
                          struct error *error)
{
    uint8_t keys[LOSS_BATCH_COUNT][SHARD_META_KEY_SIZE_BYTES];
    struct env_change changes[LOSS_BATCH_COUNT];
    int status = 0;
    for (uint32_t i = 0; i < count && status == 0;) {
        uint32_t batch_count = 0;
        while (i < count && batch_count < LOSS_BATCH_COUNT) {
            changes[batch_count] = (struct env_change){
                .kind = ENV_CHANGE_PUT, .key = loss_key(ids[i++], keys[batch_count])};
            batch_count++;
        }
        status = write_rows(store, changes, batch_count, error);
    }
    return status == 0 && count > 0 ? store->ops->flush(store->context, error) : status;
}

int shard_has_lost(const struct env_store *store, wal_shard id, bool *has_lost, struct error *error)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    struct buffer row = {0};
    int status = store->ops->get(store->context, NULL, ENV_TIER_DISK, loss_key(id, key), &row);
    buffer_deinit(&row);
    *has_lost = status == 0;
    return status == 0 || status == -ENOENT
               ? 0
               : error_set(error, status, "cannot read what shard %u has lost", id);
}

/* Its own row says it, durably. Is this lost or refused, it costs a round trip once more. */
static void forget_loss(const struct env_store *store, wal_shard id)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    struct env_change change = {.kind = ENV_CHANGE_DELETE, .key = loss_key(id, key)};
    (void)!store->ops->write(store->context, &change, 1, NULL);
}

int shard_accept_loss(struct shard *shard, struct error *error)
{
    ASSERT(shard->raft == NULL);
    if (!shard_is_dispensable(shard)) {
        return error_say(
            error, ERROR_CORRUPT,
            "and without this replica no majority of the %u voters of shard %u is left",
            shard->configuration.voter_count, shard->options.id);
    }
    if (shard->is_impaired) {
        return 0; /* Since before. */
    }
    const struct env_store *store = &shard->options.store;
    uint8_t meta_key[SHARD_META_KEY_SIZE_BYTES];
    struct bytes key = shard__meta_key(shard->options.id, meta_key);
    int status = flag_row(store, key, error);
    if (status == -ENOENT && shard->install == NULL) {
        status = make_row(shard, key, error);
    } else if (status == -ENOENT) {
        status = 0;
    }
    if (status == 0 && shard->install != NULL) {
        struct bytes mark_key = shard__install_set_impaired(shard);
        status = flag_row(store, mark_key, error);
    }
    if (status == 0) {
        status = store->ops->flush(store->context, error);
    }
    if (status == 0) {
        PROBE("shard.impaired");
        TRACE("shard.impaired", shard->options.id, shard->applied_index, 0, 0);
        shard->is_impaired = true;
        forget_loss(store, shard->options.id);
    }
    return status;
}

bool shard_is_dispensable(const struct shard *shard)
{
    return shard->is_impaired || shard__is_dispensable(&shard->configuration, shard->options.self);
}

bool shard_is_impaired(const struct shard *shard)
{
    return shard->is_impaired;
}

bool shard_is_stored_whole(const struct shard *shard)
{
    return !shard->is_impaired && !shard->is_flag_stale && !shard->is_stateless &&
           !rows_is_committing(shard->rows);
}
