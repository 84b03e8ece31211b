/* SPDX-License-Identifier: Apache-2.0 */
/* The replicas' host: what a shard asks of the node, the opening of replicas, and their service on
 * reactor 0, with the log writer, the store's writer and the disk pool behind it. node_recovery.c has
 * what comes between.
 *
 * All replicas of the node are on one loop, with one log and one store. What is done for all of them
 * at each tick costs each of them a few look-ups; what is done for one that something happened to
 * costs the others nothing. */
#include <inttypes.h>
#include <unistd.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "node/node_recovery.h"
#include "service/system/system.h"

enum {
    FIGURES_INTERVAL_MS = 10,
    STOP_MS = 1000, /* For what is on its way elsewhere. */
};

_Static_assert(SLOTS_COUNT == KV_SLOT_COUNT, "the slots are those of kv");

/* Parts of the memory: hot rows; entries for replicas that lag a little; replies for those who ask
 * again; entries that are not applied. */
#define CACHE_SHARE 4
#define RECENT_SHARE 16
#define RECENT_SIZE_BYTES_MAX (64ull << 20) /* Seconds of writes; who lags more reads the log. */
#define WINDOW_SHARE 64
#define WINDOW_SIZE_BYTES_MIN (256ull << 10)
#define WINDOW_SIZE_BYTES_MAX (64ull << 20) /* The replies of 700,000 writes. */
#define IN_FLIGHT_SHARE 8

#define STORE_BATCH_SHARE 64
#define STORE_BATCH_SIZE_BYTES_MIN (1ull << 20)
#define STORE_BATCH_SIZE_BYTES_MAX (24ull << 20)

/* ---- What a shard asks of its host ----------------------------------------------------------- */

static uint64_t now_ms(void *context)
{
    return os_monotonic_ms();
}

static uint64_t wall_ms(void *context)
{
    return os_wall_clock_ms();
}

static void persist(void *context, struct shard *data_shard, const struct wal_record *record,
                    uint64_t sequence)
{
    struct node_shard *shard = context;
    struct node_shards *host = shard->host;
    if (host->node_log != NULL) {
        node_log_append(host->node_log, record, sequence, &shard->client);
        return;
    }
    wal_append(host->wal, record);
    shard->start_sequence = sequence;
}

struct pool_read {
    struct os_work work;
    struct node_shard *shard;
    struct shard_read *read;
};

static void pool_read_run(struct os_work *work)
{
    shard_read_run(LIST_ITEM(work, struct pool_read, work)->read);
}

static void pool_read_done(struct os_work *work)
{
    struct pool_read *pool_read = LIST_ITEM(work, struct pool_read, work);
    struct shard_read *read = pool_read->read;
    pool_read->shard->is_touched = true;
    memory_free(pool_read);
    shard_read_done(read);
}

static int read_elsewhere(void *context, struct shard_read *read)
{
    struct node_shards *host = ((struct node_shard *)context)->host;
    struct pool_read *pool_read = memory_allocate_zeroed(1, sizeof *pool_read);
    pool_read->shard = context;
    pool_read->read = read;
    pool_read->work.run = pool_read_run;
    pool_read->work.done = pool_read_done;
    int status = os_pool_submit(host->pool, host->loop, &pool_read->work);
    if (status != 0) {
        memory_free(pool_read);
    }
    return status;
}

static void write_elsewhere(void *context, struct shard_write *write)
{
    node_writer_submit(((struct node_shard *)context)->host->writer, write);
}

/* Which of the shards a write is of is its secret. */
static void poll_writes(void *context)
{
    struct node_shards *host = ((struct node_shard *)context)->host;
    for (struct shard_write *write; (write = node_writer_take(host->writer)) != NULL;) {
        node_shards_touch_all(host);
        shard_write_done(write);
    }
}

static int load_entry(void *context, wal_shard id, raft_index index, raft_term *term,
                      struct buffer *payload, struct error *error)
{
    struct node_shard *shard = context;
    struct node_shards *host = shard->host;
    if (host->wal == NULL) {
        return node_replica_load_entry(shard, id, index, term, payload, error);
    }
    if (atomic_load_explicit(&host->is_stop_wanted, memory_order_relaxed)) {
        return error_say(error, -ECANCELED, "stopped while the log was replayed");
    }
    atomic_fetch_add_explicit(&host->replayed_count, 1, memory_order_relaxed);
    uint64_t now = os_monotonic_ms();
    if (now - host->replay_reported_at_ms >= NODE_REPLAY_REPORT_INTERVAL_MS) {
        host->replay_reported_at_ms = now;
        struct wal_shard_state state = {0};
        (void)wal_get_shard_state(host->wal, id, &state);
        OS_LOG_INFO(host->log, "node.replaying", "entry=%" PRIu64 " last=%" PRIu64, index,
                    state.last_index);
    }
    size_t before = payload->size_bytes;
    int status = wal_read(host->wal, id, index, term, payload, error);
    host->replayed_size_bytes += payload->size_bytes - before;
    return status;
}

