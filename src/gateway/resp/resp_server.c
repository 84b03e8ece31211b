/* SPDX-License-Identifier: Apache-2.0 */
/* Groups and servers: making, ending, ticks, budgets.
 *
 * A tick of a server ends in this order: connections that could not go on before are tried again; others
 * on the loop end their ticks; each connection's replies are written with one call; the latency of what
 * the tick answered is recorded; and the group is told of buffers that grew or shrank. */
#include <stdarg.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "gateway/resp/resp_internal.h"

enum {
    TICK_OUTPUT_BYTES_MAX = 8 * 1024 * 1024,
    TIGHT_OUTPUT_BYTES_MAX = 64 * 1024,
    STALE_MS = 2000,
    READ_ESTIMATE_BYTES_START = 64 * 1024,
    PENDING_READ_COUNT_MIN = 4,
    TIMER_MS = 1000,
    BUSY_RETRY_MS = 1,
    PUBLISH_STEP_BYTES = 64 * 1024, /* How stale the group's sum may be, per server. */
    ARGUMENTS_KEPT_MAX = 4096,
    SCRATCH_KEPT_BYTES = 64 * 1024,
};

/* ---- The group ------------------------------------------------------------------------------- */

#define OR_DEFAULT(field, value) ((field) = (field) != 0 ? (field) : (value))

static void fill_defaults(struct resp_options *options)
{
    const uint64_t mebibyte = 1024 * 1024;
    OR_DEFAULT(options->client_count_limit, INT32_MAX);
    OR_DEFAULT(options->client_count_max,
               options->client_count_limit < 10000 ? options->client_count_limit : 10000);
    OR_DEFAULT(options->authentication_timeout_ms, 30000);
    OR_DEFAULT(options->stranger_count_max, 1000);
    OR_DEFAULT(options->value_size_bytes_max, 64 * mebibyte);
    OR_DEFAULT(options->request_size_bytes_max, options->value_size_bytes_max + mebibyte);
    OR_DEFAULT(options->answer_size_bytes_max, options->request_size_bytes_max);
    OR_DEFAULT(options->output_pause_bytes, mebibyte);
    OR_DEFAULT(options->output_size_bytes_max, 256 * mebibyte);
    OR_DEFAULT(options->client_memory_bytes_max, 256 * mebibyte);
    OR_DEFAULT(options->pipeline_count_max, 1024);
    OR_DEFAULT(options->pipeline_size_bytes_max, mebibyte);
    OR_DEFAULT(options->slow_log_threshold_us, 10000);
    OR_DEFAULT(options->slow_log_count_max, 128);
}

int resp_group_create(struct resp_group **group, const struct resp_options *options,
                      struct error *error)
{
    const char *password = options->password == NULL ? "" : options->password;
    if (strlen(password) > RESP_PASSWORD_SIZE_MAX) {
        return error_say(error, -EINVAL, "the password is longer than %d bytes",
                         RESP_PASSWORD_SIZE_MAX);
    }
    if (options->server_count == 0 || options->server_count > RESP_SERVER_COUNT_MAX) {
        return error_say(error, -EINVAL, "there can be 1 to %d reactors", RESP_SERVER_COUNT_MAX);
    }
    if (options->value_size_bytes_max > RESP_BULK_SIZE_BYTES_MAX) {
        return error_say(error, -EINVAL, "the limit of a value is at most %llu bytes",
                         (unsigned long long)RESP_BULK_SIZE_BYTES_MAX);
    }
    struct resp_group *made = memory_allocate_zeroed(1, sizeof *made);
    made->options = *options;
    made->options.password = NULL;
    fill_defaults(&made->options);
    resp__command_map_build(&made->commands);
    made->mutex = os_mutex_create();
    atomic_init(&made->client_count_max, made->options.client_count_max);
    atomic_init(&made->is_connection_ordered, made->options.is_connection_ordered);
    atomic_init(&made->idle_timeout_s, made->options.idle_timeout_s);
    atomic_init(&made->slow_log_threshold_us, made->options.slow_log_threshold_us);
    made->slow_log.capacity = made->options.slow_log_count_max;
    made->slow_log.entries =
        memory_allocate_zeroed(made->slow_log.capacity, sizeof *made->slow_log.entries);
    bool is_set = resp__password_set(made, bytes_of_text(password));
    ASSERT(is_set);
    *group = made;
    return 0;
}

void resp_group_destroy(struct resp_group *group)
{
    for (uint32_t i = 0; i < group->server_count; i++) {
        ASSERT(group->servers[i] == NULL);
    }
    os_mutex_destroy(group->mutex);
    memory_free(group->slow_log.entries);
    memory_free(group);
}

