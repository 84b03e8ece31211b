/* SPDX-License-Identifier: Apache-2.0 */
/* Verify the rows of a store against the invariants of system.h, in one pass. */
#include <inttypes.h>

#include "base/memory/memory.h"
#include "service/system/system_internal.h"

struct verification {
    struct error *error;
    bool has_settings;
    struct system__settings state;
    struct system_node *nodes;
    uint32_t node_count;
    uint32_t token_count;
    uint64_t audit_count;
    uint64_t audit_last;
    struct system__ranges ranges;
    struct slots slots;
    struct system__plans plans;
};

#define CORRUPT(verification, ...) error_say((verification)->error, ERROR_CORRUPT, __VA_ARGS__)

static int unreadable(struct verification *verification, int status, const char *what)
{
    return status == ERROR_NEWER_FORMAT ? error_set(verification->error, status, "%s", what)
                                        : CORRUPT(verification, "%s cannot be read", what);
}

static int verify_node(struct verification *verification, const struct system__row_name *name,
                       struct bytes value)
{
    const struct system_settings *settings = &verification->state.settings;
    if (verification->node_count == SYSTEM_NODE_ROW_COUNT_MAX) {
        return CORRUPT(verification, "more than %d nodes", SYSTEM_NODE_ROW_COUNT_MAX);
    }
    struct system_node *node = &verification->nodes[verification->node_count];
    int status = system__node_decode(value, (uint32_t)name->number, node);
    if (status != 0) {
        return unreadable(verification, status, "a node");
    }
    if (node->id >= settings->node_id_next) {
        return CORRUPT(verification, "node %" PRIu32 " has an id that was not given", node->id);
    }
    if (node->state != SYSTEM_NODE_REMOVED && node->feature_max < settings->feature) {
        return CORRUPT(verification, "node %" PRIu32 " does not know the agreed feature version",
                       node->id);
    }
    verification->node_count++;
    return 0;
}

static int verify_token(struct verification *verification, const struct system__row_name *name,
                        struct bytes value)
{
    struct system__token token;
    int status = system__token_decode(value, &name->hash, &token);
    if (status != 0) {
        return unreadable(verification, status, "a token");
    }
    if (++verification->token_count > SYSTEM_TOKEN_COUNT_MAX) {
        return CORRUPT(verification, "more than %d tokens", SYSTEM_TOKEN_COUNT_MAX);
    }
    for (uint32_t i = 0; i < token.token.used_count; i++) {
        uint32_t id = token.uses[i].node;
        if (id == 0 || id >= verification->state.settings.node_id_next) {
            return CORRUPT(verification, "a token gave an id that was not given");
        }
        for (uint32_t j = 0; j < i; j++) {
            if (token.uses[j].node == id ||
                memcmp(&token.uses[j].key, &token.uses[i].key, sizeof token.uses[i].key) == 0) {
                return CORRUPT(verification, "a token was used twice by node %" PRIu32, id);
            }
        }
    }
    return 0;
}

static int verify_audit(struct verification *verification, const struct system__row_name *name,
                        struct bytes value)
{
    struct system_audit audit;
    int status = system__audit_decode(value, name->number, &audit);
    if (status != 0) {
        return unreadable(verification, status, "a record");
    }
    if (verification->audit_count > 0 && audit.number != verification->audit_last + 1) {
        return CORRUPT(verification, "records before %" PRIu64 " are missing", audit.number);
    }
    verification->audit_last = audit.number;
    verification->audit_count++;
    return 0;
}

static int verify_shard(struct verification *verification, const struct system__row_name *name,
                        struct bytes value)
{
    struct system__shard shard;
    int status = system__shard_decode(value, (wal_shard)name->number, &shard);
    if (status != 0) {
        return unreadable(verification, status, "a shard");
    }
    if (system__ranges_add(&verification->ranges, &shard) != 0) {
        return CORRUPT(verification, "more than %u shards", SLOTS_SHARD_COUNT_MAX);
    }
    return 0;
}

static int verify_row(struct verification *verification, struct bytes key, struct bytes value)
{
    struct system__row_name name;
    if (!system__row_parse(key, &name)) {
        return CORRUPT(verification, "a row that the system does not write");
    }
    if (name.kind != SYSTEM_ROW_SETTINGS && !verification->has_settings) {
        return CORRUPT(verification, "rows of a cluster, but not its settings");
    }
    switch (name.kind) {
    case SYSTEM_ROW_SETTINGS: {
        int status = system__settings_decode(value, &verification->state);
        verification->has_settings = true;
        return status == 0 ? 0 : unreadable(verification, status, "the settings");
    }
    case SYSTEM_ROW_NODE:
        return verify_node(verification, &name, value);
    case SYSTEM_ROW_TOKEN:
        return verify_token(verification, &name, value);
    case SYSTEM_ROW_AUDIT:
        return verify_audit(verification, &name, value);
    case SYSTEM_ROW_SHARD:
        return verify_shard(verification, &name, value);
    }
    return 0;
}

