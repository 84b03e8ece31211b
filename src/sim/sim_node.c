/* SPDX-License-Identifier: Apache-2.0 */
/* The wiring of the node, as src/node does it with threads, here with events: the reactor that
 * ticks, the log writer and its rounds, reads elsewhere, the store's flushes and the release of the
 * log behind them.
 *
 * A kill can come between two events or within a call: from then on every call of the environment
 * fails without effect, and what the cores still do is ignored, as nobody hears a dead process.
 * When the call stack is empty again the instance is buried: cores closed, unflushed rows lost, and
 * with the power also the unflushed part of the disk. */
#include <inttypes.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_node.h"

enum {
    KILL_COUNT_MAX = 40,
    DAMAGE_COUNT_MAX = 4,
    STORE_DELAY_MS = 1000,
    KILL_CALL_COUNT_MAX = 128,
};

/* ---- Dying ----------------------------------------------------------------------------------- */

bool sim__node_is_alive(const struct sim__node *node)
{
    return node != NULL && node->is_running && !node->is_dead;
}

void sim__node_die(struct sim__node *node, bool is_power_lost, const char *how)
{
    if (!node->is_dead) {
        node->is_dead = true;
        node->is_power_lost = is_power_lost;
        sim__note(node->sim, how, is_power_lost, 0, 0);
    }
}

/* Count a call of the environment; the one that the countdown ends at is the last. */
bool sim__node_touch(void *context, const char *operation)
{
    struct sim *sim = context;
    struct sim__node *node = sim->node;
    node->died_in_this_call = false;
    if (node->is_dead) {
        return false;
    }
    if (node->calls_to_live > 0 && --node->calls_to_live == 0) {
        node->died_in_this_call = true;
        sim__note(sim, operation, 0, 0, 0);
        sim__node_die(node, node->is_kill_power_loss, "node.killed_in_call");
        return false;
    }
    return true;
}

static bool dies_now(void *context)
{
    const struct sim *sim = context;
    return sim->node->died_in_this_call && !sim->node->is_kill_power_loss;
}

static void arm_kill(struct sim *sim)
{
    struct sim__node *node = sim->node;
    node->is_kill_power_loss = sim__percent(sim, sim->nature.power_percent);
    /* Soon or later, so that each call of a recovery has its turn. */
    uint64_t bound = KILL_CALL_COUNT_MAX >> random_below(&sim->random, 6);
    node->calls_to_live = 1 + (uint32_t)random_below(&sim->random, bound);
}

/* ---- What the shard asks of its host --------------------------------------------------------- */

static void host_persist(void *context, struct shard *shard, const struct wal_record *record,
                         uint64_t sequence)
{
    (void)shard;
    struct sim__node *node = context;
    if (node->queue_count == node->queue_capacity) {
        node->queue_capacity = node->queue_capacity == 0 ? 16 : node->queue_capacity * 2;
        node->queue = memory_resize(node->queue, node->queue_capacity * sizeof node->queue[0]);
    }
    node->queue[node->queue_count++] = (struct sim__item){*record, sequence};
    if (!node->is_rehearsal && !node->is_writer_busy) {
        node->is_writer_busy = true;
        sim__schedule(node->sim, sim__delay(node->sim, node->sim->nature.disk_us / 10 + 1),
                      SIM__EVENT_WRITER, node->incarnation, SIM__WRITER_GATHER, NULL);
    }
}

static int host_read_elsewhere(void *context, struct shard_read *read)
{
    struct sim__node *node = context;
    struct sim *sim = node->sim;
    if (node->is_dead || node->is_rehearsal || node->read_count >= sim->nature.read_limit ||
        sim__percent(sim, sim->nature.read_busy_percent)) {
        return -EBUSY;
    }
    struct sim__read *job = memory_allocate_zeroed(1, sizeof *job);
    job->read = read;
    job->model = sim__oracle_keep(sim);
    list_push_back(&node->reads, &job->link);
    node->read_count++;
    sim__schedule(sim, sim__delay(sim, sim->nature.disk_us), SIM__EVENT_READ, node->incarnation, 0,
                  job);
    return 0;
}

static int host_load_entry(void *context, wal_shard shard, raft_index index, raft_term *term,
                           struct buffer *payload, struct error *error)
{
    struct sim__node *node = context;
    return wal_read(node->wal, shard, index, term, payload, error);
}