static int load_head(void *context, wal_shard id, raft_index index, uint32_t size_bytes,
                     raft_term *term, struct buffer *payload, struct error *error)
{
    struct node_shard *shard = context;
    if (shard->host->wal != NULL) {
        return wal_read_head(shard->host->wal, id, index, size_bytes, term, payload, error);
    }
    size_t before = payload->size_bytes; /* Of a child that is born while serving. */
    int status = node_replica_load_entry(shard, id, index, term, payload, error);
    if (status == 0 && payload->size_bytes - before > size_bytes) {
        payload->size_bytes = before + size_bytes;
    }
    return status;
}

static void failed(void *context, struct shard *data_shard, int status, const struct error *error)
{
    struct node_shard *shard = context;
    struct node_shards *host = shard->host;
    host->failure = *error;
    if (host->node_log != NULL) {
        OS_LOG_ERROR(host->log, "node.shard_failed", "shard=%u reason=%s action=%s", shard->id,
                     error->message, "check the disk and run: tutti check");
        _exit(NODE_EXIT_STORAGE);
    }
}

/* ---- Opening and closing --------------------------------------------------------------------- */

/* Three times as much is in memory at worst (seven times in a replay), and it must be a small part of a write buffer. */
static uint64_t store_batch_size_bytes(uint64_t memory_size_bytes)
{
    uint64_t share = memory_size_bytes / STORE_BATCH_SHARE;
    share = share < STORE_BATCH_SIZE_BYTES_MIN ? STORE_BATCH_SIZE_BYTES_MIN : share;
    return share < STORE_BATCH_SIZE_BYTES_MAX ? share : STORE_BATCH_SIZE_BYTES_MAX;
}

