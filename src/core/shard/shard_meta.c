/* SPDX-License-Identifier: Apache-2.0 */
/* The meta row: what the store says of itself. At 0x01 'S' and the shard's id (big-endian);
 * integers are little-endian; docs/formats/entry.md is the same table.
 *
 *   offset  size  meaning
 *        0     1  version of this format: 2, or 3 since a split made the shard or made it smaller
 *        1     1  flags: 1 the replica lost what it had acknowledged, and may not vote yet
 *        2     6  zero
 *        8     8  index of the last entry in the store
 *       16     8  its term
 *       24     8  stamp of the newest applied entry, milliseconds since 1970
 *       32     8  digest over all changes so far
 *       40     8  index of the entry that made the configuration; 0: none did
 *       48     4  size of the configuration; 0: there is none yet
 *       52     4  zero
 *       56     4  only in version 3: the first slot of the shard,
 *       60     4  and the first one behind it
 *                 configuration (docs/formats/raft.md); what the state machine saved
 *
 * Version 1, of a node alone, ended its header at 40 and had no configuration. */
#include "base/assert/assert.h"
#include "base/endian/endian.h"
#include "base/trace/trace.h"
#include "core/shard/shard_internal.h"

enum {
    META_VERSION = 2,
    META_VERSION_OF_SPLIT = 3,
    META_SIZE_BYTES = 56,
    META_3_SIZE_BYTES = 64,
    META_1_SIZE_BYTES = 40,
    FLAG_IMPAIRED = 1,
};

struct bytes shard__meta_key(wal_shard id, uint8_t key[SHARD_META_KEY_SIZE_BYTES])
{
    key[0] = 0x01;
    key[1] = 'S';
    endian_put_u32_be(key + 2, id);
    return bytes_make(key, SHARD_META_KEY_SIZE_BYTES);
}

/* The mark of a snapshot that is whole and not in its place is a state, too. */
int shard_has_state(const struct env_store *store, wal_shard id, bool *has_state,
                    struct error *error)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    struct buffer row = {0};
    int status =
        store->ops->get(store->context, NULL, ENV_TIER_DISK, shard__meta_key(id, key), &row);
    if (status == -ENOENT) {
        key[1] = 'J';
        status =
            store->ops->get(store->context, NULL, ENV_TIER_DISK, bytes_make(key, sizeof key), &row);
    }
    *has_state = status == 0;
    buffer_deinit(&row);
    return status == 0 || status == -ENOENT
               ? 0
               : error_set(error, status, "read the meta row of shard %u", id);
}

/* A walk over the rows of a kind, in the order of their shards. */
struct walk {
    const struct env_store *store;
    struct env_iterator *iterator;
    int status;   /* 0: it is at one, */
    wal_shard id; /* of this shard. */
};

static void look(struct walk *walk)
{
    if (walk->status == 0) {
        struct bytes key = walk->store->ops->iterator_key(walk->store->context, walk->iterator);
        walk->status = key.size_bytes == SHARD_META_KEY_SIZE_BYTES ? 0 : ERROR_CORRUPT;
        walk->id = walk->status == 0 ? endian_get_u32_be(key.data + 2) : 0;
    }
}

static void begin_walk(struct walk *walk, const struct env_store *store, uint8_t kind,
                       wal_shard from)
{
    uint8_t lower[SHARD_META_KEY_SIZE_BYTES];
    uint8_t upper[2] = {0x01, (uint8_t)(kind + 1)};
    (void)shard__meta_key(from, lower);
    lower[1] = kind;
    struct bytes first = bytes_make(lower, sizeof lower);
    *walk = (struct walk){.store = store};
    walk->status = store->ops->iterator_open(store->context, NULL, ENV_TIER_DISK, first,
                                             bytes_make(upper, sizeof upper), &walk->iterator);
    if (walk->status == 0) {
        walk->status = store->ops->iterator_seek(store->context, walk->iterator, first);
        look(walk);
    }
}

static void pass(struct walk *walk, wal_shard id)
{
    if (walk->status == 0 && walk->id == id) {
        walk->status = walk->store->ops->iterator_next(walk->store->context, walk->iterator);
        look(walk);
    }
}

static void end_walk(const struct walk *walk)
{
    if (walk->iterator != NULL) {
        walk->store->ops->iterator_close(walk->store->context, walk->iterator);
    }
}

