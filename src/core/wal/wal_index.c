/* SPDX-License-Identifier: Apache-2.0 */
/* Where the live entries of each shard stand.
 *
 * Entries of a shard have consecutive indexes, so a ring of positions is enough: 8 bytes an entry.
 * A shard without live entries owns no ring: ten thousand idle shards cost about a megabyte. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "core/wal/wal_internal.h"

enum {
    OFFSET_BITS = 28, /* Of offset / 8: segments of up to 2 GiB. */
    RING_CAPACITY_MIN = 16,
    RUN_CAPACITY_MIN = 4,
    SHARD_CAPACITY_MIN = 8,
};

_Static_assert(WAL__SEGMENT_SIZE_BYTES_MAX / 8 < (1u << OFFSET_BITS), "a packed offset must fit");

static uint64_t pack(struct wal__position position)
{
    return position.sequence << OFFSET_BITS | position.offset / 8;
}

static struct wal__position unpack(uint64_t packed)
{
    return (struct wal__position){
        .sequence = packed >> OFFSET_BITS,
        .offset = (uint32_t)(packed & ((UINT64_C(1) << OFFSET_BITS) - 1)) * 8,
    };
}

/* ---- Finding shards -------------------------------------------------------------------------- */

static uint32_t slot_of(const struct wal__index *index, wal_shard id)
{
    /* Fibonacci hashing: ids are often consecutive. */
    return (uint32_t)((id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (index->slot_count - 1);
}

struct wal__shard *wal__index_find(const struct wal__index *index, wal_shard id)
{
    if (index->slot_count == 0) {
        return NULL;
    }
    uint32_t slot = slot_of(index, id);
    while (index->slots[slot] != 0) {
        struct wal__shard *shard = &index->shards[index->slots[slot] - 1];
        if (shard->id == id) {
            return shard;
        }
        slot = (slot + 1) & (index->slot_count - 1);
    }
    return NULL;
}

static void put_slot(struct wal__index *index, uint32_t place)
{
    uint32_t slot = slot_of(index, index->shards[place].id);
    while (index->slots[slot] != 0) {
        slot = (slot + 1) & (index->slot_count - 1);
    }
    index->slots[slot] = place + 1;
}

struct wal__shard *wal__index_add(struct wal__index *index, wal_shard id)
{
    ASSERT(wal__index_find(index, id) == NULL);
    if (index->shard_count == index->shard_capacity) {
        uint32_t capacity =
            index->shard_capacity == 0 ? SHARD_CAPACITY_MIN : 2 * index->shard_capacity;
        index->shards = memory_resize(index->shards, capacity * sizeof *index->shards);
        index->shard_capacity = capacity;
        /* At most half full. */
        memory_free(index->slots);
        index->slot_count = 2 * capacity;
        index->slots = memory_allocate_zeroed(index->slot_count, sizeof *index->slots);
        for (uint32_t i = 0; i < index->shard_count; i++) {
            put_slot(index, i);
        }
    }
    struct wal__shard *shard = &index->shards[index->shard_count];
    *shard = (struct wal__shard){.id = id};
    put_slot(index, index->shard_count++);
    return shard;
}

void wal__index_deinit(struct wal__index *index)
{
    for (uint32_t i = 0; i < index->shard_count; i++) {
        memory_free(index->shards[i].positions);
        memory_free(index->shards[i].runs);
        wal__shard_forget_hidden(&index->shards[i]);
    }
    memory_free(index->shards);
    memory_free(index->slots);
    *index = (struct wal__index){0};
}

/* ---- Terms ----------------------------------------------------------------------------------- */

raft_term wal__shard_term(const struct wal__shard *shard, raft_index index)
{
    for (uint32_t i = shard->run_count; i > 0; i--) {
        if (shard->runs[i - 1].index <= index) {
            return shard->runs[i - 1].term;
        }
    }
    return 0;
}

static void add_term(struct wal__shard *shard, raft_index index, raft_term term)
{
    if (shard->run_count > 0 && shard->runs[shard->run_count - 1].term == term) {
        return;
    }
    if (shard->run_count == shard->run_capacity) {
        uint32_t capacity = shard->run_capacity == 0 ? RUN_CAPACITY_MIN : 2 * shard->run_capacity;
        shard->runs = memory_resize(shard->runs, capacity * sizeof *shard->runs);
        shard->run_capacity = capacity;
    }
    shard->runs[shard->run_count++] = (struct wal__term_run){index, term};
}

/* Drop the runs that end before the entry in front of the first live one. */
static void forget_terms(struct wal__shard *shard)
{
    raft_index oldest = wal__shard_first_index(shard) - 1;
    uint32_t dead = 0;
    while (dead + 1 < shard->run_count && shard->runs[dead + 1].index <= oldest) {
        dead++;
    }
    if (dead > 0) {
        shard->run_count -= dead;
        memmove(shard->runs, shard->runs + dead, shard->run_count * sizeof *shard->runs);
    }
}

/* ---- Entries --------------------------------------------------------------------------------- */

bool wal__shard_accepts(const struct wal__shard *shard, raft_index index)
{
    if (index == shard->last_index + 1) {
        return true;
    }
    /* Entries may be skipped where the store has them. */
    return index > shard->last_index && shard->position_count == 0 &&
           (shard->last_index == 0 || index <= shard->released_index + 1);
}

static void resize_ring(struct wal__shard *shard, uint32_t capacity)
{
    uint64_t *positions = memory_allocate((size_t)capacity * sizeof *positions);
    for (uint32_t i = 0; i < shard->position_count; i++) {
        uint32_t place = (shard->position_start + i) & (shard->position_capacity - 1);
        positions[i] = shard->positions[place];
    }
    memory_free(shard->positions);
    shard->positions = positions;
    shard->position_capacity = capacity;
    shard->position_start = 0;
}

void wal__shard_push(struct wal__shard *shard, raft_index index, raft_term term,
                     struct wal__position position, bool is_live)
{
    ASSERT(wal__shard_accepts(shard, index));
    ASSERT_IF(!is_live, shard->position_count == 0);
    add_term(shard, index, term);
    shard->last_index = index;
    if (!is_live) {
        forget_terms(shard);
        return;
    }
    if (shard->position_count == shard->position_capacity) {
        resize_ring(shard, shard->position_capacity == 0 ? RING_CAPACITY_MIN
                                                         : 2 * shard->position_capacity);
    }
    uint32_t place =
        (shard->position_start + shard->position_count) & (shard->position_capacity - 1);
    shard->positions[place] = pack(position);
    shard->position_count++;
}

bool wal__shard_get(const struct wal__shard *shard, raft_index index,
                    struct wal__position *position)
{
    if (shard->position_count == 0 || index < wal__shard_first_index(shard) ||
        index > shard->last_index) {
        return false;
    }
    uint32_t ordinal = (uint32_t)(index - wal__shard_first_index(shard));
    *position = unpack(
        shard->positions[(shard->position_start + ordinal) & (shard->position_capacity - 1)]);
    return true;
}

bool wal__shard_pop_oldest(struct wal__shard *shard, struct wal__position *position)
{
    if (shard->position_count == 0) {
        return false;
    }
    *position = unpack(shard->positions[shard->position_start]);
    shard->position_start = (shard->position_start + 1) & (shard->position_capacity - 1);
    shard->position_count--;
    return true;
}

bool wal__shard_pop_newest(struct wal__shard *shard, struct wal__position *position)
{
    if (shard->position_count == 0) {
        return false;
    }
    shard->position_count--;
    shard->last_index--;
    uint32_t place =
        (shard->position_start + shard->position_count) & (shard->position_capacity - 1);
    *position = unpack(shard->positions[place]);
    return true;
}

void wal__shard_truncate(struct wal__shard *shard, raft_index index)
{
    ASSERT(index > 0);
    if (shard->last_index >= index) {
        shard->last_index = index - 1;
    }
    while (shard->run_count > 0 && shard->runs[shard->run_count - 1].index > shard->last_index) {
        shard->run_count--;
    }
}

void wal__shard_reset(struct wal__shard *shard, const struct wal__table_item *item)
{
    shard->position_count = 0;
    shard->run_count = 0;
    shard->hard_state = item->hard_state;
    shard->last_index = item->last_index;
    if (item->last_index > 0) {
        add_term(shard, item->last_index, item->last_term);
    }
}

/* ---- Hidden entries -------------------------------------------------------------------------- */

bool wal__shard_has_end(const struct wal__shard *shard, raft_index last, raft_term term)
{
    return shard->position_count > 0 && last >= wal__shard_first_index(shard) &&
           last <= shard->last_index && wal__shard_term(shard, last) == term;
}

static void *copy_of(const void *source, size_t size_bytes)
{
    return memcpy(memory_allocate(size_bytes), source, size_bytes);
}

void wal__shard_hide(struct wal__shard *shard)
{
    if (shard->position_count == 0 || shard->hidden != NULL) {
        return;
    }
    struct wal__shard *hidden = copy_of(shard, sizeof *shard);
    hidden->positions =
        copy_of(shard->positions, shard->position_capacity * sizeof shard->positions[0]);
    hidden->runs = copy_of(shard->runs, shard->run_capacity * sizeof shard->runs[0]);
    shard->hidden = hidden;
}

void wal__shard_take_hidden(struct wal__shard *shard)
{
    struct wal__shard *hidden = shard->hidden;
    memory_free(shard->positions);
    memory_free(shard->runs);
    shard->last_index = hidden->last_index;
    shard->positions = hidden->positions;
    shard->position_capacity = hidden->position_capacity;
    shard->position_start = hidden->position_start;
    shard->position_count = hidden->position_count;
    shard->runs = hidden->runs;
    shard->run_capacity = hidden->run_capacity;
    shard->run_count = hidden->run_count;
    memory_free(hidden);
    shard->hidden = NULL;
}

void wal__shard_forget_hidden(struct wal__shard *shard)
{
    if (shard->hidden != NULL) {
        memory_free(shard->hidden->positions);
        memory_free(shard->hidden->runs);
        memory_free(shard->hidden);
        shard->hidden = NULL;
    }
}

void wal__shard_shrink(struct wal__shard *shard)
{
    forget_terms(shard);
    if (shard->position_count == 0) {
        memory_free(shard->positions);
        shard->positions = NULL;
        shard->position_capacity = 0;
        shard->position_start = 0;
    } else if (shard->position_capacity > RING_CAPACITY_MIN &&
               shard->position_count <= shard->position_capacity / 4) {
        resize_ring(shard, shard->position_capacity / 2);
    }
}
