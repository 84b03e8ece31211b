/* SPDX-License-Identifier: Apache-2.0 */
/* A machine of the cluster: the wiring of src/node, with events in place of threads: the reactor's
 * ticks, the log writer's rounds, work on other threads, the store's flushes.
 *
 * A kill comes between two events. A dead node's work under way is brought to its end, because the
 * shard asks for it before it can be closed, but nobody hears what it says: calls of the host do
 * nothing then. */
#include <inttypes.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "base/trace/trace.h"
#include "sim/sim_cluster_host.h"
#include "sim/sim_cluster_stale.h"

enum {
    CACHE_SIZE_BYTES = 20000,
    STORE_DELAY_MS = 1000,
    IN_FLIGHT_SIZE_BYTES = 1 << 20,
    DISK_SIZE_BYTES = 1 << 30,
};

/* ---- Questions ------------------------------------------------------------------------------- */

bool sim__cluster_node_is_running(const struct cluster_node *node)
{
    return node->is_running && !node->is_dead;
}

uint32_t sim__cluster_node_incarnation(const struct cluster_node *node)
{
    return node->incarnation;
}

uint64_t sim__cluster_node_paused_until_us(const struct cluster_node *node)
{
    return node->paused_until_us;
}

raft_node sim__cluster_node_id(const struct cluster_node *node)
{
    return node->id;
}

struct shard *sim__cluster_node_shard(const struct cluster_node *node, uint32_t place)
{
    return sim__cluster_node_is_running(node) ? node->replicas[place].shard : NULL;
}

struct route *sim__cluster_node_route(const struct cluster_node *node)
{
    return node->route;
}

const struct kv *sim__cluster_node_kv(const struct cluster_node *node, uint32_t place)
{
    return node->replicas[place].kv;
}

struct txn *sim__cluster_node_coordinator(const struct cluster_node *node)
{
    return node->coordinator;
}

struct cluster *sim__cluster_node_cluster(const struct cluster_node *node)
{
    return node->cluster;
}

struct sim__disk *sim__cluster_node_disk(const struct cluster_node *node)
{
    return node->disk;
}

bool sim__cluster_node_is_unsure(const struct cluster_node *node, uint32_t place)
{
    return (node->unsure >> place & 1) != 0;
}

bool sim__cluster_node_is_damaged(const struct cluster_node *node)
{
    return node->is_damage_unseen || !node->is_whole;
}

bool sim__cluster_node_lacks(const struct cluster_node *node, uint32_t place)
{
    return node->is_damage_unseen || (node->lost >> place & 1) != 0;
}

void sim__cluster_node_set_damaged(struct cluster_node *node)
{
    node->is_damage_unseen = true;
}

cluster_map sim__cluster_node_map(const struct cluster_node *node)
{
    return node->map;
}

struct memstore *sim__cluster_node_store(const struct cluster_node *node)
{
    return node->memstore;
}

void sim__cluster_print_replicas(const struct cluster *cluster)
{
    for (uint32_t i = 0; i < cluster->nature.node_count * cluster->shard_count; i++) {
        const struct cluster_node *node = cluster->nodes[i / cluster->shard_count];
        uint32_t place = i % cluster->shard_count;
        const struct shard *shard = sim__cluster_node_shard(node, place);
        struct shard_statistics shown = {0};
        struct kv_statistics content = {0};
        if (shard != NULL) {
            shard_get_statistics(shard, &shown);
            kv_get_statistics(sim__cluster_node_kv(node, place), &content);
        }
        (void)fprintf(cluster->options.trace,
                      "node %u shard %u: runs=%d ready=%d term=%" PRIu64 " last=%" PRIu64
                      " applied=%" PRIu64 " stored=%" PRIu64 " locked=%" PRIu64
                      " unfinished=%" PRIu64 "\n",
                      sim__cluster_node_id(node), place + 1, shard != NULL,
                      shard != NULL && shard_is_ready(shard), shown.term, shown.last_index,
                      shown.applied_index, shown.stored_index, content.locked_key_count,
                      content.unfinished_count);
    }
}

/* ---- The reactor ----------------------------------------------------------------------------- */

static void tick(struct cluster *cluster, const struct cluster_event *event);