int shard_list_states(const struct env_store *store, wal_shard from, wal_shard *ids,
                      uint32_t count_max, uint32_t *count, struct error *error)
{
    struct walk states;
    struct walk staged; /* As in shard_has_state(). */
    uint32_t found = 0;
    begin_walk(&states, store, 'S', from);
    begin_walk(&staged, store, 'J', from);
    while (found < count_max && (states.status == 0 || staged.status == 0)) {
        bool is_staged = states.status != 0 || (staged.status == 0 && staged.id < states.id);
        wal_shard id = is_staged ? staged.id : states.id;
        ids[found++] = id;
        pass(&states, id);
        pass(&staged, id);
    }
    end_walk(&states);
    end_walk(&staged);
    int status = states.status != 0 && states.status != -ENOENT ? states.status : staged.status;
    if (status != 0 && status != -ENOENT) {
        return error_set(error, status, "look for shards in the store");
    }
    *count = found;
    return 0;
}

/* `rest` begins behind the header. */
static int decode_configuration(struct bytes rest, uint32_t size_bytes, struct shard_meta *meta)
{
    if (size_bytes > rest.size_bytes) {
        return ERROR_CORRUPT;
    }
    meta->saved = bytes_make(rest.data + size_bytes, rest.size_bytes - size_bytes);
    if (size_bytes == 0) {
        return 0;
    }
    return raft_configuration_decode(&meta->configuration, bytes_make(rest.data, size_bytes));
}

static int decode_range(struct bytes source, struct shard_meta *meta)
{
    meta->has_range = true;
    meta->first_slot = endian_get_u32_le(source.data + 56);
    meta->end_slot = endian_get_u32_le(source.data + 60);
    bool is_range = meta->first_slot < meta->end_slot && meta->end_slot <= SLOTS_COUNT;
    return is_range ? 0 : ERROR_CORRUPT;
}

int shard__meta_decode(struct bytes source, struct shard_meta *meta)
{
    if (source.size_bytes >= 1 && source.data[0] > META_VERSION_OF_SPLIT) {
        return ERROR_NEWER_FORMAT;
    }
    if (source.size_bytes < META_1_SIZE_BYTES || source.data[0] == 0) {
        return ERROR_CORRUPT;
    }
    *meta = (struct shard_meta){
        .is_impaired = (source.data[1] & FLAG_IMPAIRED) != 0,
        .index = endian_get_u64_le(source.data + 8),
        .term = endian_get_u64_le(source.data + 16),
        .stamp_ms = endian_get_u64_le(source.data + 24),
        .digest = endian_get_u64_le(source.data + 32),
    };
    if (source.data[0] == 1) {
        meta->saved =
            bytes_make(source.data + META_1_SIZE_BYTES, source.size_bytes - META_1_SIZE_BYTES);
        return 0;
    }
    bool is_of_split = source.data[0] == META_VERSION_OF_SPLIT;
    size_t size_bytes = is_of_split ? META_3_SIZE_BYTES : META_SIZE_BYTES;
    if (source.size_bytes < size_bytes) {
        return ERROR_CORRUPT;
    }
    int status = is_of_split ? decode_range(source, meta) : 0;
    if (status != 0) {
        return status;
    }
    meta->configuration_index = endian_get_u64_le(source.data + 40);
    struct bytes rest = bytes_make(source.data + size_bytes, source.size_bytes - size_bytes);
    return decode_configuration(rest, endian_get_u32_le(source.data + 48), meta);
}

/* Append all but what the state machine saves. */
static void encode(const struct shard_meta *meta, struct buffer *target)
{
    size_t start = target->size_bytes;
    size_t size_bytes = meta->has_range ? META_3_SIZE_BYTES : META_SIZE_BYTES;
    memset(buffer_extend(target, size_bytes), 0, size_bytes);
    if (meta->configuration.voter_count > 0) {
        raft_configuration_encode(&meta->configuration, target);
    }
    uint8_t *place = target->data + start;
    place[0] = meta->has_range ? META_VERSION_OF_SPLIT : META_VERSION;
    place[1] = meta->is_impaired ? FLAG_IMPAIRED : 0;
    endian_put_u64_le(place + 8, meta->index);
    endian_put_u64_le(place + 16, meta->term);
    endian_put_u64_le(place + 24, meta->stamp_ms);
    endian_put_u64_le(place + 32, meta->digest);
    endian_put_u64_le(place + 40, meta->configuration_index);
    endian_put_u32_le(place + 48, (uint32_t)(target->size_bytes - start - size_bytes));
    if (meta->has_range) {
        endian_put_u32_le(place + 56, meta->first_slot);
        endian_put_u32_le(place + 60, meta->end_slot);
    }
}