static int host_load_head(void *context, wal_shard shard, raft_index index, uint32_t size_bytes,
                          raft_term *term, struct buffer *payload, struct error *error)
{
    struct sim__node *node = context;
    return wal_read_head(node->wal, shard, index, size_bytes, term, payload, error);
}

static void host_note_found(void *context, const struct recall_entry *entry)
{
    struct sim__node *node = context;
    if (sim__node_is_alive(node) && !node->is_rehearsal) {
        sim__recall_note(&node->recall, entry);
    }
}

/* A rehearsal looks everything up, and must come to the same. */
static bool host_recall_found(void *context, struct recall_entry *entry)
{
    struct sim__node *node = context;
    return !node->is_rehearsal && sim__recall_find(&node->recall, entry);
}

static void host_failed(void *context, struct shard *shard, int status, const struct error *error)
{
    (void)shard;
    struct sim__node *node = context;
    if (sim__node_is_alive(node) || node->is_rehearsal) {
        sim__fail(node->sim, "the shard failed: %s (%s)", error->message, error_text(status));
    }
}

static raft_index first_needed(void *context, wal_shard shard)
{
    const struct sim__node *node = context;
    return shard == SIM__SHARD ? shard_stored_index(node->shard) + 1 : 1;
}

/* ---- Start and end --------------------------------------------------------------------------- */

static struct shard_options shard_options_of(struct sim__node *node, struct shard_machine machine)
{
    struct sim *sim = node->sim;
    return (struct shard_options){
        .id = SIM__SHARD,
        .self = 1,
        .store = sim__store_interface(sim, node->memstore),
        .cache_size_bytes = sim->nature.cache_size_bytes,
        .store_row_count = sim->nature.store_row_count,
        .store_delay_ms = STORE_DELAY_MS,
        .in_flight_size_bytes_max = sim->nature.in_flight_size_bytes,
        .end_slot = SLOTS_COUNT,
        .append_slot_row = sim__append_slot_row,
        .configuration = {.voter_count = 1, .voters = {1}},
        .may_log_end_early = sim->nature.log_flush_us > 0,
        .machine = machine,
        .host = {.context = node,
                 .clock = sim__clock(sim),
                 .persist = host_persist,
                 .read_elsewhere = host_read_elsewhere,
                 .write_elsewhere = sim__store_write_elsewhere,
                 .load_entry = host_load_entry,
                 .load_head = host_load_head,
                 .note_found = host_note_found,
                 .recall_found = host_recall_found,
                 .failed = host_failed},
        .random_seed = sim->options.seed + node->incarnation,
    };
}

/* Open store, shard and log, and begin. On failure what was opened stays for
 * sim__node_close_cores(). */
int sim__node_open_shard(struct sim__node *node, bool is_watched, struct error *error)
{
    struct sim *sim = node->sim;
    node->kv = kv_create();
    struct shard_machine machine = kv_machine(node->kv);
    if (is_watched) {
        machine = sim__oracle_machine(sim->oracle, machine);
    }
    struct shard_options options = shard_options_of(node, machine);
    int status = shard_open(&node->shard, &options, error);
    if (status == 0 && is_watched) {
        sim__oracle_started(sim, shard_stored_index(node->shard));
    }
    return status;
}

int sim__node_open_log(struct sim__node *node, bool is_read_only, struct error *error)
{
    const struct sim__nature *nature = &node->sim->nature;
    struct wal_options options = {
        .files = sim__disk_interface(node->disk),
        .segment_size_bytes = nature->segment_size_bytes,
        .spare_size_bytes_max = nature->spare_size_bytes,
        .is_read_only = is_read_only,
        .first_needed = first_needed,
        .context = node,
    };
    return wal_open(&node->wal, &options, error);
}

int sim__node_open_cores(struct sim__node *node, bool is_watched, struct error *error)
{
    int status = sim__node_open_shard(node, is_watched, error);
    if (status == 0) {
        status = sim__node_open_log(node, false, error);
    }
    if (status != 0) {
        return status;
    }
    if (!node->is_rehearsal) {
        sim__recall_begin(&node->recall, node->sim->options.seed * 31 + node->incarnation,
                          first_needed, node);
    }
    struct wal_shard_state state;
    bool is_known = wal_get_shard_state(node->wal, SIM__SHARD, &state);
    return shard_start(node->shard, is_known ? &state : NULL, error);
}

