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

enum { FILE_SIZE_BYTES_MAX = 1 << 20, FIELD_COUNT = 3, MAPS_MIN = 8 };

const struct slots *node_shards_map(const struct node_shards *shards)
{
    return atomic_load_explicit(&shards->map.newest, memory_order_acquire);
}

static void publish(struct node_map *map, const struct slots *slots)
{
    struct slots *copy = memory_allocate_zeroed(1, sizeof *copy);
    uint32_t count = atomic_load_explicit(&map->count, memory_order_relaxed);
    if (count - map->freed_count == map->kept_capacity) {
        map->kept_capacity = map->kept_capacity == 0 ? MAPS_MIN : 2 * map->kept_capacity;
        map->kept = memory_resize(map->kept, map->kept_capacity * sizeof(struct slots *));
    }
    slots_copy(copy, slots);
    map->kept[count - map->freed_count] = copy;
    atomic_store_explicit(&map->newest, copy, memory_order_release);
    /* Behind it: who sees the number finds this map, or a later one. */
    atomic_store_explicit(&map->count, count + 1, memory_order_release);
}

uint32_t node_map_add_reader(struct node_map *map)
{
    ASSERT(map->reader_count < NODE_MAP_READER_COUNT_MAX);
    return map->reader_count++;
}

void node_map_let_go(struct node_map *map, uint32_t reader)
{
    uint32_t count = atomic_load_explicit(&map->count, memory_order_acquire);
    atomic_store_explicit(&map->seen[reader], count, memory_order_release);
}

static void free_first(struct node_map *map, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        slots_deinit(map->kept[i]);
        memory_free(map->kept[i]);
    }
    map->freed_count += count;
}

void node__map_free_old(struct node_map *map)
{
    uint32_t count = atomic_load_explicit(&map->count, memory_order_relaxed);
    if (count - map->freed_count < 2) {
        return;
    }
    uint32_t seen = count;
    for (uint32_t i = 0; i < map->reader_count; i++) {
        uint32_t seen_by = atomic_load_explicit(&map->seen[i], memory_order_acquire);
        seen = seen_by < seen ? seen_by : seen;
    }
    if (seen > map->freed_count + 1) { /* Number `seen - 1` may be held. */
        uint32_t old_count = seen - 1 - map->freed_count;
        free_first(map, old_count);
        memmove(map->kept, map->kept + old_count,
                (count - map->freed_count) * sizeof(struct slots *));
    }
}

void node__map_deinit(struct node_map *map)
{
    free_first(map, atomic_load(&map->count) - map->freed_count);
    memory_free(map->kept);
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
    struct slots_range *ranges = memory_allocate(SLOTS_SHARD_COUNT_MAX * sizeof ranges[0]);
    uint32_t count = 0;
    bool is_good = true;
    while (is_good && text.size_bytes > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.size_bytes);
        size_t size = end != NULL ? (size_t)(end - text.data) : text.size_bytes;
        is_good = end != NULL && count < SLOTS_SHARD_COUNT_MAX &&
                  parse_line(bytes_make(text.data, size), &ranges[count]);
        if (is_good) {
            count++;
            text = bytes_make(text.data + size + 1, text.size_bytes - size - 1);
        }
    }
    is_good = is_good && slots_set(slots, ranges, count) == 0;
    memory_free(ranges);
    return is_good;
}

int node_map_read(const struct node_data *data, struct slots *slots, struct error *error)
{
    const char *path = node_data_path(data, NODE_FILE_MAP);
    struct buffer text = {0};
    slots_divide(slots, node_data_shard_count(data));
    int status = os_file_read(path, FILE_SIZE_BYTES_MAX, &text, error);
    if (status == 0) {
        struct slots read = {0};
        bool is_good = parse(buffer_bytes(&text), &read) && slots_descend(&read, slots) &&
                       are_numbers_small(&read);
        if (is_good) {
            slots_copy(slots, &read);
        } else {
            status =
                error_say(error, ERROR_CORRUPT,
                          "%s is damaged: remove it, and the node learns from the others which "
                          "shard has which slots",
                          path);
        }
        slots_deinit(&read);
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

bool node_map_amend(struct slots *slots, const struct slots_range *claims, uint32_t claim_count)
{
    struct slots amended = {0};
    bool does_fit = true;
    slots_copy(&amended, slots);
    for (uint32_t i = 0; i < claim_count && does_fit; i++) {
        const struct slots_range *claim = &claims[i];
        uint32_t place = slots_find(&amended, claim->shard);
        if (place < amended.range_count) {
            does_fit =
                amended.ranges[place].first == claim->first; /* Else it is another's number. */
        } else {
            wal_shard parent = slots_shard_of(&amended, claim->first);
            does_fit = slots_split(&amended, parent, claim->first, claim->shard) == 0;
        }
    }
    if (does_fit) {
        slots_copy(slots, &amended);
    }
    slots_deinit(&amended);
    return does_fit;
}

/* ---- While it serves ------------------------------------------------------------------------- */

void node__map_init(struct node_shards *shards, const struct slots *slots)
{
    publish(&shards->map, slots);
}

static void take_over(struct node_shards *shards, const struct slots *merged)
{
    publish(&shards->map, merged);
    shards->map_looked_at_ms = 0;
    save(shards, merged);
    if (shards->cluster != NULL) {
        node_versions_split(shards->cluster);
        node_conductor_tell_map(shards->cluster);
    }
}

bool node_map_adopt(struct node_shards *shards, const struct slots *other)
{
    const struct slots *known = node_shards_map(shards);
    struct slots merged = {0};
    slots_copy(&merged, known);
    bool does_fit = are_numbers_small(other) && slots_merge(&merged, other);
    if (does_fit && merged.range_count != known->range_count) {
        take_over(shards, &merged);
    }
    slots_deinit(&merged);
    return does_fit;
}

/* Is the child in the map now? */
static bool add_child(struct node_shards *shards, wal_shard parent, const struct slots_range *child)
{
    struct slots map = {0};
    slots_copy(&map, node_shards_map(shards));
    uint32_t place = slots_find(&map, child->shard);
    bool is_known = (place < map.range_count && map.ranges[place].first == child->first) ||
                    (slots_split(&map, parent, child->first, child->shard) == 0 &&
                     node_map_adopt(shards, &map));
    slots_deinit(&map);
    return is_known;
}

void node__shard_split(void *context, struct shard *shard, const struct slots_range *child)
{
    struct node_shard *parent = context;
    struct node_shards *shards = parent->host;
    ASSERT(shards->birth_count < SLOTS_SHARD_COUNT_MAX);
    shards->births[shards->birth_count++] =
        (struct node_birth){parent, shard_applied_index(shard), *child};
    OS_LOG_INFO(shards->log, "node.split",
                "shard=%" PRIu32 " child=%" PRIu32 " first_slot=%" PRIu32, parent->id, child->shard,
                child->first);
    if (!add_child(shards, parent->id, child)) {
        OS_LOG_WARN(shards->log, "node.map_differs", "shard=%" PRIu32 " child=%" PRIu32, parent->id,
                    child->shard);
    }
}
