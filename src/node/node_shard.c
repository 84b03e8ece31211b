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
#include "base/number/number.h"
#include "node/node_recovery.h"
#include "service/system/system.h"

enum {
    STOP_MS = 1000, /* For what is on its way elsewhere. */
    QUIET_AFTER_MS = 300,
    QUIET_COUNT_MIN = 64,
    AWAKE_MS = 600,
};

_Static_assert(NODE_PEER_COUNT_MAX <= SHARD_NODE_COUNT_MAX, "all peers can be asked");
_Static_assert(SLOTS_COUNT == KV_SLOT_COUNT, "the slots are those of kv");

/* The part of the memory for entries that are not applied; node_shares.c has the others. */
#define IN_FLIGHT_SHARE 8
#define LOAD_SHARE 4 /* The longest value that a client may send is an eighth. */
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
    node_shard_touch(pool_read->shard);
    memory_free(pool_read);
    shard_read_done(read);
}

static int read_elsewhere(void *context, struct shard_read *read)
{
    struct node_shards *host = ((struct node_shard *)context)->host;
    if (host->stop_until_ms != 0 && os_loop_now_ms(host->loop) >= host->stop_until_ms) {
        return -EBUSY;
    }
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

static void poll_writes(void *context)
{
    struct node_shards *host = ((struct node_shard *)context)->host;
    for (struct shard_write *write; (write = node_writer_take(host->writer)) != NULL;) {
        node_shard_touch(shard_write_context(write));
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

static uint32_t list_nodes(void *context, raft_node nodes[SHARD_NODE_COUNT_MAX])
{
    struct node_cluster *cluster = ((struct node_shard *)context)->host->cluster;
    uint32_t count = 0;
    for (uint32_t i = 0; cluster != NULL && i < cluster->peer_count; i++) {
        if (node_versions_know_slots(cluster, cluster->peers[i].id)) { /* And what is asked. */
            nodes[count++] = cluster->peers[i].id;
        }
    }
    return count;
}

static bool knows_floors(void *context, raft_node node)
{
    struct node_cluster *cluster = ((struct node_shard *)context)->host->cluster;
    return cluster != NULL && node_versions_know_floors(cluster, node);
}

static void emptied(void *context, struct shard *data_shard)
{
    struct node_shard *shard = context;
    shard->stored_index = 0;
    shard->unneeded_index = 0;
    node_shard_touch(shard);
    shard->host->map_looked_at_ms = 0;
    node_maintenance_emptied(shard->host->maintenance, shard->place);
    OS_LOG_INFO(shard->host->log, "node.replica_discarded", "shard=%" PRIu32 " reason=%s",
                shard->id, "this node does not belong to its group any more");
}

static void failed(void *context, struct shard *data_shard, int status, const struct error *error)
{
    struct node_shard *shard = context;
    struct node_shards *host = shard->host;
    host->failure = *error;
    if (host->node_log != NULL) {
        const char *action = status == ERROR_CORRUPT ? node_damage_advice(host->map.data)
                                                     : "check the disk and run: tutti check";
        OS_LOG_ERROR(host->log, "node.shard_failed", "shard=%u reason=%s action=%s", shard->id,
                     error->message, action);
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

static const struct shard_host host_of_shards = {
    .clock = {.now_ms = now_ms, .wall_ms = wall_ms},
    .persist = persist,
    .read_elsewhere = read_elsewhere,
    .write_elsewhere = write_elsewhere,
    .poll_writes = poll_writes,
    .work_elsewhere = node_replica_work_elsewhere,
    .read_log = node_replica_read_log,
    .read_back = node_replica_read_back,
    .send = node_replica_send,
    .send_beat = node_beats_add,
    .run_parts = node__run_parts,
    .load_entry = load_entry,
    .load_head = load_head,
    .note_found = node__note_found,
    .recall_found = node__recall_found,
    .split = node__shard_split,
    .list_nodes = list_nodes,
    .knows_floors = knows_floors,
    .emptied = emptied,
    .failed = failed,
};

/* Heartbeats of few groups cost little, and find a leader that does not answer sooner than gossip does. */
static bool may_be_quiet(const struct node_shard *shard)
{
    return shard->id != SLOTS_FIRST_SHARD &&
           node_shards_map(shard->host)->range_count > QUIET_COUNT_MIN;
}

static int open_shard(struct node_shard *shard, const struct slots_range *range,
                      struct error *error)
{
    struct node_shards *host = shard->host;
    uint64_t seed;
    os_random_fill(&seed, sizeof seed);
    uint64_t memory = host->options->memory_size_bytes;
    struct shard_limits limits = node__shares_add(host->shares, shard->place);
    struct shard_machine data = kv_machine(shard->kv);
    struct shard_options options = {
        .id = shard->id,
        .self = host->self,
        .store = store_interface(host->store),
        .may_log_end_early = host->may_log_end_early,
        .cache_size_bytes = limits.cache_size_bytes,
        .store_size_bytes = store_batch_size_bytes(memory),
        .recent_size_bytes_max = limits.recent_size_bytes,
        .window_size_bytes_max = limits.window_size_bytes,
        .in_flight_size_bytes_max = memory / IN_FLIGHT_SHARE,
        .account = &host->account,
        .pace = &host->pace,
        .first_slot = range->first,
        .end_slot = range->end,
        .is_child = node_place_of(shard->id) >= host->map.made_count,
        .is_asked_by_host_only = host->is_lone && host->cluster == NULL,
        .append_slot_row = node_append_slot_row,
        .heartbeat_phase_ms = node_beats_phase_ms(shard->id),
        .quiet_after_ms = may_be_quiet(shard) ? QUIET_AFTER_MS : 0,
        .is_quiet_at_start = may_be_quiet(shard) && host->cluster == NULL,
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
                                      struct error *error)
{
    ASSERT(shards->count < SLOTS_SHARD_COUNT_MAX);
    struct node_shard *shard = &shards->items[shards->count];
    *shard = (struct node_shard){.host = shards, .place = shards->count, .id = range->shard};
    shard->kv = kv_create_range(range->first, range->end);
    kv_limit_answers(shard->kv, node_answer_size_bytes_max(shards->options));
    kv_limit_load(shard->kv, shards->options->memory_size_bytes / LOAD_SHARE);
    if (open_shard(shard, range, error) != 0) {
        kv_destroy(shard->kv);
        return NULL;
    }
    shard_set_full(shard->shard, shards->was_full);
    shards->by_place[node_place_of(shard->id)] = shard;
    return shard;
}

static int open_one(struct node_shards *shards, uint32_t map_count, const struct slots_range *range,
                    struct error *error)
{
    if (node__open_replica(shards, range, error) == NULL) {
        return map_count == 1 ? error->code
                              : error_wrap(error, error->code, "shard %u", range->shard);
    }
    atomic_fetch_add(&shards->count, 1);
    return 0;
}

/* Those that the cluster was made with, and then those that the store has besides. */
static int open_all(struct node_shards *shards, uint32_t map_count, struct error *error)
{
    struct slots made = {0};
    struct env_store store = store_interface(shards->store);
    int status = 0;
    slots_divide(&made, shards->map.made_count);
    for (uint32_t i = 0; i < made.range_count && status == 0; i++) {
        status = open_one(shards, map_count, &made.ranges[i], error);
    }
    slots_deinit(&made);
    wal_shard *ids = memory_allocate(SLOTS_SHARD_COUNT_MAX * sizeof ids[0]);
    uint32_t count = 0;
    if (status == 0) {
        status = shard_list_states(&store, SLOTS_FIRST_SHARD + shards->map.made_count, ids,
                                   SLOTS_SHARD_COUNT_MAX, &count, error);
    }
    for (uint32_t i = 0; i < count && status == 0; i++) {
        status = node_place_of(ids[i]) < SLOTS_SHARD_COUNT_MAX
                     ? open_one(shards, map_count, &(struct slots_range){ids[i], 0, 1}, error)
                     : error_say(error, ERROR_CORRUPT,
                                 "the store has a shard %u, above the highest number", ids[i]);
    }
    memory_free(ids);
    return status;
}

static int amend_map(struct node_shards *shards)
{
    struct slots map = {0};
    struct slots_range *claims = memory_allocate(shards->count * sizeof claims[0]);
    slots_copy(&map, node_shards_map(shards));
    for (uint32_t i = 0; i < shards->count; i++) {
        claims[i] = shard_range(shards->items[i].shard);
    }
    bool does_fit = node_map_amend(&map, claims, shards->count) && node_map_adopt(shards, &map);
    memory_free(claims);
    slots_deinit(&map);
    return does_fit ? 0 : ERROR_CORRUPT;
}

int node__open_replicas(struct node_shards *shards, struct error *error)
{
    ASSERT(shards->count == 0);
    int status = open_all(shards, node_shards_map(shards)->range_count, error);
    if (status == 0 && amend_map(shards) != 0) {
        status = error_say(error, ERROR_CORRUPT,
                           "the store has shards that do not fit what the directory tells of them");
    }
    if (status != 0) {
        node__close_replicas(shards);
    }
    return status;
}

void node__close_replicas(struct node_shards *shards)
{
    shards->touched_count = 0;
    shards->ticked_count = 0;
    shards->unpublished_count = 0;
    shards->held_count = 0;
    while (shards->count > 0) {
        struct node_shard *shard = &shards->items[atomic_fetch_sub(&shards->count, 1) - 1];
        shard_close(shard->shard);
        kv_destroy(shard->kv);
        node__loaded_free(shard);
        heap_remove(&shards->wakes, &shard->wake);
        shards->by_place[node_place_of(shard->id)] = NULL;
        shard->shard = NULL;
        shard->kv = NULL;
    }
}

void node_shard_touch(struct node_shard *shard)
{
    if (!shard->is_touched) {
        shard->is_touched = true;
        shard->host->touched[shard->host->touched_count++] = shard;
    }
}

void node_shards_touch_all(struct node_shards *shards)
{
    for (uint32_t i = 0; i < shards->count; i++) {
        node_shard_touch(&shards->items[i]);
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
    bool is_number = id >= SLOTS_FIRST_SHARD && node_place_of(id) < SLOTS_SHARD_COUNT_MAX;
    return is_number ? shards->by_place[node_place_of(id)] : NULL;
}

void node__shards_init(struct node_shards *shards)
{
    list_init(&shards->refusing);
    shards->refused = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof shards->refused[0]);
    shards->figures_mutex = os_mutex_create();
    shards->items = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof shards->items[0]);
    shards->figures = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof shards->figures[0]);
    shards->births = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof shards->births[0]);
    shards->found = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof shards->found[0]);
    node_changes_init(&shards->changes);
    struct node_shard ***lists[] = {&shards->by_place, &shards->touched, &shards->ticked,
                                    &shards->unpublished, &shards->held};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        *lists[i] = memory_allocate_zeroed(SLOTS_SHARD_COUNT_MAX, sizeof(struct node_shard *));
    }
}

void node__shards_deinit(struct node_shards *shards)
{
    node__map_deinit(&shards->map);
    node__shares_destroy(shards->shares);
    os_mutex_destroy(shards->figures_mutex);
    heap_deinit(&shards->wakes);
    memory_free(shards->items);
    memory_free(shards->figures);
    memory_free(shards->births);
    memory_free(shards->found);
    node_changes_deinit(&shards->changes);
    memory_free(shards->by_place);
    memory_free(shards->touched);
    memory_free(shards->ticked);
    memory_free(shards->unpublished);
    memory_free(shards->held);
    memory_free(shards->refused);
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
    if (shards->stop_until_ms == 0 || shards->is_idle_told) {
        return wake_at_ms;
    }
    if (is_idle(shards)) { /* What is elsewhere comes back: the threads would be waited for, too. */
        shards->is_idle_told = true;
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
    if (stored_index == shard->stored_index && stored_index == shard->unneeded_index) {
        return;
    }
    raft_index unneeded_index = number_min(stored_index, shard_needed_index(shard->shard));
    if (stored_index != shard->stored_index || unneeded_index != shard->unneeded_index) {
        shard->stored_index = stored_index;
        shard->unneeded_index = unneeded_index;
        node_maintenance_stored(shard->host->maintenance, shard->place, stored_index,
                                unneeded_index);
    }
}

static void tell_full(struct node_shards *shards, bool is_full)
{
    for (uint32_t i = 0; i < shards->count && is_full != shards->was_full; i++) {
        shard_set_full(shards->items[i].shard, is_full);
    }
    shards->was_full = is_full;
}

static void tick_one(struct node_shard *shard)
{
    struct node_shards *shards = shard->host;
    shard->is_touched = false;
    uint64_t wake_at_ms = shard_tick(shard->shard);
    if (wake_at_ms == UINT64_MAX) {
        heap_remove(&shards->wakes, &shard->wake);
    } else {
        heap_set(&shards->wakes, &shard->wake, wake_at_ms);
    }
    /* Elections and heartbeats come within that time; nothing else does in a group that is at rest. */
    bool is_awake = wake_at_ms < os_loop_now_ms(shards->loop) + AWAKE_MS;
    shards->awake_count += (uint32_t)is_awake - shard->is_awake;
    shard->is_awake = is_awake;
    node_shard_note(shard);
}

/* Those that waited for it go on when they may. */
static void keep_pace(struct node_shards *shards, uint64_t now)
{
    if (!pace_tick(&shards->pace, now)) {
        return;
    }
    for (uint32_t i = 0; i < shards->held_count; i++) {
        shards->held[i]->is_held = false;
        node_shard_touch(shards->held[i]);
    }
    shards->held_count = 0;
}

/* Those that something happened to, and those whose time has come. What happens to one meanwhile waits
 * for the next tick, unless its turn is still to come. */
static void tick_some(struct node_shards *shards, uint64_t now)
{
    for (struct heap_item *first = heap_first(&shards->wakes); first != NULL && first->key <= now;
         first = heap_first(&shards->wakes)) {
        heap_remove(&shards->wakes, first);
        node_shard_touch(CONTAINER_OF(first, struct node_shard, wake));
    }
    struct node_shard **ticked = shards->touched;
    shards->touched = shards->ticked;
    shards->ticked = ticked;
    shards->ticked_count = shards->touched_count;
    shards->touched_count = 0;
    for (uint32_t i = 0; i < shards->ticked_count; i++) {
        tick_one(ticked[i]);
    }
}

/* True: one of them wants to be ticked again at once. */
static bool look_at(struct node_shard *const *some, uint32_t count)
{
    bool wants_tick = false;
    for (uint32_t i = 0; i < count; i++) {
        struct node_shard *shard = some[i];
        tell_stored(shard);
        if (shard_wants_tick(shard->shard)) {
            wants_tick = true;
            node_shard_touch(
                shard); /* Its tick may be over, and the pace may have changed since. */
        }
        if (!shard->is_held && shard_is_held(shard->shard)) {
            shard->is_held = true;
            shard->host->held[shard->host->held_count++] = shard;
        }
    }
    return wants_tick;
}

static void tick(void *context)
{
    struct node_shards *shards = context;
    uint64_t wake_at_ms = UINT64_MAX;
    bool is_full = node_maintenance_is_full(shards->maintenance);
    node_forward_retry(shards);
    uint64_t now = os_loop_now_ms(shards->loop);
    wake_at_ms = node__look_at_map(shards, now);
    tell_full(shards, is_full);
    keep_pace(shards, now);
    tick_some(shards, now);
    node_beats_look(shards);
    if (shards->cluster != NULL) {
        uint64_t cluster_wake_at_ms = node_cluster_tick(shards->cluster, now);
        wake_at_ms = cluster_wake_at_ms < wake_at_ms ? cluster_wake_at_ms : wake_at_ms;
    }
    node_log_submit(shards->node_log);
    bool wants_tick = look_at(shards->ticked, shards->ticked_count);
    wants_tick |= look_at(shards->touched, shards->touched_count);
    node__recall_tick(shards->recall, now, is_full);
    uint64_t figures_at_ms = node__figures_tick(shards, now);
    wake_at_ms = figures_at_ms < wake_at_ms ? figures_at_ms : wake_at_ms;
    uint64_t shares_at_ms = node__shares_tick(shards->shares, now);
    wake_at_ms = shares_at_ms < wake_at_ms ? shares_at_ms : wake_at_ms;
    if (!list_is_empty(&shards->refusing)) {
        wake_at_ms = now;
    }
    if (shards->held_count > 0) {
        wants_tick |= pace_may_go_on(&shards->pace);
        wake_at_ms = number_min(wake_at_ms, pace_wake_at_ms(&shards->pace));
    }
    if (wants_tick) {
        os_loop_tick_again(shards->loop);
    }
    if (heap_first(&shards->wakes) != NULL && heap_first(&shards->wakes)->key < wake_at_ms) {
        wake_at_ms = heap_first(&shards->wakes)->key;
    }
    wake_at_ms = look_at_stop(shards, now, wake_at_ms);
    node__map_free_old(&shards->map);
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
    struct node_log_client *client = node_log_take_done(&shards->durable);
    while (client != NULL) {
        struct node_shard *shard = LIST_ITEM(client, struct node_shard, client);
        client = node_log_next_done(client);
        uint64_t sequence =
            atomic_load_explicit(&shard->client.durable_sequence, memory_order_acquire);
        if (sequence != shard->told_sequence) {
            shard->told_sequence = sequence;
            node_shard_touch(shard);
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
    shards->durable.wake = os_wake_create(loop, log_is_durable, shards);
    shards->written = os_wake_create(loop, store_has_written, shards);
    for (uint32_t i = 0; i < shards->count; i++) {
        shards->items[i].client.done = &shards->durable;
        node_shard_touch(&shards->items[i]);
        tell_stored(&shards->items[i]);
    }
    node_writer_set_wake(shards->writer, shards->written);
    os_loop_at_end_of_tick(loop, tick, shards);
    for (uint32_t i = 0; i < shards->count; i++) { /* Nobody sees the zeros from before. */
        node__figures_publish(&shards->items[i]);
        node_changes_note(&shards->changes, i);
        node__shares_note(shards->shares, i);
    }
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
        os_wake_destroy(shards->durable.wake);
        os_wake_destroy(shards->written);
    }
    node__close_replicas(shards);
    node__recall_destroy(shards->recall);
    system_destroy(shards->system);
    os_files_destroy(shards->files);
    node__shards_deinit(shards);
}