void shard__meta_encode(const struct shard_meta *meta, struct buffer *target)
{
    encode(meta, target);
    buffer_append(target, meta->saved);
}

void shard__meta_set_impaired(struct buffer *encoded)
{
    ASSERT(encoded->size_bytes >= META_SIZE_BYTES);
    encoded->data[1] |= FLAG_IMPAIRED;
}

void shard__meta_set_whole(struct buffer *encoded)
{
    ASSERT(encoded->size_bytes >= META_1_SIZE_BYTES);
    encoded->data[1] &= (uint8_t)~FLAG_IMPAIRED;
}

void shard__meta_append(struct shard *shard, struct buffer *target)
{
    struct shard_meta meta = {
        .is_impaired = shard->is_impaired,
        .has_range = shard->has_range,
        .first_slot = shard->range.first,
        .end_slot = shard->range.end,
        .index = shard->applied_index,
        .term = shard->applied_term,
        .stamp_ms = shard->applied_stamp_ms,
        .digest = shard->digest,
        .configuration_index = shard->configuration_index,
        .configuration = shard->configuration,
    };
    encode(&meta, target);
    shard->options.machine.save(shard->options.machine.context, target);
}

void shard__meta_store(struct shard *shard)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    shard->is_flag_stale = false;
    buffer_clear(&shard->scratch);
    shard__meta_append(shard, &shard->scratch);
    rows_put(shard->rows, shard__meta_key(shard->options.id, key), buffer_bytes(&shard->scratch));
}

struct slots_range shard__meta_range(const struct shard *shard, const struct shard_meta *meta)
{
    const struct shard_options *options = &shard->options;
    return (struct slots_range){
        .shard = options->id,
        .first = meta->has_range ? meta->first_slot : options->first_slot,
        .end = meta->has_range ? meta->end_slot : options->end_slot,
    };
}

void shard__bounds_of(const struct shard *shard, const struct slots_range *range,
                      struct buffer *lower, struct buffer *upper)
{
    shard->options.append_slot_row(range->first, lower);
    shard->options.append_slot_row(range->end, upper);
}

/* What the shard has, and what the machine has to load. */
static int take_over(struct shard *shard, const struct shard_meta *meta, struct error *error)
{
    struct shard_machine *machine = &shard->options.machine;
    shard->has_range = meta->has_range;
    if (machine->set_range != NULL) {
        machine->set_range(machine->context, shard->range.first, shard->range.end);
    }
    return machine->load(machine->context, shard->rows, meta->saved, error);
}

int shard__meta_load(struct shard *shard, struct error *error)
{
    uint8_t key[SHARD_META_KEY_SIZE_BYTES];
    struct bytes row = {0};
    struct shard_meta meta = {.configuration = shard->options.configuration};
    rows_set_tier(shard->rows, ENV_TIER_DISK);
    int status = rows_get(shard->rows, shard__meta_key(shard->options.id, key), &row);
    if (status != 0 && status != -ENOENT) {
        return error_set(error, status, "read the meta row of shard %u", shard->options.id);
    }
    buffer_clear(&shard->scratch);
    if (status == 0) {
        buffer_append(&shard->scratch, row);
        status = shard__meta_decode(buffer_bytes(&shard->scratch), &meta);
        if (status != 0) {
            return error_set(error, status, "meta row of shard %u", shard->options.id);
        }
        if (meta.configuration.voter_count == 0) {
            meta.configuration = shard->options.configuration; /* Of a node alone, version 1. */
        }
    }
    shard->stored_range = shard__meta_range(shard, &meta);
    status = shard__install_resume(shard, &meta, error);
    if (status != 0) {
        return status;
    }
    shard->range = shard__meta_range(shard, &meta);
    shard->is_narrow = meta.index == 0 && meta.has_range;
    shard->split_index = meta.has_range ? meta.index : 0; /* It was there or before. */
    shard->is_impaired = meta.is_impaired;
    shard->applied_index = meta.index;
    shard->applied_term = meta.term;
    shard->applied_stamp_ms = meta.stamp_ms;
    shard->digest = meta.digest;
    shard->configuration = meta.configuration;
    shard->configuration_index = meta.configuration_index;
    if (BUG("shard.entry_applied_twice") && shard->applied_index > 0) {
        shard->applied_index--;
    }
    if (shard->is_stateless) {
        return 0; /* When it is installed. */
    }
    return take_over(shard, &meta, error);
}
