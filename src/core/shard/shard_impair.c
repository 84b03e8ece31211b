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

enum { ATTEMPT_COUNT_MAX = 100 };

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

static int write_row(const struct env_store *store, struct bytes key, struct bytes value,
                     struct error *error)
{
    struct env_change change = {.kind = ENV_CHANGE_PUT, .key = key, .value = value};
    int status = -EBUSY;
    for (uint32_t i = 0; i < ATTEMPT_COUNT_MAX && status == -EBUSY; i++) {
        status = store->ops->write(store->context, &change, 1, error);
    }
    return status;
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
                              .has_range = true,
                              .first_slot = shard->range.first,
                              .end_slot = shard->range.end};
    struct buffer row = {0};
    shard__meta_encode(&meta, &row);
    shard->options.machine.save(shard->options.machine.context, &row);
    int status = write_row(&shard->options.store, key, buffer_bytes(&row), error);
    buffer_deinit(&row);
    return status;
}

int shard_accept_loss(struct shard *shard, struct error *error)
{
    ASSERT(shard->raft == NULL);
    if (!shard__is_dispensable(&shard->configuration, shard->options.self)) {
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
    }
    return status;
}

bool shard_is_dispensable(const struct shard *shard)
{
    return shard__is_dispensable(&shard->configuration, shard->options.self);
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