/* I10, I11 */
static int settle_shards(struct verification *verification)
{
    uint32_t feature = verification->state.settings.feature;
    switch (
        system__ranges_settle(&verification->ranges, &verification->slots, &verification->plans)) {
    case 0:
        break;
    case -EINVAL:
        return CORRUPT(verification, "a planned shard is no part of another one");
    default:
        return CORRUPT(verification, "the shards do not have each slot once");
    }
    if (verification->ranges.count > 0 && feature < SYSTEM_FEATURE_SHARDS) {
        return CORRUPT(verification, "several shards in a cluster that does not know of them");
    }
    if (verification->plans.count > 0 && feature < SYSTEM_FEATURE_SPLIT) {
        return CORRUPT(verification, "a planned shard in a cluster that does not know of them");
    }
    return 0;
}

/* What only all rows together can tell. */
static int settle(struct verification *verification)
{
    uint32_t member_count = 0;
    uint32_t active_count = 0;
    for (uint32_t i = 0; i < verification->node_count; i++) {
        const struct system_node *node = &verification->nodes[i];
        if (node->state == SYSTEM_NODE_REMOVED) {
            continue;
        }
        member_count++;
        active_count += node->state == SYSTEM_NODE_ACTIVE;
        for (uint32_t j = 0; j < i; j++) {
            const struct system_node *other = &verification->nodes[j];
            if (other->state != SYSTEM_NODE_REMOVED &&
                (memcmp(&other->key, &node->key, sizeof node->key) == 0 ||
                 strcmp(other->peer, node->peer) == 0)) {
                return CORRUPT(verification,
                               "nodes %" PRIu32 " and %" PRIu32 " have the same key or address",
                               other->id, node->id);
            }
        }
    }
    if (active_count == 0 || member_count > SYSTEM_NODE_COUNT_MAX) {
        return CORRUPT(verification, "%" PRIu32 " nodes, %" PRIu32 " of them active", member_count,
                       active_count);
    }
    int status = settle_shards(verification);
    if (status != 0) {
        return status;
    }
    uint64_t given = verification->state.audit_next - 1;
    uint64_t expected = given < SYSTEM_AUDIT_COUNT_MAX ? given : SYSTEM_AUDIT_COUNT_MAX;
    if (verification->audit_count != expected ||
        (expected > 0 && verification->audit_last != given)) {
        return CORRUPT(verification,
                       "%" PRIu64 " records up to %" PRIu64 ", not %" PRIu64 " up to %" PRIu64,
                       verification->audit_count, verification->audit_last, expected, given);
    }
    return 0;
}

static int verify_rows(struct verification *verification, const struct env_store *store,
                       struct env_iterator *iterator, struct bytes lower)
{
    int status = store->ops->iterator_seek(store->context, iterator, lower);
    while (status == 0) {
        status = verify_row(verification, store->ops->iterator_key(store->context, iterator),
                            store->ops->iterator_value(store->context, iterator));
        if (status != 0) {
            return status;
        }
        status = store->ops->iterator_next(store->context, iterator);
    }
    if (status != -ENOENT) {
        return error_set(verification->error, status, "read the rows of the system");
    }
    return verification->has_settings ? settle(verification) : 0;
}

int system_verify(struct env_store store, const struct env_store_snapshot *snapshot,
                  struct error *error)
{
    uint8_t lower[2];
    uint8_t upper[2];
    struct bytes first = system__row_lower(lower, 0);
    struct env_iterator *iterator;
    int status = store.ops->iterator_open(store.context, snapshot, ENV_TIER_DISK, first,
                                          system__row_upper(upper, 0), &iterator);
    if (status != 0) {
        return error_set(error, status, "read the rows of the system");
    }
    struct verification *verification = memory_allocate_zeroed(1, sizeof *verification);
    verification->error = error;
    verification->nodes =
        memory_allocate_zeroed(SYSTEM_NODE_ROW_COUNT_MAX, sizeof *verification->nodes);
    status = verify_rows(verification, &store, iterator, first);
    store.ops->iterator_close(store.context, iterator);
    slots_deinit(&verification->slots);
    memory_free(verification->nodes);
    memory_free(verification);
    return status;
}