/* The shard with slot 0 has the rows of the cluster, too. */
void node_append_slot_row(uint32_t slot, struct buffer *row)
{
    uint8_t key[KV_SLOT_ROW_SIZE_BYTES];
    buffer_append(row, slot == 0             ? BYTES("\x02")
                       : slot == SLOTS_COUNT ? BYTES("\xff")
                                             : kv_slot_row(slot, key));
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static uint64_t at_least(uint64_t value, uint64_t limit)
{
    return value > limit ? value : limit;
}

uint64_t node__cache_size_bytes(uint64_t memory_size_bytes)
{
    return memory_size_bytes / CACHE_SHARE;
}

static const struct shard_host host_of_shards = {
    .clock = {.now_ms = now_ms, .wall_ms = wall_ms},
    .persist = persist,
    .read_elsewhere = read_elsewhere,
    .write_elsewhere = write_elsewhere,
    .poll_writes = poll_writes,
    .work_elsewhere = node_replica_work_elsewhere,
    .read_log = node_replica_read_log,
    .send = node_replica_send,
    .run_parts = node__run_parts,
    .load_entry = load_entry,
    .load_head = load_head,
    .split = node__shard_split,
    .failed = failed,
};

static int open_shard(struct node_shard *shard, const struct slots_range *range,
                      struct error *error)
{
    struct node_shards *host = shard->host;
    uint64_t seed;
    os_random_fill(&seed, sizeof seed);
    /* Each gets its part of the memory; what is under way at one must take a large value. */
    uint64_t memory = shard->memory_size_bytes;
    struct shard_machine data = kv_machine(shard->kv);
    struct shard_options options = {
        .id = shard->id,
        .self = host->self,
        .store = store_interface(host->store),
        .may_log_end_early = host->may_log_end_early,
        .cache_size_bytes = node__cache_size_bytes(memory),
        .store_size_bytes = store_batch_size_bytes(memory),
        .recent_size_bytes_max = at_most(memory / RECENT_SHARE, RECENT_SIZE_BYTES_MAX),
        .window_size_bytes_max =
            at_most(at_least(memory / WINDOW_SHARE, WINDOW_SIZE_BYTES_MIN), WINDOW_SIZE_BYTES_MAX),
        .in_flight_size_bytes_max = memory / IN_FLIGHT_SHARE,
        .first_slot = range->first,
        .end_slot = range->end,
        .append_slot_row = node_append_slot_row,
        .random_seed = seed,
        .machine = shard->id == SLOTS_FIRST_SHARD ? system_machine_over(host->system, &data) : data,
        .host = host_of_shards,
    };
    options.host.context = shard;
    if (host->self == NODE_FOUNDER && node_place_of(shard->id) < host->map.made_count) {
        /* Alone, until the store says otherwise. */
        options.configuration =
            (struct raft_configuration){.voter_count = 1, .voters = {NODE_FOUNDER}};
    }
    return shard_open(&shard->shard, &options, error);
}

struct node_shard *node__open_replica(struct node_shards *shards, const struct slots_range *range,
                                      uint64_t memory_size_bytes, struct error *error)
{
    ASSERT(shards->count < SLOTS_SHARD_COUNT_MAX);
    struct node_shard *shard = &shards->items[shards->count];
    *shard = (struct node_shard){.host = shards,
                                 .place = shards->count,
                                 .id = range->shard,
                                 .memory_size_bytes = memory_size_bytes};
    shard->kv = kv_create_range(range->first, range->end);
    if (open_shard(shard, range, error) != 0) {
        kv_destroy(shard->kv);
        return NULL;
    }
    return shard;
}

static int open_if_there(struct node_shards *shards, uint32_t map_count, wal_shard id,
                         struct error *error)
{
    struct slots_range range;
    bool does_open = false;
    int status = node_map_range_at_start(shards->store, id, shards->map.made_count, &range,
                                         &does_open, error);
    if (status != 0 || !does_open) {
        return status;
    }
    uint64_t memory = shards->options->memory_size_bytes / map_count;
    if (node__open_replica(shards, &range, memory, error) == NULL) {
        return map_count == 1 ? error->code : error_wrap(error, error->code, "shard %u", id);
    }
    atomic_fetch_add(&shards->count, 1);
    return 0;
}

int node__open_replicas(struct node_shards *shards, struct error *error)
{
    struct slots map = *node_shards_map(shards);
    struct slots_range claims[SLOTS_SHARD_COUNT_MAX];
    ASSERT(shards->count == 0);
    for (wal_shard id = SLOTS_FIRST_SHARD; id <= SLOTS_SHARD_COUNT_MAX; id++) {
        int status = open_if_there(shards, map.range_count, id, error);
        if (status != 0) {
            node__close_replicas(shards);
            return status;
        }
    }
    for (uint32_t i = 0; i < shards->count; i++) {
        claims[i] = shard_range(shards->items[i].shard);
    }
    node_map_amend(&map, claims, shards->count);
    if (!node_map_adopt(shards, &map)) {
        node__close_replicas(shards);
        return error_say(error, ERROR_CORRUPT,
                         "the store has shards that do not fit what the directory tells of them");
    }
    return 0;
}

void node__close_replicas(struct node_shards *shards)
{
    while (shards->count > 0) {
        struct node_shard *shard = &shards->items[atomic_fetch_sub(&shards->count, 1) - 1];
        shard_close(shard->shard);
        kv_destroy(shard->kv);
        buffer_deinit(&shard->loaded.payloads);
        shard->shard = NULL;
        shard->kv = NULL;
    }
}

void node_shards_touch_all(struct node_shards *shards)
{
    for (uint32_t i = 0; i < shards->count; i++) {
        shards->items[i].is_touched = true;
    }
}

bool node_shard_is_alone(const struct node_shard *shard)
{
    const struct raft_configuration *members = shard_configuration(shard->shard);
    return members->voter_count == 1 && members->outgoing_count == 0 &&
           members->learner_count == 0 && members->voters[0] == shard->host->self;
}

struct node_shard *node_shards_find(struct node_shards *shards, wal_shard id)
{
    uint32_t count = shards->count;
    uint32_t place = node_place_of(id); /* Where it is unless there was a split. */
    if (place < count && shards->items[place].id == id) {
        return &shards->items[place];
    }
    for (place = 0; place < count && shards->items[place].id != id; place++) {
    }
    return place < count ? &shards->items[place] : NULL;
}

/* ---- Figures --------------------------------------------------------------------------------- */

/* What a person may want to know of damage. */
static void report_repair(struct node_shard *shard, const struct shard_statistics *statistics)
{
    struct os_log *log = shard->host->log;
    if (shard->was_impaired && !statistics->is_impaired) {
        OS_LOG_INFO(log, "node.replica_whole", "shard=%" PRIu32 " applied=%" PRIu64 " state=%s",
                    shard->id, statistics->applied_index,
                    "has all again that its log lost, and votes");
    }
    shard->was_impaired = statistics->is_impaired;
    if (statistics->unreadable_count != shard->unreadable_count) {
        OS_LOG_WARN(log, "node.entry_unreadable",
                    "shard=%" PRIu32 " count=%" PRIu64 " consequence=%s action=%s", shard->id,
                    statistics->unreadable_count, "another replica gets a snapshot instead",
                    "look after the disk; run: tutti check, when the node is stopped");
        shard->unreadable_count = statistics->unreadable_count;
    }
}

static void publish_figures(struct node_shards *shards, uint64_t now)
{
    if (now - shards->figures_at_ms < FIGURES_INTERVAL_MS) {
        return;
    }
    shards->figures_at_ms = now;
    os_mutex_lock(shards->figures_mutex);
    for (uint32_t i = 0; i < shards->count; i++) {
        shard_get_statistics(shards->items[i].shard, &shards->figures[i].shard);
        kv_get_statistics(shards->items[i].kv, &shards->figures[i].kv);
    }
    os_mutex_unlock(shards->figures_mutex);
    for (uint32_t i = 0; i < shards->count; i++) { /* Only this thread writes them. */
        report_repair(&shards->items[i], &shards->figures[i].shard);
    }
}

void node_shards_get_figures(const struct node_shards *shards, uint32_t place,
                             struct node_figures *figures)
{
    os_mutex_lock(shards->figures_mutex);
    *figures = shards->figures[place];
    os_mutex_unlock(shards->figures_mutex);
}

static void add_figures(struct node_figures *sum, const struct node_figures *more)
{
    sum->kv.key_count += more->kv.key_count;
    sum->kv.expiring_key_count += more->kv.expiring_key_count;
    sum->kv.expired_key_count += more->kv.expired_key_count;
    sum->shard.last_index += more->shard.last_index;
    sum->shard.applied_index += more->shard.applied_index;
    sum->shard.stored_index += more->shard.stored_index;
    sum->shard.in_flight_size_bytes += more->shard.in_flight_size_bytes;
    sum->shard.pending_request_count += more->shard.pending_request_count;
    sum->shard.entry_count += more->shard.entry_count;
    sum->shard.command_count += more->shard.command_count;
    sum->shard.read_elsewhere_count += more->shard.read_elsewhere_count;
    sum->shard.stall_count += more->shard.stall_count;
    sum->shard.is_impaired |= more->shard.is_impaired;
    sum->shard.unreadable_count += more->shard.unreadable_count;
    sum->shard.rows.hit_count += more->shard.rows.hit_count;
    sum->shard.rows.miss_count += more->shard.rows.miss_count;
    sum->shard.rows.blocking_read_count += more->shard.rows.blocking_read_count;
    sum->shard.rows.cached_row_count += more->shard.rows.cached_row_count;
    sum->shard.rows.cached_size_bytes += more->shard.rows.cached_size_bytes;
}

void node_shards_sum_figures(const struct node_shards *shards, struct node_figures *figures)
{
    os_mutex_lock(shards->figures_mutex);
    *figures = shards->figures[0];
    for (uint32_t i = 1; i < shards->count; i++) {
        add_figures(figures, &shards->figures[i]);
    }
    os_mutex_unlock(shards->figures_mutex);
}

/* ---- Service --------------------------------------------------------------------------------- */

static bool is_idle(const struct node_shards *shards)
{
    for (uint32_t i = 0; i < shards->count; i++) {
        if (!shard_is_idle(shards->items[i].shard)) {
            return false;
        }
    }
    return true;
}

static uint64_t look_at_stop(struct node_shards *shards, uint64_t now, uint64_t wake_at_ms)
{
    if (shards->stop_until_ms == 0) {
        return wake_at_ms;
    }
    if (is_idle(shards) || now >= shards->stop_until_ms) {
        shards->stop_until_ms = 0;
        shards->idle(shards->idle_context);
        return wake_at_ms;
    }
    return now + 1;
}

void node_shards_stop(struct node_shards *shards, void (*idle)(void *context), void *context)
{
    shards->idle = idle;
    shards->idle_context = context;
    shards->stop_until_ms = os_monotonic_ms() + STOP_MS;
    os_loop_tick_again(shards->loop);
}

/* What became stored is told where the log is let go of. */
static void tell_stored(struct node_shard *shard)
{
    raft_index stored_index = shard_stored_index(shard->shard);
    if (stored_index != shard->stored_index) {
        shard->stored_index = stored_index;
        node_maintenance_stored(shard->host->maintenance, shard->place, stored_index);
    }
}

static void tick(void *context)
{
    struct node_shards *shards = context;
    uint64_t wake_at_ms = UINT64_MAX;
    bool is_full = node_maintenance_is_full(shards->maintenance);
    node_forward_retry(shards);
    uint64_t now = os_loop_now_ms(shards->loop);
    wake_at_ms = node__look_at_map(shards, now);
    for (uint32_t i = 0; i < shards->count; i++) {
        struct node_shard *shard = &shards->items[i];
        shard_set_full(shard->shard, is_full);
        shard->was_ticked = shard->is_touched || shard->wake_at_ms <= now;
        if (shard->was_ticked) {
            shard->is_touched = false;
            shard->wake_at_ms = shard_tick(shard->shard);
        }
        wake_at_ms = shard->wake_at_ms < wake_at_ms ? shard->wake_at_ms : wake_at_ms;
    }
    if (shards->cluster != NULL) {
        uint64_t cluster_wake_at_ms = node_cluster_tick(shards->cluster, now);
        wake_at_ms = cluster_wake_at_ms < wake_at_ms ? cluster_wake_at_ms : wake_at_ms;
    }
    node_log_submit(shards->node_log);
    bool wants_tick = false;
    for (uint32_t i = 0; i < shards->count; i++) {
        struct node_shard *shard = &shards->items[i];
        if (shard->was_ticked || shard->is_touched) {
            tell_stored(shard);
            wants_tick |= shard_wants_tick(shard->shard);
        }
    }
    publish_figures(shards, now);
    if (!list_is_empty(&shards->refused)) {
        wake_at_ms = now;
    }
    if (wants_tick) {
        os_loop_tick_again(shards->loop);
    }
    wake_at_ms = look_at_stop(shards, now, wake_at_ms);
    if (wake_at_ms != UINT64_MAX) {
        os_timer_start(shards->timer, wake_at_ms > now ? wake_at_ms - now : 1, 0);
    }
}

static void timer_expired(void *context)
{
    /* Waking the loop is all: the tick follows. */
}

static void log_is_durable(void *context)
{
    struct node_shards *shards = context;
    for (uint32_t i = 0; i < shards->count; i++) {
        struct node_shard *shard = &shards->items[i];
        uint64_t sequence =
            atomic_load_explicit(&shard->client.durable_sequence, memory_order_acquire);
        if (sequence != shard->told_sequence) {
            shard->told_sequence = sequence;
            shard->is_touched = true;
            shard_persisted(shard->shard, sequence);
        }
    }
}

static void store_has_written(void *context)
{
    struct node_shards *shards = context;
    poll_writes(&shards->items[0]);
}

void node_shards_attach(struct node_shards *shards, struct os_loop *loop)
{
    shards->loop = loop;
    shards->timer = os_timer_create(loop, timer_expired, shards);
    shards->durable = os_wake_create(loop, log_is_durable, shards);
    shards->written = os_wake_create(loop, store_has_written, shards);
    for (uint32_t i = 0; i < shards->count; i++) {
        shards->items[i].client.wake = shards->durable;
        shards->items[i].is_touched = true;
        tell_stored(&shards->items[i]);
    }
    node_writer_set_wake(shards->writer, shards->written);
    os_loop_at_end_of_tick(loop, tick, shards);
    publish_figures(shards, os_monotonic_ms()); /* Nobody sees the zeros from before. */
}

/* ---- The end --------------------------------------------------------------------------------- */

bool node__wait_for_store(struct node_shards *shards)
{
    struct shard_write *write = node_writer_wait(shards->writer);
    if (write != NULL) {
        shard_write_done(write);
    }
    return write != NULL;
}

/* What waited for one may begin another. */
void node__finish_writes(struct node_shards *shards)
{
    while (node__wait_for_store(shards)) {
    }
}

int node_shards_settle(struct node_shards *shards)
{
    for (uint32_t i = 0; i < shards->count; i++) {
        int status = shard_settle(shards->items[i].shard);
        while (status == -EBUSY && node__wait_for_store(shards)) {
            status = shard_settle(shards->items[i].shard);
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

void node_shards_close(struct node_shards *shards)
{
    node__finish_writes(shards);
    node_writer_set_wake(shards->writer, NULL);
    node_writer_destroy(shards->writer);
    if (shards->timer != NULL) {
        os_timer_destroy(shards->timer);
        os_wake_destroy(shards->durable);
        os_wake_destroy(shards->written);
    }
    node__close_replicas(shards);
    node__map_deinit(&shards->map);
    system_destroy(shards->system);
    os_files_destroy(shards->files);
    os_mutex_destroy(shards->figures_mutex);
    memory_free(shards->figures);
}
