/* SPDX-License-Identifier: Apache-2.0 */
/* The world of a run: its nature, drawn from the seed; virtual time; the events that are to come.
 *
 * Swarm testing (Groce et al., 2012): every seed has its own mix of sizes, rates and faults, many
 * of them absent, because a run with a bit of everything hides what a run with much of one thing
 * shows. */
#include "sim/sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "sim/sim_internal.h"
#include "sim/sim_settings.h"

enum {
    STEP_COUNT_MAX = 400000,
    GROWTH_INTERVAL_US = 2000000,
    WALL_START_MS = 1700000000,
};

/* ---- Telling what happens -------------------------------------------------------------------- */

void sim__fail(struct sim *sim, const char *format, ...)
{
    if (sim->is_failed) {
        return;
    }
    sim->is_failed = true;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sim->result->reason, SIM_REASON_SIZE, format, arguments);
    va_end(arguments);
    if (sim->options.trace != NULL) {
        (void)fprintf(sim->options.trace, "%12.6f FAILED %s\n", (double)sim->now_us / 1e6,
                      sim->result->reason);
        sim__disk_print(sim->disk, sim->options.trace);
    }
}

void sim__note(struct sim *sim, const char *name, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t values[4] = {sim->now_us, a, b, c};
    sim->trace_hash = hash_bytes(bytes_of_text(name), sim->trace_hash);
    sim->trace_hash = hash_bytes(bytes_make(values, sizeof values), sim->trace_hash);
    if (sim->options.trace != NULL) {
        (void)fprintf(sim->options.trace, "%12.6f %-24s %" PRIu64 " %" PRIu64 " %" PRIx64 "\n",
                      (double)sim->now_us / 1e6, name, a, b, c);
    }
}

static void hook_record(void *context, const struct trace_record *record)
{
    sim__note(context, record->name, record->values[0], record->values[1], record->values[2]);
}

/* A site is on in one run of four, and then fires one time in four. */
static bool hook_fault(void *context, const char *name)
{
    struct sim *sim = context;
    if (sim->is_ending || !sim__node_is_alive(sim->node) ||
        hash_bytes(bytes_of_text(name), sim->options.seed) % 4 != 0) {
        return false;
    }
    bool does_fire = random_chance(&sim->fault_random, 1, 4);
    if (does_fire) {
        sim__note(sim, name, 0, 0, 0);
    }
    return does_fire;
}

static void hook_probe(void *context, const char *name)
{
    struct sim *sim = context;
    if (sim->options.probe != NULL) {
        sim->options.probe(sim->options.context, name);
    }
}

static bool hook_bug(void *context, const char *name)
{
    const struct sim *sim = context;
    return sim->options.bug != NULL && strcmp(sim->options.bug, name) == 0;
}

/* ---- Events ---------------------------------------------------------------------------------- */

static bool is_before(const struct sim__event *left, const struct sim__event *right)
{
    return left->at_us < right->at_us ||
           (left->at_us == right->at_us && left->sequence < right->sequence);
}

void sim__schedule(struct sim *sim, uint64_t delay_us, enum sim__event_kind kind,
                   uint32_t incarnation, uint64_t value, void *pointer)
{
    if (sim->event_count == sim->event_capacity) {
        sim->event_capacity = sim->event_capacity == 0 ? 64 : sim->event_capacity * 2;
        sim->events = memory_resize(sim->events, sim->event_capacity * sizeof(struct sim__event));
    }
    struct sim__event event = {
        sim->now_us + delay_us, sim->event_sequence++, kind, incarnation, value, pointer};
    uint32_t place = sim->event_count++;
    while (place > 0 && is_before(&event, &sim->events[(place - 1) / 2])) {
        sim->events[place] = sim->events[(place - 1) / 2];
        place = (place - 1) / 2;
    }
    sim->events[place] = event;
}

static struct sim__event take_event(struct sim *sim)
{
    ASSERT(sim->event_count > 0);
    struct sim__event earliest = sim->events[0];
    struct sim__event last = sim->events[--sim->event_count];
    uint32_t place = 0;
    for (;;) {
        uint32_t child = place * 2 + 1;
        if (child >= sim->event_count) {
            break;
        }
        if (child + 1 < sim->event_count &&
            is_before(&sim->events[child + 1], &sim->events[child])) {
            child++;
        }
        if (!is_before(&sim->events[child], &last)) {
            break;
        }
        sim->events[place] = sim->events[child];
        place = child;
    }
    sim->events[place] = last;
    return earliest;
}

uint64_t sim__delay(struct sim *sim, uint64_t mean_us)
{
    uint64_t delay = mean_us / 3 + random_below(&sim->random, mean_us + 1);
    while (random_chance(&sim->random, 1, 16)) {
        delay *= 4;
    }
    return delay + 1;
}

