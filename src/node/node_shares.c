/* SPDX-License-Identifier: Apache-2.0 */
/* Memory by need: the caches of all replicas share one part of --memory, and what they keep for those who
 * lag or ask again others of it (core/shares). Once a second it is looked who was asked how often, and
 * who has too little. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "core/shares/shares.h"
#include "node/node_recovery.h"

enum {
    INTERVAL_MS = 1000,
    TRIM_STEP_COUNT = 4096, /* Slots of a cache that are looked at in a tick: some 50 µs. */
};

/* Parts of the memory: hot rows; entries for replicas that lag a little; replies for those who ask
 * again. */
#define CACHE_SHARE 4
#define CACHE_FLOOR_SIZE_BYTES_MAX (4ull << 20)
#define RECENT_SHARE 16
#define RECENT_SIZE_BYTES_MAX (64ull << 20) /* Seconds of writes; who lags more reads the log. */
#define WINDOW_SHARE 64
/* The replies of 170,000 writes; a few thousand are all that is kept while gateways say what
 * they need no more. One that is cut off for long may have some ten thousand in doubt. */
#define WINDOW_SIZE_BYTES_MAX (16ull << 20)
#define WINDOW_SIZE_BYTES_MIN (256ull << 10)
#define WINDOW_FLOOR_SIZE_BYTES_MIN (16ull << 10)

struct node_shares {
    struct node_shards *shards;
    struct shares *shares;
    uint64_t cache_size_bytes;
    uint64_t recent_size_bytes;
    uint64_t window_size_bytes;
    uint64_t settle_at_ms;
    struct node_changes changed;  /* Whose figures were published since the last round. */
    struct node_changes trimming; /* Those that have more than they may. */
    uint64_t *request_counts;     /* By place, as of the last round; */
    uint64_t *evicted_counts;
};

struct node_shares *node__shares_create(struct node_shards *shards)
{
    uint64_t memory = shards->options->memory_size_bytes;
    struct node_shares *created = memory_allocate_zeroed(1, sizeof *created);
    created->shards = shards;
    created->cache_size_bytes = memory / CACHE_SHARE;
    created->recent_size_bytes = number_min(memory / RECENT_SHARE, RECENT_SIZE_BYTES_MAX);
    created->window_size_bytes =
        number_min(number_max(memory / WINDOW_SHARE, WINDOW_SIZE_BYTES_MIN), WINDOW_SIZE_BYTES_MAX);
    created->shares = shares_create(&(struct shares_options){
        .budget_size_bytes = created->cache_size_bytes,
        .floor_size_bytes_max = CACHE_FLOOR_SIZE_BYTES_MAX,
        .member_count_max = SLOTS_SHARD_COUNT_MAX,
    });
    created->request_counts = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof(uint64_t));
    created->evicted_counts = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof(uint64_t));
    node_changes_init(&created->changed);
    node_changes_init(&created->trimming);
    return created;
}

void node__shares_destroy(struct node_shares *shares)
{
    if (shares != NULL) {
        shares_destroy(shares->shares);
        node_changes_deinit(&shares->changed);
        node_changes_deinit(&shares->trimming);
        memory_free(shares->request_counts);
        memory_free(shares->evicted_counts);
        memory_free(shares);
    }
}

/* What else there is follows the cache, but for half of the windows: a shard whose few keys need no
 * cache may be the one with the most writes. */
static struct shard_limits limits_of(const struct node_shares *shares, uint64_t limit_size_bytes)
{
    uint32_t count = shares->shards->count + 1;
    uint64_t half = shares->window_size_bytes / 2;
    double part = (double)limit_size_bytes / (double)shares->cache_size_bytes;
    return (struct shard_limits){
        .cache_size_bytes = limit_size_bytes,
        .recent_size_bytes = (uint64_t)((double)shares->recent_size_bytes * part),
        .window_size_bytes =
            number_max(half / count + (uint64_t)((double)half * part), WINDOW_FLOOR_SIZE_BYTES_MIN),
    };
}

struct shard_limits node__shares_add(struct node_shares *shares, uint32_t place)
{
    if (place < shares_count(shares->shares)) { /* Replicas were closed since. */
        return limits_of(shares, shares_limit(shares->shares, place));
    }
    uint32_t number = shares_add(shares->shares);
    ASSERT(number == place);
    return limits_of(shares, shares_limit(shares->shares, number));
}

static void set_limit(void *context, uint32_t place, uint64_t limit_size_bytes)
{
    struct node_shares *shares = context;
    struct shard_limits limits = limits_of(shares, limit_size_bytes);
    shard_set_limits(shares->shards->items[place].shard, &limits);
    node_changes_note(&shares->trimming, place);
}

void node__shares_divide(struct node_shares *shares)
{
    for (uint32_t place = 0; place < shares_count(shares->shares); place++) {
        shares_note(shares->shares, place, 0, 0, true);
    }
    shares_settle(shares->shares, set_limit, shares);
}

void node__shares_note(struct node_shares *shares, uint32_t place)
{
    node_changes_note(&shares->changed, place);
}

static void note_changed(struct node_shares *shares, uint32_t place)
{
    const struct rows_statistics *rows = &shares->shards->figures[place].shard.rows;
    uint64_t requests = rows->hit_count + rows->miss_count;
    uint64_t before = shares->request_counts[place];
    uint64_t limit = shares_limit(shares->shares, place);
    /* It had better have more before it has to let go of anything. Counters begin anew with a
     * snapshot's rows. */
    bool is_short = rows->evicted_count > shares->evicted_counts[place] ||
                    rows->cached_size_bytes > limit - limit / 4;
    shares_note(shares->shares, place, rows->cached_size_bytes,
                requests < before ? requests : requests - before, is_short);
    shares->request_counts[place] = requests;
    shares->evicted_counts[place] = rows->evicted_count;
    if (rows->cached_size_bytes > limit) {
        node_changes_note(&shares->trimming, place);
    }
}

static void settle(struct node_shares *shares)
{
    struct node_changes *changed = &shares->changed;
    uint32_t place;
    while (node_changes_take(changed, &place)) {
        note_changed(shares, place);
    }
    shares_settle(shares->shares, set_limit, shares);
}

/* Little by little, so that nobody waits for it. True: there is more to do. */
static bool trim(struct node_shares *shares)
{
    struct node_changes *trimming = &shares->trimming;
    if (trimming->count == 0) {
        return false;
    }
    uint32_t place = trimming->places[trimming->count - 1];
    struct node_shard *shard = &shares->shards->items[place];
    if (!shard_trim(shard->shard, TRIM_STEP_COUNT)) {
        trimming->is_noted[place] = false;
        trimming->count--;
        node_shard_note(shard); /* So that its figures are published. */
    }
    return true;
}

uint64_t node__shares_tick(struct node_shares *shares, uint64_t now_ms)
{
    if (now_ms >= shares->settle_at_ms) {
        shares->settle_at_ms = now_ms + INTERVAL_MS;
        settle(shares);
    }
    bool is_idle = shares->changed.count == 0 && shares->trimming.count == 0;
    return trim(shares) ? now_ms + 1 : is_idle ? UINT64_MAX : shares->settle_at_ms;
}