void sim__node_close_cores(struct sim__node *node)
{
    shard_close(node->shard);
    node->shard = NULL;
    if (node->wal != NULL) {
        wal_close(node->wal);
        node->wal = NULL;
    }
    if (node->kv != NULL) {
        kv_destroy(node->kv);
        node->kv = NULL;
    }
    node->queue_count = 0;
    memory_free(node->round);
    node->round = NULL;
    node->round_count = 0;
}

static void job_free(struct sim__read *job)
{
    if (job->model != NULL) {
        sim__model_deinit(job->model);
        memory_free(job->model);
    }
    memory_free(job);
}

/* Reads under way end before the shard does; nobody hears them. */
static void drop_reads(struct sim__node *node)
{
    while (!list_is_empty(&node->reads)) {
        struct sim__read *job = LIST_ITEM(list_pop_front(&node->reads), struct sim__read, link);
        if (!job->was_run) {
            shard_read_run(job->read);
        }
        shard_read_done(job->read);
        job_free(job);
    }
    node->read_count = 0;
}

/* What waited for one may begin another. */
static void drop_writes(struct sim__node *node)
{
    while (node->write != NULL) {
        sim__store_finish_write(node);
    }
}

static void bury(struct sim *sim)
{
    struct sim__node *node = sim->node;
    ASSERT(node->is_dead);
    drop_reads(node);
    drop_writes(node);
    sim__node_close_cores(node);
    node->is_running = false;
    node->is_ready = false;
    node->calls_to_live = 0;
    if (node->is_power_lost) {
        node->may_lack_entries = true;
        sim->result->power_loss_count++;
        sim__disk_lose_power(sim->disk);
    } else {
        sim->result->kill_count++;
        sim__disk_kill(sim->disk);
    }
    if (node->is_stopped) {
        memstore_flush(sim->memstore);
        node->is_stopped = false;
    } else {
        memstore_lose_unflushed(sim->memstore);
    }
    sim__clients_lost(sim);
    sim__oracle_lost(sim);
    uint64_t delay = random_chance(&sim->random, 1, 2) ? 1 : sim__delay(sim, 100000);
    sim__schedule(sim, delay, SIM__EVENT_START, 0, 0, NULL);
}

/* ---- Starting -------------------------------------------------------------------------------- */

/* Damage is found or does not matter; it is never a reason to lose anything. */
static void damage(struct sim *sim)
{
    bool was_repaired = sim->node->was_repaired;
    sim->node->was_repaired = false;
    if (was_repaired || sim->is_ending || sim__disk_damage_count(sim->disk) >= DAMAGE_COUNT_MAX ||
        !sim__percent(sim, sim->nature.damage_percent)) {
        return;
    }
    enum sim__damage kind =
        random_chance(&sim->random, 1, 2) ? SIM__DAMAGE_ROT : SIM__DAMAGE_ASTRAY;
    if (sim__disk_damage(sim->disk, kind)) {
        sim->result->damage_count++;
        sim__note(sim, "disk.damaged", kind, 0, 0);
    }
}

static bool has_little_space(const struct sim *sim)
{
    return sim->nature.capacity_bytes < 1u << 30;
}

static void start_failed(struct sim *sim, int status, const struct error *error)
{
    struct sim__node *node = sim->node;
    sim__note(sim, "node.start_failed", (uint64_t)-status, 0, 0);
    if (sim->options.trace != NULL) {
        (void)fprintf(sim->options.trace, "             %s\n", error->message);
    }
    if (status == ERROR_CORRUPT && sim__disk_damage_count(sim->disk) > 0) {
        sim->result->reported_damage_count++;
        sim__disk_repair(sim->disk);
        node->was_repaired =
            true; /* So the next start succeeds, or the log saw what is not there. */
    } else if (!(status == -ENOSPC && (node->is_full || has_little_space(sim))) &&
               !(status == -EIO && sim__disk_flush_error_count(sim->disk) > 0)) {
        sim__fail(sim, "the node does not start: %s (%s)", error->message, error_text(status));
    }
    node->may_lack_entries = true; /* A flush that failed may have cost the log its end. */
    sim__node_die(node, false, "node.exited");
}