/* ---- Pools ----------------------------------------------------------------------------------- */

void resp__pool_take(struct resp_server *server, struct buffer *buffer)
{
    if (buffer->data == NULL && server->pooled_buffer_count > 0) {
        *buffer = server->pooled_buffers[--server->pooled_buffer_count];
    }
}

void resp__pool_give(struct resp_server *server, struct buffer *buffer)
{
    buffer_clear(buffer);
    if (buffer->data == NULL) {
        return;
    }
    if (server->pooled_buffer_count == POOLED_BUFFER_COUNT_MAX ||
        buffer->capacity_bytes > POOLED_BUFFER_SIZE_BYTES_MAX) {
        buffer_deinit(buffer);
        return;
    }
    server->pooled_buffers[server->pooled_buffer_count++] = *buffer;
    *buffer = (struct buffer){0};
}

void resp__event(const struct resp_server *server, const char *name, const char *format, ...)
{
    if (server->backend->event == NULL) {
        return;
    }
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    server->backend->event(server->backend->context, name, text);
}

/* ---- Ticks ----------------------------------------------------------------------------------- */

static void record_latencies(struct resp_server *server)
{
    if (!server->has_tick_counts) {
        return;
    }
    server->has_tick_counts = false;
    uint64_t now_ns = os_monotonic_ns();
    uint64_t start_ns = os_loop_now_ns(server->loop);
    uint64_t took_ns = now_ns > start_ns ? now_ns - start_ns : 0;
    for (uint32_t i = 0; i < KV_FAMILY_COUNT; i++) {
        if (server->tick_counts[i] > 0) {
            histogram_record_many(&server->latencies_ns[i], took_ns, server->tick_counts[i]);
            server->tick_counts[i] = 0;
        }
    }
    histogram_record_many(&server->kind_latencies_ns[RESP_READ], took_ns, server->tick_read_count);
    server->tick_read_count = 0;
}

/* ---- The budget ------------------------------------------------------------------------------ */

/* What clients make the servers hold is bounded in steps. Always: a tick replies at most
 * TICK_OUTPUT_BYTES_MAX, so that large replies of some do not make others wait. Above half of the
 * budget: only little per tick, nothing to who has not read the last; and who has not read for
 * STALE_MS is cut off. Above the budget: those that hold most are cut off until it is kept, as
 * maxmemory-clients of Redis does. Each server looks after its own share. */

bool resp__server_has_room(const struct resp_server *server)
{
    uint64_t most = server->is_tight ? TIGHT_OUTPUT_BYTES_MAX : TICK_OUTPUT_BYTES_MAX;
    return server->tick_output_bytes < most;
}

static int64_t held_by_all(const struct resp_server *server)
{
    return atomic_load_explicit(&server->group->buffer_bytes, memory_order_relaxed);
}

/* Reads that wait for the disk or for another reactor come back when they like, so their number is
 * bounded by what they will probably answer: as much as the largest of late, which fades. */
bool resp__server_may_read(const struct resp_server *server)
{
    return server->pending_read_count < PENDING_READ_COUNT_MIN ||
           server->pending_read_count * server->read_estimate_bytes < TICK_OUTPUT_BYTES_MAX;
}

void resp__server_read_answered(struct resp_server *server, uint64_t size_bytes)
{
    ASSERT(server->pending_read_count > 0);
    server->pending_read_count--;
    if (size_bytes >= server->read_estimate_bytes) {
        server->read_estimate_bytes = size_bytes;
    } else {
        server->read_estimate_bytes -= (server->read_estimate_bytes - size_bytes + 15) / 16;
    }
}

bool resp__server_is_over_budget(const struct resp_server *server)
{
    int64_t unpublished = server->buffer_bytes - server->buffer_bytes_published;
    return held_by_all(server) + unpublished >
           (int64_t)server->group->options.client_memory_bytes_max;
}

/* The connection of this server that holds most, of those that did not read since `since_ms`. CLIENT NO-EVICT
 * spares its clients while together they hold half of what the server's may; beyond that they are first, or
 * all others would be cut off for what those hold. */