static void schedule_tick(struct cluster_node *node, uint64_t delay_us)
{
    struct cluster *cluster = node->cluster;
    if (sim__cluster_node_is_running(node) && cluster->now_us + delay_us < node->tick_at_us) {
        node->tick_at_us = cluster->now_us + delay_us;
        sim__cluster_schedule(cluster, delay_us, tick, node, node->tick_at_us, NULL);
    }
}

static void look_at_digest(struct cluster *cluster, uint32_t place,
                           const struct shard_statistics *statistics)
{
    if (statistics->applied_index > 0) {
        sim__cluster_oracle_digest(cluster, place, statistics->applied_index, statistics->digest);
    }
}

void sim__cluster_node_touch(struct cluster_node *node)
{
    node->is_touched = true;
}

void sim__cluster_node_note_floor(struct cluster_node *node, uint32_t place)
{
    node->replicas[place].has_floor = true;
}

/* What a step may have done; a tick follows. */
static void look(struct cluster *cluster, struct cluster_node *node)
{
    if (!sim__cluster_node_is_running(node) || cluster->is_failed) {
        return;
    }
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct shard_statistics statistics;
        if (node->replicas[i].shard == NULL) {
            continue;
        }
        shard_get_statistics(node->replicas[i].shard, &statistics);
        sim__cluster_check_repair(cluster, node, i, &statistics);
        look_at_digest(cluster, i, &statistics);
        if (statistics.role == RAFT_ROLE_LEADER) {
            sim__cluster_oracle_leader(cluster, i, statistics.term, node->id);
        }
    }
    schedule_tick(node, random_below(&cluster->random, 100));
}

void sim__cluster_node_look(struct cluster *cluster, struct cluster_node *node)
{
    sim__cluster_node_touch(node);
    look(cluster, node);
}

static void tell_route(struct cluster_node *node, struct cluster_replica *replica)
{
    raft_node leader = shard_leader(replica->shard);
    bool is_ready = shard_is_ready(replica->shard);
    if (leader != replica->told_leader || is_ready != replica->told_ready) {
        replica->told_leader = leader;
        replica->told_ready = is_ready;
        route_leader_changed(node->route, replica->place + 1);
    }
}

/* As src/node does at the end of each tick. */
static uint64_t tick_route(struct cluster_node *node)
{
    uint32_t count = node->cluster->shard_count;
    for (uint32_t i = 0; i < count; i++) {
        if (node->replicas[i].shard != NULL) {
            tell_route(node, &node->replicas[i]);
        }
    }
    uint64_t wake_at_ms = route_tick(node->route);
    for (uint32_t i = 0; i < count; i++) {
        const struct shard *shard = node->replicas[i].shard;
        bool wants_tick = shard != NULL && shard_wants_tick(shard);
        bool is_held = shard != NULL && shard_is_held(shard);
        wake_at_ms = wants_tick ? 0 : wake_at_ms;
        wake_at_ms = is_held ? number_min(wake_at_ms, pace_wake_at_ms(&node->pace)) : wake_at_ms;
    }
    return wake_at_ms;
}

/* Those that something happened to, and those whose time has come; returns when the next wants to be. */
static uint64_t tick_shards(struct cluster_node *node, uint64_t now_ms)
{
    uint64_t wake_at_ms = UINT64_MAX;
    bool are_all_touched = node->is_touched || !node->cluster->nature.do_beats_gather;
    node->is_touched = false;
    bool may_go_on = pace_tick(&node->pace, now_ms);
    for (uint32_t i = 0; may_go_on && i < node->cluster->shard_count; i++) {
        struct cluster_replica *replica = &node->replicas[i];
        replica->is_touched |= replica->shard != NULL && shard_wants_tick(replica->shard);
    }
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        struct cluster_replica *replica = &node->replicas[i];
        if (replica->shard == NULL) {
            continue;
        }
        if (are_all_touched || replica->is_touched || now_ms >= replica->wake_at_ms) {
            replica->is_touched = false;
            replica->has_floor = false;
            replica->wake_at_ms = shard_tick(replica->shard);
        }
        wake_at_ms = replica->wake_at_ms < wake_at_ms ? replica->wake_at_ms : wake_at_ms;
    }
    return wake_at_ms;
}