/* Where answers come before flushes, the end of the log may be gone, but nothing that was flushed:
 * what is left is a prefix of the order. */
static void accept_loss(struct sim *sim)
{
    struct sim__node *node = sim->node;
    struct wal_shard_state state = {0};
    (void)wal_get_shard_state(node->wal, SIM__SHARD, &state);
    raft_index stored = shard_stored_index(node->shard);
    raft_index left = state.last_index > stored ? state.last_index : stored;
    if (sim->nature.log_flush_us > 0 && node->may_lack_entries) {
        if (state.last_index < stored) {
            PROBE("sim.log_ends_before_store");
        }
        if (left < node->durable_index) {
            sim__fail(sim, "the log had been flushed up to %" PRIu64 ", and %" PRIu64 " is left",
                      node->durable_index, left);
        }
        sim__oracle_forget(sim, left);
        node->written_index = left;
    }
    node->durable_index = node->written_index;
}

static void start(struct sim *sim)
{
    struct sim__node *node = sim->node;
    ASSERT(!node->is_running);
    node->incarnation++;
    node->is_running = true;
    node->is_dead = false;
    node->is_writer_busy = false;
    node->is_alarm_set = false;
    node->has_unflushed = false;
    node->flushed_at_us = sim->now_us;
    node->release_index = 0;
    node->is_store_behind = false;
    node->tick_at_us = UINT64_MAX;
    node->disk = sim->disk;
    node->memstore = sim->memstore;
    damage(sim);
    if (node->is_power_lost || random_chance(&sim->random, 1, 4)) {
        sim__clock_boot(sim);
    }
    if (!sim->is_ending && random_chance(&sim->random, 1, 4)) {
        sim__clock_jump(sim);
    }
    sim__rehearse(sim);
    bool may_kill =
        !sim->is_ending && sim->result->kill_count + sim->result->power_loss_count < KILL_COUNT_MAX;
    if (may_kill && sim__percent(sim, sim->nature.recovery_kill_percent)) {
        arm_kill(sim);
    }
    sim__note(sim, "node.start", node->incarnation, 0, 0);
    struct error error = {0};
    int status = sim__node_open_cores(node, true, &error);
    if (node->is_dead) {
        return;
    }
    if (status != 0) {
        start_failed(sim, status, &error);
        return;
    }
    accept_loss(sim);
    shard_set_full(node->shard, node->is_full);
    sim__note(sim, "node.started", shard_stored_index(node->shard), 0, 0);
    sim__node_wake(sim);
    sim__schedule(sim, sim__delay(sim, sim->nature.store_flush_us), SIM__EVENT_STORE,
                  node->incarnation, 0, NULL);
}

/* ---- The reactor ----------------------------------------------------------------------------- */

/* After each call into the shard. */
void sim__node_look_at_shard(struct sim *sim)
{
    struct sim__node *node = sim->node;
    if (!sim__node_is_alive(node)) {
        return;
    }
    struct shard_statistics statistics;
    shard_get_statistics(node->shard, &statistics);
    sim__oracle_digest(sim, statistics.applied_index, statistics.digest);
    if (!node->is_ready && shard_is_ready(node->shard)) {
        node->is_ready = true;
        node->may_lack_entries = false;
        sim__note(sim, "node.ready", statistics.applied_index, statistics.term, 0);
        if (statistics.term <= node->newest_term) {
            sim__fail(sim, "term %" PRIu64 " is led twice", statistics.term);
        }
        node->newest_term = statistics.term;
        sim__rehearsal_compare(sim);
        sim__oracle_ready(sim);
        sim__clients_ready(sim);
        /* What was cut is overwritten by the first writes of a life: end it before the next. */
        if (sim__percent(sim, sim->nature.ready_kill_percent)) {
            sim__schedule(sim, sim__delay(sim, sim->nature.disk_us), SIM__EVENT_KILL,
                          node->incarnation, 0, NULL);
        }
    }
}

static void schedule_tick(struct sim *sim, uint64_t delay_us)
{
    struct sim__node *node = sim->node;
    if (sim->now_us + delay_us < node->tick_at_us) {
        node->tick_at_us = sim->now_us + delay_us;
        sim__schedule(sim, delay_us, SIM__EVENT_TICK, node->incarnation, node->tick_at_us, NULL);
    }
}