static struct connection *largest_connection(struct resp_server *server, uint64_t since_ms)
{
    const struct resp_group *group = server->group;
    struct connection *largest = NULL;
    struct connection *largest_spared = NULL;
    uint64_t spared_bytes = 0;
    LIST_EACH(member, next, &server->connections)
    {
        struct connection *connection = LIST_ITEM(member, struct connection, link);
        struct connection **found = connection->is_protected ? &largest_spared : &largest;
        bool is_stale = since_ms == UINT64_MAX || (connection->queued_since_ms != 0 &&
                                                   connection->queued_since_ms <= since_ms);
        spared_bytes += connection->is_protected ? connection->charged_bytes : 0;
        if (is_stale && !connection->is_hung_up && connection->charged_bytes > 0 &&
            (*found == NULL || connection->charged_bytes > (*found)->charged_bytes)) {
            *found = connection;
        }
    }
    bool are_too_many =
        spared_bytes > group->options.client_memory_bytes_max / group->server_count / 2;
    return are_too_many && largest_spared != NULL ? largest_spared : largest;
}

static void publish(struct resp_server *server, int64_t least)
{
    int64_t difference = server->buffer_bytes - server->buffer_bytes_published;
    if (difference >= least || difference <= -least) {
        (void)atomic_fetch_add(&server->group->buffer_bytes, difference);
        server->buffer_bytes_published = server->buffer_bytes;
    }
}

/* Cut off the largest that did not read since `since_ms` until the servers hold `limit`. */
static void evict_down_to(struct resp_server *server, int64_t limit, uint64_t since_ms)
{
    int64_t share = limit / server->group->server_count;
    while (held_by_all(server) > limit && server->buffer_bytes > share) {
        struct connection *largest = largest_connection(server, since_ms);
        if (largest == NULL) {
            return;
        }
        COUNTER_ADD(server->evicted_count, 1);
        resp__event(server, "resp.client.evicted", "client_id=%llu buffer_bytes=%llu",
                    (unsigned long long)largest->id, (unsigned long long)largest->charged_bytes);
        resp__connection_close(largest);
        publish(server, 1);
    }
}

static void keep_budget(struct resp_server *server)
{
    publish(server, PUBLISH_STEP_BYTES);
    int64_t limit = (int64_t)server->group->options.client_memory_bytes_max;
    evict_down_to(server, limit, UINT64_MAX);
    server->is_tight = held_by_all(server) > limit / 2;
    server->tick_output_bytes = 0;
    server->dropped_bytes = 0;
}

/* Which of the stale is found is not urgent: once a second is enough. */
static void evict_stale(struct resp_server *server, uint64_t now_ms)
{
    if (server->is_tight && now_ms > STALE_MS) {
        int64_t limit = (int64_t)server->group->options.client_memory_bytes_max;
        evict_down_to(server, limit / 2, now_ms - STALE_MS);
    }
}

static void end_of_tick(void *context)
{
    struct resp_server *server = context;
    struct list ready;
    list_init(&ready);
    resp__spreads_retry(server);
    resp__moves_retry(server);
    resp__evaluations_retry(server);
    bool has_moved = resp__moved_retry(server);
    resp__across_tick(server);
    list_append_all(&ready, &server->busy);
    if (!list_is_empty(&server->ready)) {
        list_append_all(&ready, &server->ready);
        os_loop_tick_again(server->loop); /* For those who act on what is submitted now. */
    }
    while (resp__server_has_room(server) && !list_is_empty(&ready)) {
        struct list *member = list_pop_front(&ready);
        resp__connection_go_on(LIST_ITEM(member, struct connection, ready_link));
    }
    if (!list_is_empty(&ready)) { /* Perhaps all of them were busy before. */
        os_loop_tick_again(server->loop);
    }
    list_append_all(&ready, &server->ready); /* Who had no turn is first in the next tick. */
    list_append_all(&server->ready, &ready);
    if (!list_is_empty(&server->busy) || !list_is_empty(&server->spreads) ||
        !list_is_empty(&server->moves) || !list_is_empty(&server->evaluations) || has_moved) {
        os_timer_start(server->busy_timer, BUSY_RETRY_MS, 0);
    }
}

/* What the ends of the tick have set to work, the log above all, works while replies are written: that takes
 * 3 us for each connection. */
static void last_of_tick(void *context)
{
    struct resp_server *server = context;
    for (struct list *member; (member = list_pop_front(&server->dirty)) != NULL;) {
        resp__connection_flush(LIST_ITEM(member, struct connection, dirty_link));
    }
    record_latencies(server);
    keep_budget(server);
    if (server->arguments.capacity > ARGUMENTS_KEPT_MAX) {
        resp__arguments_deinit(&server->arguments);
    }
    resp__server_check_stopped(server);
}