static void tick(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->node;
    if (event->value != node->tick_at_us) {
        return; /* An earlier one came in between. */
    }
    node->tick_at_us = UINT64_MAX;
    struct env_clock clock = sim__cluster_clock(node);
    uint64_t now_ms = clock.now_ms(clock.context);
    uint64_t wake_at_ms = tick_shards(node, now_ms);
    if (node->coordinator != NULL) {
        uint64_t own_wake_at_ms =
            sim__cluster_coordinators_tick(node, now_ms, &node->recoverer_looked_at_ms);
        wake_at_ms = own_wake_at_ms < wake_at_ms ? own_wake_at_ms : wake_at_ms;
    }
    if (cluster->nature.does_split) {
        sim__cluster_node_touch(node); /* It may ask any of them for a split. */
        uint64_t own_wake_at_ms = sim__cluster_split_tick(node, now_ms);
        wake_at_ms = own_wake_at_ms < wake_at_ms ? own_wake_at_ms : wake_at_ms;
    }
    uint64_t route_wake_at_ms = tick_route(node);
    wake_at_ms = route_wake_at_ms < wake_at_ms ? route_wake_at_ms : wake_at_ms;
    sim__cluster_beats_send(node);
    uint64_t wait_ms = wake_at_ms > now_ms ? wake_at_ms - now_ms : 0;
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct shard_statistics statistics;
        if (node->replicas[i].shard != NULL) {
            shard_get_statistics(node->replicas[i].shard, &statistics);
            look_at_digest(cluster, i, &statistics);
        }
    }
    schedule_tick(node, wait_ms > 1000 ? 1000000 : wait_ms * 1000 + 1);
}

void sim__cluster_node_receive(struct cluster *cluster, struct cluster_node *node, raft_node from,
                               uint32_t life, enum cluster_message kind, struct bytes message)
{
    if (kind == CLUSTER_MESSAGE_BEATS) {
        sim__cluster_beats_receive(node, from, message);
        look(cluster, node);
        return;
    }
    if (kind == CLUSTER_MESSAGE_CONDUCTOR) {
        sim__cluster_conductor_receive(node, from, message);
    } else if (kind != CLUSTER_MESSAGE_ROUTE) {
        sim__cluster_check_replica_understands(cluster, node, message);
        struct shard *shard = node->replicas[sim__cluster_shard_of_message(kind)].shard;
        if (shard != NULL) {
            shard_receive(shard, from, message);
        }
    } else {
        sim__cluster_check_understood(cluster, node, message);
        if (route_receive(node->route, from, life, message) != 0) {
            sim__cluster_fail(cluster, "node %u finds a message of node %u malformed", node->id,
                              from);
        }
    }
    sim__cluster_node_look(cluster, node);
}

void sim__cluster_node_unreachable(struct cluster *cluster, struct cluster_node *node,
                                   raft_node other)
{
    bool is_lost = random_chance(&cluster->random, 1, 2);
    node->thought_gone[other - 1] |=
        is_lost; /* Until it is found to be there: sim_cluster_gossip.c. */
    for (uint32_t i = 0; i < cluster->shard_count; i++) {
        struct shard *shard = node->replicas[i].shard;
        if (shard != NULL) {
            shard_unreachable(shard, other);
        }
        if (shard != NULL && is_lost) {
            shard_peer_lost(shard, other);
        }
    }
    route_peer_gone(node->route, other);
    sim__cluster_node_look(cluster, node);
}

/* ---- Start and end --------------------------------------------------------------------------- */

static void draw_members(const struct cluster *cluster, struct cluster_node *node,
                         struct raft_configuration *configuration)
{
    *configuration = (struct raft_configuration){0};
    if (cluster->nature.does_start_whole) {
        for (uint32_t i = 0; i < cluster->nature.node_count; i++) {
            configuration->voters[configuration->voter_count++] = i + 1;
        }
    } else if (node->id == 1) {
        configuration->voters[configuration->voter_count++] = 1;
    }
}

static int accept_loss(void *context, const struct wal_loss *loss, struct error *error)
{
    struct cluster_node *node = context;
    struct cluster *cluster = node->cluster;
    sim__cluster_note(cluster, "node.lost", node->id, loss->index, loss->segment);
    node->is_whole = false;
    int status = 0;
    for (uint32_t i = 0; i < cluster->shard_count && status == 0; i++) {
        bool is_lost = loss->is_of_unnamed || loss->shard == i + 1;
        node->lost |= (uint64_t)is_lost << i;
        if (is_lost && node->replicas[i].shard != NULL) {
            status = shard_accept_loss(node->replicas[i].shard, error);
        } else if (is_lost && (node->opened & UINT64_C(1) << i) != 0) {
            struct env_store store = memstore_interface(node->memstore);
            node->lost_unopened |= UINT64_C(1) << i;
            const wal_shard id = i + 1;
            status = shard_remember_losses(&store, &id, 1, error);
        }
    }
    return status;
}