void sim__node_wake(struct sim *sim)
{
    if (sim__node_is_alive(sim->node)) {
        schedule_tick(sim, random_below(&sim->random, 100));
    }
}

static void tick(struct sim *sim, const struct sim__event *event)
{
    struct sim__node *node = sim->node;
    if (event->value != node->tick_at_us) {
        return; /* An earlier one came in between. */
    }
    node->tick_at_us = UINT64_MAX;
    uint64_t wake_at_ms = shard_tick(node->shard);
    sim__node_look_at_shard(sim);
    if (sim__node_is_alive(node)) {
        uint64_t now_ms = sim__clock(sim).now_ms(sim);
        uint64_t wait_ms = wake_at_ms > now_ms ? wake_at_ms - now_ms : 0;
        schedule_tick(sim, wait_ms > 1000 ? 1000000 : wait_ms * 1000 + 1);
    }
}

static void run_read(struct sim *sim, const struct sim__event *event)
{
    struct sim__read *job = event->pointer;
    if (event->kind == SIM__EVENT_READ) {
        sim__oracle_use(sim, job->model);
        shard_read_run(job->read);
        sim__oracle_use(sim, NULL);
        job->was_run = true;
        sim__schedule(sim, random_below(&sim->random, 200), SIM__EVENT_READ_DONE,
                      sim->node->incarnation, 0, job);
        return;
    }
    list_remove(&job->link);
    sim->node->read_count--;
    shard_read_done(job->read);
    job_free(job);
    sim__node_look_at_shard(sim);
    sim__node_wake(sim);
}

/* ---- The store's maintenance ----------------------------------------------------------------- */

static void maintain(struct sim *sim, uint64_t stage)
{
    struct sim__node *node = sim->node;
    if (stage == 0) {
        /* What is applied when the flush begins is in it; what comes meanwhile may be. Now and then
         * a store flushes for reasons of its own, and the log is not told. */
        node->flush_index = random_chance(&sim->random, 1, 4) ? 0 : shard_stored_index(node->shard);
        if (BUG("node.log_released_before_store_flush") && node->flush_index > 0) {
            node->release_index = node->flush_index;
        }
        sim__schedule(sim, sim__delay(sim, sim->nature.disk_us * 4), SIM__EVENT_STORE,
                      node->incarnation, 1, NULL);
        return;
    }
    memstore_flush(sim->memstore);
    if (node->flush_index > 0) {
        node->release_index = node->flush_index;
        sim__note(sim, "store.flushed", node->flush_index, 0, 0);
        if (!node->is_writer_busy) {
            node->is_writer_busy = true;
            sim__writer_next(sim, sim->nature.disk_us / 10, SIM__WRITER_GATHER);
        }
    }
    sim__schedule(sim, sim__delay(sim, sim->nature.store_flush_us), SIM__EVENT_STORE,
                  node->incarnation, 0, NULL);
}

static void change_space(struct sim *sim, bool is_full)
{
    struct sim__node *node = sim->node;
    if (sim->is_ending) {
        is_full = false;
    }
    node->is_full = is_full;
    sim__disk_set_full(sim->disk, is_full);
    sim__note(sim, "disk.full", is_full, 0, 0);
    if (sim__node_is_alive(node) && node->shard != NULL) {
        shard_set_full(node->shard, is_full);
    }
    uint64_t mean_us = is_full ? 30000 : sim->nature.full_every_us;
    if (!sim->is_ending) {
        sim__schedule(sim, sim__delay(sim, mean_us), SIM__EVENT_SPACE, 0, !is_full, NULL);
    }
}

/* ---- Events ---------------------------------------------------------------------------------- */

static void kill_event(struct sim *sim, const struct sim__event *event)
{
    struct sim__node *node = sim->node;
    /* So many that no life is long enough to get anywhere would make a run that does not end. */
    if (sim->is_ending ||
        sim->result->kill_count + sim->result->power_loss_count >= KILL_COUNT_MAX) {
        return;
    }
    bool is_meant = event->incarnation == 0 || event->incarnation == node->incarnation;
    if (is_meant && sim__node_is_alive(node)) {
        if (sim__percent(sim, sim->nature.stop_percent)) {
            node->is_stopped = true;
            sim__node_die(node, false, "node.stopped");
        } else if (sim__percent(sim, sim->nature.kill_in_call_percent)) {
            arm_kill(sim);
        } else {
            sim__node_die(node, sim__percent(sim, sim->nature.power_percent), "node.killed");
        }
    }
    if (event->incarnation == 0) {
        sim__schedule(sim, sim__delay(sim, sim->nature.kill_every_us), SIM__EVENT_KILL, 0, 0, NULL);
    }
}