static void measure_rate(struct resp_group *group)
{
    uint64_t count = 0;
    uint64_t input_bytes = 0;
    uint64_t output_bytes = 0;
    for (uint32_t i = 0; i < group->server_count; i++) {
        input_bytes += COUNTER_READ(group->servers[i]->input_bytes);
        output_bytes += COUNTER_READ(group->servers[i]->output_bytes);
        for (uint32_t j = 0; j < KV_FAMILY_COUNT; j++) {
            count += COUNTER_READ(group->servers[i]->family_counts[j]);
        }
    }
    atomic_store(&group->commands_per_second, count - group->command_count_before);
    group->command_count_before = count;
    atomic_store(&group->input_bytes_per_second, input_bytes - group->input_bytes_before);
    group->input_bytes_before = input_bytes;
    atomic_store(&group->output_bytes_per_second, output_bytes - group->output_bytes_before);
    group->output_bytes_before = output_bytes;
}

static void each_second(void *context)
{
    struct resp_server *server = context;
    uint64_t now_ms = os_loop_now_ms(server->loop);
    if (server->index == 0) {
        measure_rate(server->group);
    }
    bool has_idle_timeout = atomic_load(&server->group->idle_timeout_s) > 0;
    struct list *head = has_idle_timeout ? &server->connections : &server->strangers;
    LIST_EACH(member, next, head)
    {
        struct connection *connection = has_idle_timeout
                                            ? LIST_ITEM(member, struct connection, link)
                                            : LIST_ITEM(member, struct connection, stranger_link);
        if (resp__connection_is_overdue(connection, now_ms)) {
            resp__connection_close(connection);
        } else if (!has_idle_timeout) {
            break; /* Those behind came later. */
        }
    }
    evict_stale(server, now_ms);
    if (server->is_stopping && now_ms >= server->stop_deadline_ms) {
        LIST_EACH(member, next, &server->connections)
        {
            resp__connection_close(LIST_ITEM(member, struct connection, link));
        }
    }
    resp__server_check_stopped(server);
}

/* The end of the tick that this made is what tries again. */
static void busy_over(void *context)
{
}

/* ---- CLIENT PAUSE ---------------------------------------------------------------------------- */

bool resp__server_is_paused(const struct resp_server *server, bool is_write)
{
    return __builtin_expect(server->paused_until_ms != 0, 0) &&
           (is_write || server->is_pause_for_all) &&
           os_loop_now_ms(server->loop) < server->paused_until_ms;
}

static void pause_over(void *context)
{
    struct resp_server *server = context;
    server->paused_until_ms = 0;
    list_append_all(&server->ready, &server->held);
    os_loop_tick_again(server->loop);
}