int sim__cluster_open_shard(struct cluster_node *node, const struct slots_range *range,
                            struct error *error)
{
    struct cluster *cluster = node->cluster;
    const struct cluster_nature *nature = &cluster->nature;
    uint32_t place = range->shard - 1;
    struct cluster_replica *replica = &node->replicas[place];
    *replica = (struct cluster_replica){.node = node, .place = place};
    node->opened |= UINT64_C(1) << place;
    struct shard_options options = {
        .id = range->shard,
        .self = node->id,
        .store = memstore_interface(node->memstore),
        .cache_size_bytes = CACHE_SIZE_BYTES,
        .store_row_count = nature->store_row_count,
        .store_delay_ms = STORE_DELAY_MS,
        .in_flight_size_bytes_max = IN_FLIGHT_SIZE_BYTES,
        .waiting_size_bytes_max = nature->waiting_size_bytes,
        .pace = &node->pace,
        .recent_size_bytes_max = nature->recent_size_bytes,
        .window_size_bytes_max = nature->window_size_bytes,
        .piece_size_bytes = nature->piece_size_bytes,
        .early_size_bytes = nature->early_size_bytes,
        .floor_delay_ms = nature->floor_delay_ms,
        .heads_delay_ms = nature->floor_delay_ms, /* As good as any. */
        .first_slot = range->first,
        .end_slot = range->end,
        .is_child = place >= nature->shard_count,
        .append_slot_row = sim__append_slot_row,
        .election_timeout_ms = nature->election_timeout_ms,
        .heartbeat_interval_ms = nature->election_timeout_ms / CLUSTER_BEATS_PER_TIMEOUT,
        .heartbeat_phase_ms = sim__cluster_beats_phase_ms(cluster, place),
        .quiet_after_ms = nature->quiet_after_ms,
        .host = sim__cluster_host(replica),
        .random_seed =
            cluster->options.seed * 31 + node->id + 1000u * node->incarnation + 100000u * place,
    };
    if (place < nature->shard_count) {
        draw_members(cluster, node, &options.configuration);
    }
    replica->kv = kv_create_range(range->first, range->end);
    options.machine = sim__cluster_oracle_machine(cluster->oracles[place], node,
                                                  kv_machine(replica->kv), &replica->watch);
    return shard_open(&replica->shard, &options, error);
}

int sim__cluster_start_shard(struct cluster_node *node, uint32_t place, struct error *error)
{
    struct wal_shard_state state;
    bool is_known = wal_get_shard_state(node->wal, place + 1, &state);
    return shard_start(node->replicas[place].shard, is_known ? &state : NULL, error);
}

static int open_cores(struct cluster_node *node, struct error *error)
{
    const struct cluster *cluster = node->cluster;
    int status = sim__cluster_split_open(node, error);
    if (status != 0) {
        return status;
    }
    sim__recall_begin(&node->recall,
                      cluster->options.seed * 31 + node->id + 1000u * node->incarnation,
                      sim__cluster_first_needed, node);
    struct wal_options wal_options = {
        .files = sim__disk_interface(node->disk),
        .segment_size_bytes = cluster->nature.segment_size_bytes,
        .spare_size_bytes_max = 2 * cluster->nature.segment_size_bytes,
        .first_needed = sim__cluster_first_needed,
        .accept_loss = accept_loss,
        .context = node,
    };
    status = wal_open(&node->wal, &wal_options, error);
    if (status != 0) {
        return status;
    }
    node->route = sim__cluster_route_create(node, sim__cluster_clock(node));
    if (cluster->nature.shard_count > 1) {
        node->coordinator = sim__cluster_coordinator_create(node, sim__cluster_clock(node), false);
        node->recoverer = sim__cluster_coordinator_create(node, sim__cluster_clock(node), true);
        node->recoverer_looked_at_ms = 0;
        node->recoverer_next_shard = 0;
    }
    for (uint32_t i = 0; i < cluster->shard_count && status == 0; i++) {
        if (node->replicas[i].shard != NULL) {
            status = sim__cluster_start_shard(node, i, error);
        }
    }
    if (status == 0) {
        sim__cluster_split_narrow(node);
    }
    return status;
}

