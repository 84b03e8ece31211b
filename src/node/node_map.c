/* SPDX-License-Identifier: Apache-2.0 */
/* The map of shards as this node knows it: from the directory and the store when it starts, then from its
 * own replicas, from the rows of the cluster, and from other nodes (decision 18).
 *
 * The file `shards` has the newest map once a shard has split: lines of shard, first slot and the slot
 * behind the last one. It is no more than a help to find others: what a replica has its meta row says, and
 * a child that the store has is found there. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "node/node_recovery.h"

enum { FILE_SIZE_BYTES_MAX = 64 << 10, FIELD_COUNT = 3 };

const struct slots *node_shards_map(const struct node_shards *shards)
{
    return atomic_load_explicit(&shards->map.newest, memory_order_acquire);
}

static void publish(struct node_map *map, const struct slots *slots)
{
    struct slots *copy = memory_allocate(sizeof *copy);
    ASSERT(map->count < SLOTS_SHARD_COUNT_MAX);
    *copy = *slots;
    map->all[map->count++] = copy;
    atomic_store_explicit(&map->newest, copy, memory_order_release);
}

void node__map_deinit(struct node_map *map)
{
    while (map->count > 0) {
        memory_free((void *)(uintptr_t)map->all[--map->count]);
    }
}

static bool are_numbers_small(const struct slots *slots)
{
    for (uint32_t i = 0; i < slots->range_count; i++) {
        if (slots->ranges[i].shard > SLOTS_SHARD_COUNT_MAX) {
            return false;
        }
    }
    return true;
}

/* ---- The file -------------------------------------------------------------------------------- */

static bool parse_line(struct bytes line, struct slots_range *range)
{
    uint64_t fields[FIELD_COUNT];
    for (int i = 0; i < FIELD_COUNT; i++) {
        const uint8_t *end = memchr(line.data, ' ', line.size_bytes);
        size_t size =
            end != NULL && i + 1 < FIELD_COUNT ? (size_t)(end - line.data) : line.size_bytes;
        if (!number_parse_unsigned(bytes_make(line.data, size), &fields[i]) ||
            fields[i] > SLOTS_COUNT) {
            return false;
        }
        size_t used = size < line.size_bytes ? size + 1 : size;
        line = bytes_make(line.data + used, line.size_bytes - used);
    }
    *range = (struct slots_range){(wal_shard)fields[0], (uint32_t)fields[1], (uint32_t)fields[2]};
    return true;
}

static bool parse(struct bytes text, struct slots *slots)
{
    struct slots_range ranges[SLOTS_SHARD_COUNT_MAX];
    uint32_t count = 0;
    while (text.size_bytes > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size_bytes);
        size_t size = end != NULL ? (size_t)(end - text.data) : text.size_bytes;
        if (end == NULL || count == SLOTS_SHARD_COUNT_MAX ||
            !parse_line(bytes_make(text.data, size), &ranges[count])) {
            return false;
        }
        count++;
        text = bytes_make(text.data + size + 1, text.size_bytes - size - 1);
    }
    return slots_set(slots, ranges, count) == 0;
}

int node_map_read(const struct node_data *data, struct slots *slots, struct error *error)
{
    const char *path = node_data_path(data, NODE_FILE_MAP);
    struct buffer text = {0};
    slots_divide(slots, node_data_shard_count(data));
    int status = os_file_read(path, FILE_SIZE_BYTES_MAX, &text, error);
    if (status == 0) {
        struct slots read;
        bool is_good = parse(buffer_bytes(&text), &read) && slots_descend(&read, slots) &&
                       are_numbers_small(&read);
        if (is_good) {
            *slots = read;
        } else {
            status =
                error_say(error, ERROR_CORRUPT,
                          "%s is damaged: remove it, and the node learns from the others which "
                          "shard has which slots",
                          path);
        }
    }
    buffer_deinit(&text);
    return status == -ENOENT ? 0 : status;
}

static void save(const struct node_shards *shards, const struct slots *slots)
{
    struct buffer text = {0};
    struct error error = {0};
    for (uint32_t i = 0; i < slots->range_count; i++) {
        buffer_append_format(&text, "%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", slots->ranges[i].shard,
                             slots->ranges[i].first, slots->ranges[i].end);
    }
    int status = node_data_say_split(shards->map.data, &error);
    if (status == 0) {
        status = os_file_write(node_data_path(shards->map.data, NODE_FILE_MAP), buffer_bytes(&text),
                               &error);
    }
    if (status != 0) {
        OS_LOG_WARN(shards->log, "node.map_not_saved", "reason=%s", error.message);
    }
    buffer_deinit(&text);
}

/* ---- What the store knows -------------------------------------------------------------------- */

void node_map_amend(struct slots *slots, const struct slots_range *claims, uint32_t claim_count)
{
    for (uint32_t i = 0; i < claim_count; i++) {
        const struct slots_range *claim = &claims[i];
        if (slots_find(slots, claim->shard) == slots->range_count) {
            wal_shard parent = slots_shard_of(slots, claim->first);
            if (slots_split(slots, parent, claim->first, claim->shard) != 0) {
                continue; /* Its parent's name for these slots is older still. */
            }
        }
    }
}

int node_map_range_at_start(struct store *store, wal_shard id, uint32_t made_count,
                            struct slots_range *range, bool *does_open, struct error *error)
{
    struct slots made;
    struct env_store interface = store_interface(store);
    slots_divide(&made, made_count);
    uint32_t place = slots_find(&made, id);
    bool is_made = place < made.range_count;
    bool has_state = false;
    int status = shard_has_state(&interface, id, &has_state, error);
    *range = is_made ? made.ranges[place] : (struct slots_range){id, 0, 1};
    *does_open = is_made || has_state;
    return status;
}

/* ---- While it serves ------------------------------------------------------------------------- */

void node__map_init(struct node_shards *shards, const struct slots *slots)
{
    publish(&shards->map, slots);
}

bool node_map_adopt(struct node_shards *shards, const struct slots *other)
{
    const struct slots *known = node_shards_map(shards);
    struct slots merged = *known;
    if (!are_numbers_small(other) || !slots_merge(&merged, other)) {
        return false;
    }
    if (merged.range_count == known->range_count) {
        return true;
    }
    publish(&shards->map, &merged);
    shards->map_looked_at_ms = 0;
    save(shards, &merged);
    if (shards->cluster != NULL) {
        node_conductor_tell_map(shards->cluster);
    }
    return true;
}

void node__shard_split(void *context, struct shard *shard, const struct slots_range *child)
{
    struct node_shard *parent = context;
    struct node_shards *shards = parent->host;
    struct slots map = *node_shards_map(shards);
    bool is_known = slots_find(&map, child->shard) < map.range_count;
    ASSERT(shards->birth_count < SLOTS_SHARD_COUNT_MAX);
    shards->births[shards->birth_count++] =
        (struct node_birth){parent, shard_applied_index(shard), *child};
    OS_LOG_INFO(shards->log, "node.split",
                "shard=%" PRIu32 " child=%" PRIu32 " first_slot=%" PRIu32, parent->id, child->shard,
                child->first);
    if (!is_known && (slots_split(&map, parent->id, child->first, child->shard) != 0 ||
                      !node_map_adopt(shards, &map))) {
        OS_LOG_WARN(shards->log, "node.map_differs", "shard=%" PRIu32 " child=%" PRIu32, parent->id,
                    child->shard);
    }
}