void resp__server_pause(struct resp_server *server, uint64_t until_ms, bool is_for_all)
{
    uint64_t now_ms = os_loop_now_ms(server->loop);
    if (until_ms <= now_ms) {
        os_timer_stop(server->pause_timer);
        pause_over(server);
        return;
    }
    server->paused_until_ms = until_ms;
    server->is_pause_for_all = is_for_all;
    os_timer_start(server->pause_timer, until_ms - now_ms + 1, 0);
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct resp_server *resp_server_create(struct resp_group *group, struct os_loop *loop,
                                       const struct resp_backend *backend)
{
    ASSERT(group->server_count < group->options.server_count);
    struct resp_server *server = memory_allocate_zeroed(1, sizeof *server);
    server->group = group;
    server->loop = loop;
    server->backend = backend;
    server->index = group->server_count;
    server->next_client_number = 1;
    server->read_estimate_bytes = READ_ESTIMATE_BYTES_START;
    list_init(&server->connections);
    list_init(&server->strangers);
    list_init(&server->dirty);
    list_init(&server->ready);
    list_init(&server->busy);
    list_init(&server->held);
    list_init(&server->spreads);
    list_init(&server->moves);
    list_init(&server->evaluations);
    list_init(&server->moved);
    list_init(&server->pooled_slots);
    resp__lanes_init(&server->lanes);
    server->timer = os_timer_create(loop, each_second, server);
    server->pause_timer = os_timer_create(loop, pause_over, server);
    server->busy_timer = os_timer_create(loop, busy_over, server);
    os_timer_start(server->timer, TIMER_MS, TIMER_MS);
    os_loop_at_end_of_tick(loop, end_of_tick, server);
    os_loop_at_last_of_tick(loop, last_of_tick, server);
    group->servers[group->server_count++] = server;
    return server;
}

static void destroy_timers(struct resp_server *server)
{
    if (server->timer != NULL) {
        os_timer_destroy(server->timer);
        os_timer_destroy(server->pause_timer);
        os_timer_destroy(server->busy_timer);
        server->timer = NULL;
    }
}

static void close_listeners(struct resp_server *server)
{
    while (server->listener_count > 0) {
        os_listener_close(server->listeners[--server->listener_count]);
    }
}

void resp_server_destroy(struct resp_server *server)
{
    ASSERT(list_is_empty(&server->connections));
    ASSERT(server->pending_read_count == 0);
    close_listeners(server);
    resp__across_deinit(server);
    destroy_timers(server);
    for (struct list *member; (member = list_pop_front(&server->pooled_slots)) != NULL;) {
        struct slot *slot = LIST_ITEM(member, struct slot, link);
        memory_free(slot);
    }
    resp__lanes_deinit(&server->lanes);
    while (server->pooled_buffer_count > 0) {
        buffer_deinit(&server->pooled_buffers[--server->pooled_buffer_count]);
    }
    buffer_deinit(&server->scratch);
    resp__arguments_deinit(&server->arguments);
    server->group->servers[server->index] = NULL;
    memory_free(server);
}

static void accepted(struct os_stream *stream, void *context)
{
    struct resp_server *server = context;
    if (!server->is_stopping) {
        resp__connection_accept(server, stream);
    }
}

static void refused(int status, void *context)
{
    struct resp_server *server = context;
    COUNTER_ADD(server->refused_count, 1);
    resp__event(server, "resp.accept.failed", "%s", error_text(status));
}

int resp_server_listen(struct resp_server *server, const struct os_listener_options *options,
                       struct error *error)
{
    static const struct os_listener_events events = {.accepted = accepted, .refused = refused};
    ASSERT(server->listener_count < LISTENER_COUNT_MAX);
    struct os_listener *listener = NULL;
    int status = os_listener_open(&listener, server->loop, options, &events, server, error);
    if (status == 0) {
        server->listeners[server->listener_count++] = listener;
    }
    return status;
}

const struct os_listener *resp_server_listener(const struct resp_server *server)
{
    return server->listener_count == 0 ? NULL : server->listeners[server->listener_count - 1];
}

void resp_server_stop(struct resp_server *server, void (*stopped)(void *context), void *context)
{
    ASSERT(!server->is_stopping);
    server->is_stopping = true;
    server->stopped = stopped;
    server->stopped_context = context;
    server->stop_deadline_ms = os_loop_now_ms(server->loop) + RESP_STOP_MS_MAX;
    close_listeners(server);
    LIST_EACH(member, next, &server->connections)
    {
        resp__connection_finish(LIST_ITEM(member, struct connection, link));
    }
    os_loop_tick_again(server->loop);
}

void resp__server_check_stopped(struct resp_server *server)
{
    if (!server->is_stopping || server->is_stopped || !list_is_empty(&server->connections) ||
        !resp__across_is_idle(server)) {
        return;
    }
    server->is_stopped = true;
    resp__across_deinit(server);
    destroy_timers(server);
    server->stopped(server->stopped_context); /* May destroy the server's loop later, not now. */
}

/* ---- Statistics ------------------------------------------------------------------------------ */

void resp_group_get_statistics(const struct resp_group *group, struct resp_statistics *statistics)
{
    memset(statistics, 0, sizeof *statistics);
    statistics->connection_count = atomic_load(&group->client_count);
    for (uint32_t i = 0; i < group->server_count; i++) {
        const struct resp_server *server = group->servers[i];
        if (server == NULL) {
            continue;
        }
        statistics->accepted_count += COUNTER_READ(server->accepted_count);
        statistics->refused_count += COUNTER_READ(server->refused_count);
        statistics->evicted_count += COUNTER_READ(server->evicted_count);
        statistics->error_count_at_reset += COUNTER_READ(server->error_count_at_reset);
        statistics->error_count += COUNTER_READ(server->error_count);
        statistics->pending_count += COUNTER_READ(server->pending_count);
        statistics->input_bytes += COUNTER_READ(server->input_bytes);
        statistics->output_bytes += COUNTER_READ(server->output_bytes);
        for (uint32_t family = 0; family < KV_FAMILY_COUNT; family++) {
            uint64_t count = COUNTER_READ(server->family_counts[family]);
            statistics->family_counts[family] += count;
            statistics->command_count += count;
            histogram_merge(&statistics->latencies_ns[family], &server->latencies_ns[family]);
        }
        for (uint32_t kind = 0; kind < RESP_KIND_COUNT; kind++) {
            histogram_merge(&statistics->kind_latencies_ns[kind], &server->kind_latencies_ns[kind]);
        }
    }
    int64_t buffer_bytes = atomic_load(&group->buffer_bytes);
    statistics->buffer_bytes = buffer_bytes > 0 ? (uint64_t)buffer_bytes : 0;
}