static void set_full(struct cluster_node *node)
{
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        if (node->replicas[i].shard != NULL) {
            shard_set_full(node->replicas[i].shard, node->is_full);
        }
    }
}

/* Is there a replica that does not go on without what its log lost? */
static bool has_refused(const struct cluster_node *node)
{
    for (uint32_t i = 0; i < node->cluster->shard_count; i++) {
        const struct shard *shard = node->replicas[i].shard;
        if (shard != NULL && !shard_is_impaired(shard)) {
            return true;
        }
    }
    return false;
}

/* In this life of it. */
static uint32_t draw_store_times(const struct cluster_node *node)
{
    struct random random;
    random_init(&random, node->cluster->options.seed ^
                             (0x73746f7265 + node->id + UINT64_C(1000) * node->incarnation));
    uint32_t times = node->cluster->nature.store_times;
    return times > 0 && random_chance(&random, 1, 2) ? times : 1;
}

void sim__cluster_node_start(struct cluster *cluster, struct cluster_node *node)
{
    ASSERT(!node->is_running);
    node->incarnation++;
    node->is_running = true;
    node->is_dead = false;
    node->is_writer_busy = false;
    node->tick_at_us = UINT64_MAX;
    node->paused_until_us = 0;
    node->pace = (struct pace){0};
    node->store_times = draw_store_times(node);
    node->clock_base_ms = random_below(&cluster->random, 1000000);
    sim__cluster_node_draw_version(cluster, node);
    sim__cluster_note(cluster, "node.start", node->id, node->incarnation, 0);
    struct error error = {0};
    int status = open_cores(node, &error);
    bool is_full = node->is_full || cluster->nature.faults.full_percent > 0;
    bool is_provoked = (status == -ENOSPC && is_full) ||
                       (status == -EIO && sim__disk_flush_error_count(node->disk) > 0);
    if (status == ERROR_CORRUPT && sim__disk_damage_count(node->disk) > 0 && has_refused(node)) {
        /* Rightly: too few others. A person brings a copy. */
        sim__cluster_note(cluster, "node.refuses", node->id, 0, 0);
        cluster->result->reported_damage_count++;
        sim__disk_repair(node->disk);
        is_provoked = true;
    }
    if (status != 0 && is_provoked && node->replicas[0].shard != NULL) {
        sim__cluster_node_kill(cluster, node, false);
        return;
    }
    node->is_damage_unseen = false;
    if (status != 0) {
        sim__cluster_fail(cluster, "node %u does not start: %s (%s)", node->id, error.message,
                          error_text(status));
        return;
    }
    set_full(node);
    sim__cluster_conductor_start(node);
    sim__cluster_note(cluster, "node.started", node->id,
                      shard_stored_index(node->replicas[0].shard), 0);
    sim__cluster_node_look(cluster, node);
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.store_flush_us),
                          sim__cluster_maintain, node, 0, NULL);
}

static void start_again(struct cluster *cluster, const struct cluster_event *event)
{
    struct cluster_node *node = event->pointer;
    if (!node->is_running && !cluster->is_failed) {
        sim__cluster_node_start(cluster, node);
    }
}

static void close_cores(struct cluster_node *node)
{
    uint32_t count = node->cluster->shard_count;
    sim__cluster_beats_forget(node);
    sim__cluster_end_jobs(node);
    sim__cluster_conductor_end(node);
    for (uint32_t i = 0; i < count; i++) {
        shard_close(node->replicas[i].shard);
        node->replicas[i].shard = NULL;
        node->replicas[i].birth_index = 0;
    }
    if (node->route != NULL) {
        route_destroy(node->route);
        node->route = NULL;
    }
    txn_destroy(node->coordinator);
    txn_destroy(node->recoverer);
    node->coordinator = node->recoverer = NULL;
    sim__cluster_clients_buried(node->cluster, node);
    sim__cluster_callers_buried(node->cluster, node);
    sim__cluster_stale_buried(node->cluster, node);
    if (node->wal != NULL) {
        wal_close(node->wal);
        node->wal = NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (node->replicas[i].kv != NULL) {
            kv_destroy(node->replicas[i].kv);
            node->replicas[i].kv = NULL;
        }
    }
    memory_free(node->queue);
    node->queue = NULL;
    node->queue_count = node->queue_capacity = 0;
    memory_free(node->round);
    node->round = NULL;
    node->round_count = 0;
}