static void live_event(struct sim *sim, const struct sim__event *event)
{
    struct sim__node *node = sim->node;
    if (event->incarnation != node->incarnation || !sim__node_is_alive(node)) {
        return;
    }
    if (event->kind == SIM__EVENT_TICK) {
        tick(sim, event);
    } else if (event->kind == SIM__EVENT_WRITER) {
        sim__writer_run(sim, (enum sim__writer_stage)event->value);
    } else if (event->kind == SIM__EVENT_PERSISTED) {
        shard_persisted(node->shard, event->value);
        sim__node_look_at_shard(sim);
        sim__node_wake(sim);
    } else if (event->kind == SIM__EVENT_STORE) {
        maintain(sim, event->value);
    } else if (event->kind == SIM__EVENT_WRITE || event->kind == SIM__EVENT_WRITE_DONE) {
        sim__store_event(sim, event);
    } else {
        run_read(sim, event);
    }
}

void sim__node_event(struct sim *sim, const struct sim__event *event)
{
    if (event->kind == SIM__EVENT_KILL) {
        kill_event(sim, event);
    } else if (event->kind == SIM__EVENT_START) {
        start(sim);
    } else if (event->kind == SIM__EVENT_SPACE) {
        change_space(sim, event->value != 0);
    } else {
        live_event(sim, event);
    }
    sim__node_settle(sim);
}

void sim__node_settle(struct sim *sim)
{
    if (sim->node->is_running && sim->node->is_dead && !sim->is_failed) {
        bury(sim);
    }
}

void sim__node_kill(struct sim *sim, bool is_power_lost)
{
    sim__node_die(sim->node, is_power_lost, "node.killed");
    sim__node_settle(sim);
}

struct shard *sim__node_shard(struct sim__node *node)
{
    return sim__node_is_alive(node) ? node->shard : NULL;
}

bool sim__node_is_starting(const struct sim__node *node)
{
    return sim__node_is_alive(node) && !node->is_ready && node->shard != NULL;
}

bool sim__node_is_ready(const struct sim__node *node)
{
    return sim__node_is_alive(node) && node->is_ready;
}

bool sim__node_is_quiet(const struct sim__node *node)
{
    return sim__node_is_ready(node) && node->queue_count == 0 && node->round_count == 0 &&
           node->read_count == 0 && node->write == NULL && !node->is_store_behind;
}

void sim__node_verify(struct sim *sim)
{
    struct sim__node *node = sim->node;
    sim__store_all(node);
    struct kv_statistics statistics;
    kv_get_statistics(node->kv, &statistics);
    struct error error = {0};
    int status = kv_verify(memstore_interface(sim->memstore), NULL, statistics.key_count, &error);
    if (status != 0) {
        sim__fail(sim, "the rows contradict themselves: %s", error.message);
    }
}

struct sim__node *sim__node_create(struct sim *sim)
{
    struct sim__node *node = memory_allocate_zeroed(1, sizeof *node);
    node->sim = sim;
    list_init(&node->reads);
    struct sim__disk_options options = {
        .capacity_bytes = sim->nature.capacity_bytes,
        .does_cache_lie = sim->nature.does_cache_lie,
        .does_directory_reorder = sim->nature.does_directory_reorder,
        .touch = sim__node_touch,
        .dies_now = dies_now,
        .context = sim,
    };
    sim->disk = sim__disk_create(&options, &sim->disk_random);
    return node;
}

void sim__node_destroy(struct sim__node *node)
{
    struct sim *sim = node->sim;
    node->is_dead = true;
    drop_reads(node);
    drop_writes(node);
    sim__node_close_cores(node);
    sim__recall_deinit(&node->recall);
    memory_free(node->queue);
    sim__disk_destroy(sim->disk);
    memory_free(node);
}