bool sim__percent(struct sim *sim, uint32_t percent)
{
    return percent > 0 && random_chance(&sim->random, percent, 100);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static uint64_t clock_now_ms(void *context)
{
    const struct sim *sim = context;
    return sim->monotonic_base_ms + sim->now_us / 1000;
}

uint64_t sim__wall_ms(const struct sim *sim)
{
    return (uint64_t)((int64_t)(sim->now_us / 1000) + sim->wall_offset_ms);
}

static uint64_t clock_wall_ms(void *context)
{
    return sim__wall_ms(context);
}

struct env_clock sim__clock(struct sim *sim)
{
    return (struct env_clock){sim, clock_now_ms, clock_wall_ms};
}

void sim__clock_jump(struct sim *sim)
{
    static const int64_t sizes[] = {3, 50, 1000, 100000};
    int64_t size = sizes[random_below(&sim->random, 4)];
    int64_t jump = (int64_t)random_below(&sim->random, (uint64_t)size * 2 + 1) - size;
    sim->wall_offset_ms += jump;
    if (sim->wall_offset_ms < WALL_START_MS / 2) {
        sim->wall_offset_ms = WALL_START_MS / 2;
    }
    sim__note(sim, "clock.jump", (uint64_t)(jump < 0 ? -jump : jump), jump < 0, 0);
}

void sim__clock_boot(struct sim *sim)
{
    sim->monotonic_base_ms = random_below(&sim->random, 1000000);
}

/* ---- Nature ---------------------------------------------------------------------------------- */

static uint32_t between(struct random *random, uint32_t lower, uint32_t upper)
{
    return lower + (uint32_t)random_below(random, upper - lower + 1u);
}

/* Zero half of the time. */
static uint32_t maybe(struct random *random, uint32_t lower, uint32_t upper)
{
    uint32_t value = between(random, lower, upper);
    return random_chance(random, 1, 2) ? value : 0;
}

static void draw_faults(struct sim__nature *nature, struct random *random)
{
    nature->kill_every_us = random_chance(random, 7, 8) ? between(random, 10000, 200000) : 0;
    nature->kill_in_call_percent = between(random, 0, 100);
    nature->power_percent = between(random, 0, 4) * 25;
    nature->stop_percent = maybe(random, 5, 30);
    nature->recovery_kill_percent = maybe(random, 10, 90);
    nature->ready_kill_percent = maybe(random, 10, 60);
    nature->damage_percent = maybe(random, 20, 80);
    nature->twice_percent = maybe(random, 10, 50);
    nature->flush_error_every_us = random_chance(random, 1, 4) ? between(random, 50000, 300000) : 0;
    nature->full_every_us = random_chance(random, 1, 4) ? between(random, 20000, 200000) : 0;
    nature->clock_jump_every_us = maybe(random, 5000, 200000);
    nature->faults.busy_percent = maybe(random, 1, 40);
    nature->faults.incomplete_percent = maybe(random, 1, 60);
    nature->read_busy_percent = maybe(random, 1, 50);
    nature->does_cache_lie = random_chance(random, 1, 2);
    nature->does_directory_reorder = random_chance(random, 1, 2);
}

void sim__draw_nature(struct sim *sim)
{
    struct random *random = &sim->random;
    struct sim__nature *nature = &sim->nature;
    nature->client_count = between(random, 1, 8);
    nature->pipeline_max = random_chance(random, 1, 3) ? 1 : between(random, 2, 12);
    nature->key_count = between(random, 1, 8);
    nature->register_count = maybe(random, 1, 3);
    nature->request_count = between(random, 100, 500) << random_below(random, 4);
    nature->think_us = between(random, 1, 4) * between(random, 1, 4) * between(random, 10, 400);
    nature->disk_us = between(random, 1, 3) * between(random, 5, 500);
    nature->segment_size_bytes = 16384u << random_below(random, 3);
    nature->spare_size_bytes = between(random, 0, 4) * nature->segment_size_bytes;
    nature->cache_size_bytes = random_chance(random, 1, 4) ? 0 : between(random, 500, 50000);
    nature->in_flight_size_bytes = between(random, 200, 100000);
    nature->capacity_bytes = 1u << 30; /* In effect none. */
    if (random_chance(random, 1, 4)) {
        nature->capacity_bytes =
            between(random, 8, 32) * nature->segment_size_bytes + 4 * nature->in_flight_size_bytes;
    }
    nature->store_flush_us = between(random, 1, 20) * between(random, 500, 10000);
    nature->read_limit = between(random, 1, 8);
    /* Small values make entries of one sector, which are the ones that can take each other's
     * place. */
    static const uint32_t value_sizes[] = {1, 1, 30, 30, 300, 300, 300, 12000};
    nature->value_size_max = between(random, 1, value_sizes[random_below(random, 8)]);
    nature->expiry_percent = maybe(random, 2, 40);
    nature->transaction_percent = maybe(random, 2, 30);
    nature->flushall_per_mille = maybe(random, 1, 10);
    nature->large_hash_per_mille = maybe(random, 1, 20);
    nature->read_percent = between(random, 10, 70);
    nature->store_row_count = random_chance(random, 1, 3) ? 1 : between(random, 2, 60);
    nature->store_write_us = between(random, 1, 3) * between(random, 1, 3000);
    nature->log_flush_us = random_chance(random, 1, 5) ? between(random, 1, 20) * 5000 : 0;
    nature->resp3_percent = maybe(random, 1, 100);
    draw_faults(nature, random);
}

/* ---- The run --------------------------------------------------------------------------------- */

static void schedule_faults(struct sim *sim)
{
    const struct sim__nature *nature = &sim->nature;
    sim__schedule(sim, GROWTH_INTERVAL_US, SIM__EVENT_GROWTH, 0, 0, NULL);
    if (nature->kill_every_us > 0) {
        sim__schedule(sim, sim__delay(sim, nature->kill_every_us), SIM__EVENT_KILL, 0, 0, NULL);
    }
    if (nature->full_every_us > 0) {
        sim__schedule(sim, sim__delay(sim, nature->full_every_us), SIM__EVENT_SPACE, 0, 1, NULL);
    }
    if (nature->clock_jump_every_us > 0) {
        sim__schedule(sim, sim__delay(sim, nature->clock_jump_every_us), SIM__EVENT_CLOCK, 0, 0,
                      NULL);
    }
    if (nature->flush_error_every_us > 0) {
        sim__schedule(sim, sim__delay(sim, nature->flush_error_every_us), SIM__EVENT_FLUSH_ERROR, 0,
                      0, NULL);
    }
}

static void dispatch(struct sim *sim, const struct sim__event *event)
{
    const struct sim__nature *nature = &sim->nature;
    switch (event->kind) {
    case SIM__EVENT_CLIENT:
        sim__clients_event(sim, event);
        break;
    case SIM__EVENT_CLOCK:
        if (!sim->is_ending) {
            sim__clock_jump(sim);
            sim__schedule(sim, sim__delay(sim, nature->clock_jump_every_us), SIM__EVENT_CLOCK, 0, 0,
                          NULL);
        }
        break;
    case SIM__EVENT_GROWTH:
        /* A log that fills the disk before the node is ready needs somebody to make room. */
        sim__disk_grow(sim->disk, 4 * nature->segment_size_bytes);
        sim__schedule(sim, GROWTH_INTERVAL_US, SIM__EVENT_GROWTH, 0, 0, NULL);
        break;
    case SIM__EVENT_FLUSH_ERROR:
        if (!sim->is_ending) {
            sim__disk_fail_flush(sim->disk, between(&sim->random, 1, 10) * 100000);
            sim__schedule(sim, sim__delay(sim, nature->flush_error_every_us),
                          SIM__EVENT_FLUSH_ERROR, 0, 0, NULL);
        }
        break;
    case SIM__EVENT_TICK:
    case SIM__EVENT_WRITER:
    case SIM__EVENT_PERSISTED:
    case SIM__EVENT_READ:
    case SIM__EVENT_READ_DONE:
    case SIM__EVENT_WRITE:
    case SIM__EVENT_WRITE_DONE:
    case SIM__EVENT_STORE:
    case SIM__EVENT_KILL:
    case SIM__EVENT_START:
    case SIM__EVENT_SPACE:
        sim__node_event(sim, event);
        break;
    }
}

/* What comes after the clients have made their requests: one more kill, a recovery without faults,
 * and every key is read. True when that is done too. */
static bool advance_ending(struct sim *sim, uint32_t *phase)
{
    switch (*phase) {
    case 0:
        if (sim__clients_are_done(sim->clients) && sim__node_is_ready(sim->node)) {
            sim->is_ending = true;
            sim__disk_set_full(sim->disk, false);
            sim__disk_fail_flush(sim->disk, 0);
            memstore_set_faults(sim->memstore, (struct memstore_faults){0});
            sim__node_kill(sim, sim__percent(sim, 50));
            *phase = 1;
        }
        return false;
    case 1:
        if (sim__node_is_ready(sim->node)) {
            sim__clients_audit(sim);
            *phase = 2;
        }
        return false;
    case 2:
        return sim__clients_are_done(sim->clients) && sim__node_is_quiet(sim->node);
    default:
        return true;
    }
}

static void live(struct sim *sim)
{
    uint32_t phase = 0;
    schedule_faults(sim);
    sim__schedule(sim, 1, SIM__EVENT_START, 0, 0, NULL);
    while (!sim->is_failed) {
        if (sim->result->step_count++ > STEP_COUNT_MAX || sim->event_count == 0) {
            sim__fail(sim, "no end after %" PRIu64 " steps, in phase %u", sim->result->step_count,
                      phase);
            break;
        }
        struct sim__event event = take_event(sim);
        ASSERT(event.at_us >= sim->now_us);
        sim->now_us = event.at_us;
        uint64_t step[3] = {event.at_us, event.kind, event.value};
        sim->trace_hash = hash_bytes(bytes_make(step, sizeof step), sim->trace_hash);
        dispatch(sim, &event);
        if (!sim->is_failed && advance_ending(sim, &phase)) {
            break;
        }
    }
    if (!sim->is_failed) {
        sim__clients_check(sim);
    }
    if (!sim->is_failed) {
        sim__node_verify(sim);
    }
}

#define SETTING(member) SIM__SETTING(struct sim__nature, member)

static const struct sim__setting settings[] = {
    SETTING(client_count),
    SETTING(pipeline_max),
    SETTING(key_count),
    SETTING(register_count),
    SETTING(request_count),
    SETTING(think_us),
    SETTING(disk_us),
    SETTING(segment_size_bytes),
    SETTING(spare_size_bytes),
    SETTING(capacity_bytes),
    SETTING(cache_size_bytes),
    SETTING(in_flight_size_bytes),
    SETTING(store_row_count),
    SETTING(store_write_us),
    SETTING(kill_every_us),
    SETTING(kill_in_call_percent),
    SETTING(power_percent),
    SETTING(stop_percent),
    SETTING(recovery_kill_percent),
    SETTING(ready_kill_percent),
    SETTING(damage_percent),
    SETTING(twice_percent),
    SETTING(flush_error_every_us),
    SETTING(full_every_us),
    SETTING(clock_jump_every_us),
    SETTING(log_flush_us),
    SETTING(store_flush_us),
    SETTING(read_limit),
    SETTING(read_busy_percent),
    SETTING(value_size_max),
    SETTING(expiry_percent),
    SETTING(transaction_percent),
    SETTING(resp3_percent),
    SETTING(flushall_per_mille),
    SETTING(large_hash_per_mille),
    SETTING(read_percent),
    SETTING(does_cache_lie),
    SETTING(does_directory_reorder),
    SETTING(faults.busy_percent),
    SETTING(faults.incomplete_percent),
};

enum { SETTING_COUNT = sizeof settings / sizeof settings[0] };

/* What this life is like, and the random numbers of what happens. */
static int draw(struct sim *sim, struct error *error)
{
    const struct sim_options *options = &sim->options;
    random_init(&sim->random, options->seed);
    sim__draw_nature(sim);
    uint64_t stream = sim__stream_seed(options);
    random_init(&sim->disk_random, stream + 0x10000000000u);
    random_init(&sim->fault_random, stream + 0x20000000000u);
    if (options->stream != 0) {
        random_init(&sim->random, stream);
    }
    return sim__settings_apply(settings, SETTING_COUNT, &sim->nature, options->settings, error);
}

int sim_show_nature(const struct sim_options *options, FILE *file, struct error *error)
{
    struct sim sim = {.options = *options};
    int status = draw(&sim, error);
    if (status == 0 && file != NULL) {
        sim__settings_print(settings, SETTING_COUNT, &sim.nature, file);
    }
    return status;
}

void sim_run(const struct sim_options *options, struct sim_result *result)
{
    *result = (struct sim_result){0};
    struct sim sim = {.options = *options, .result = result, .wall_offset_ms = WALL_START_MS};
    int status = draw(&sim, NULL);
    ASSERT(status == 0); /* sim_show_nature() has looked at the settings. */
    if (options->trace != NULL) {
        sim__settings_print(settings, SETTING_COUNT, &sim.nature, options->trace);
    }
    sim__clock_boot(&sim);
    struct trace_hooks hooks = {&sim, hook_record, hook_fault, hook_probe, hook_bug};
    trace_set_hooks(&hooks);
    sim.memstore = memstore_create(options->seed);
    memstore_set_faults(sim.memstore, sim.nature.faults);
    sim.oracle = sim__oracle_create(&sim);
    sim.node = sim__node_create(&sim);
    sim.clients = sim__clients_create(&sim);
    live(&sim);
    sim__node_destroy(sim.node);
    sim__clients_destroy(sim.clients);
    result->entry_count = sim__oracle_position(&sim);
    sim__oracle_destroy(sim.oracle);
    memstore_destroy(sim.memstore);
    memory_free(sim.events);
    trace_set_hooks(NULL);
    result->is_passed = !sim.is_failed;
    result->trace_hash = sim.trace_hash;
}