void sim__cluster_node_kill(struct cluster *cluster, struct cluster_node *node, bool is_power_lost)
{
    sim__cluster_note(cluster, "node.killed", node->id, is_power_lost, 0);
    node->is_dead = true;
    sim__cluster_break_all(cluster, node);
    sim__cluster_clients_lost(cluster, node);
    sim__cluster_callers_lost(cluster, node);
    close_cores(node);
    node->is_running = false;
    node->paused_until_us = 0;
    if (is_power_lost) {
        cluster->result->power_loss_count++;
        sim__disk_lose_power(node->disk);
    } else {
        cluster->result->kill_count++;
        sim__disk_kill(node->disk);
    }
    memstore_lose_unflushed(node->memstore);
    sim__cluster_schedule(cluster, sim__cluster_delay(cluster, cluster->nature.stay_down_us),
                          start_again, NULL, 0, node);
}

void sim__cluster_node_pause(struct cluster *cluster, struct cluster_node *node, uint64_t for_us)
{
    node->paused_until_us = for_us > 0 ? cluster->now_us + for_us : 0;
    sim__cluster_note(cluster, "node.paused", node->id, for_us, 0);
}

static void disk_is_well(struct cluster *cluster, const struct cluster_event *event)
{
    ((struct cluster_node *)event->pointer)->disk_times = 1;
}

void sim__cluster_node_slow_disk(struct cluster *cluster, struct cluster_node *node, uint32_t times,
                                 uint64_t for_us)
{
    node->disk_times = times;
    sim__cluster_note(cluster, "node.slow_disk", node->id, times, for_us);
    if (times > 1) {
        sim__cluster_schedule(cluster, for_us, disk_is_well, NULL, 0, node);
    }
}

void sim__cluster_node_set_full(struct cluster *cluster, struct cluster_node *node, bool is_full)
{
    if (node->is_full == is_full) {
        return;
    }
    node->is_full = is_full;
    sim__cluster_note(cluster, "node.full", node->id, is_full, 0);
    sim__disk_set_full(node->disk, is_full);
    if (sim__cluster_node_is_running(node)) {
        set_full(node);
    }
}

void sim__cluster_node_fail_flush(struct cluster *cluster, struct cluster_node *node,
                                  uint32_t per_million)
{
    sim__cluster_note(cluster, "node.fail_flush", node->id, per_million, 0);
    sim__disk_fail_flush(node->disk, per_million);
}

struct cluster_node *sim__cluster_node_create(struct cluster *cluster, uint32_t place)
{
    struct cluster_node *node = memory_allocate_zeroed(1, sizeof *node);
    node->cluster = cluster;
    node->id = place + 1;
    node->disk_times = 1;
    uint32_t percent = cluster->nature.clock_rate_percent;
    if (percent > 0) {
        node->clock_rate_ppm =
            ((int32_t)random_below(&cluster->random, 2 * percent + 1) - (int32_t)percent) * 10000;
    }
    node->is_whole = true;
    list_init(&node->jobs);
    struct sim__disk_options options = {
        .capacity_bytes = DISK_SIZE_BYTES,
        .does_cache_lie = cluster->nature.does_cache_lie,
        .does_directory_reorder = cluster->nature.does_directory_reorder,
    };
    node->disk = sim__disk_create(&options, &cluster->disk_random);
    node->memstore = memstore_create(cluster->options.seed + place);
    memstore_set_faults(node->memstore, cluster->nature.faults);
    return node;
}

void sim__cluster_node_destroy(struct cluster_node *node)
{
    if (node->is_running) {
        node->is_dead = true;
        sim__cluster_clients_lost(node->cluster, node);
        sim__cluster_callers_lost(node->cluster, node);
        close_cores(node);
    }
    memstore_destroy(node->memstore);
    sim__recall_deinit(&node->recall);
    sim__disk_destroy(node->disk);
    memory_free(node);
}
