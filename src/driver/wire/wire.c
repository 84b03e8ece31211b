/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoint: its nodes, its clock, its life. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/wire/wire_internal.h"

enum {
    QUEUE_SIZE_BYTES_MAX = 64 * 1024 * 1024,
    UNKNOWN_COUNT_MAX = 128,
    /* A handshake takes 1.5 ms of the loop's thread: a flood may take a tenth of it. At once, as many
     * as when a large cluster starts together. */
    HANDSHAKE_RATE_MAX = 64,
    HANDSHAKE_BURST_SECONDS = 4,
    STRANGER_COUNT_MAX = 8,
    STRANGER_RATE_MAX = 2,
    HANDSHAKE_TIMEOUT_MS = 5000,
    SILENCE_TIMEOUT_MS = 3000,
    BACKOFF_MS_MIN = 50,
    BACKOFF_MS_MAX = 2000,
    SWEEPS_PER_SILENCE = 12,
    SWEEP_MS_MIN = 5,
    /* A sweep that comes so much later than due means that we were stopped ourselves. */
    STALLS_PER_SILENCE = 6,
    BUCKET_UNIT = 1000,
};

/* ---- Telling --------------------------------------------------------------------------------- */

void wire__tell(struct wire *wire, enum os_log_level level, const char *name, const char *format,
                ...)
{
    char text[WIRE__TROUBLE_SIZE];
    va_list arguments;
    if (wire->options.events->event == NULL) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    wire->options.events->event(level, name, text, wire->options.context);
}

/* ---- Rates ----------------------------------------------------------------------------------- */

void wire__bucket_init(struct wire__bucket *bucket, uint32_t rate, uint32_t burst, uint64_t now_ms)
{
    *bucket = (struct wire__bucket){.rate = rate,
                                    .burst = burst,
                                    .level_thousandths = (uint64_t)burst * BUCKET_UNIT,
                                    .at_ms = now_ms};
}

bool wire__bucket_take(struct wire__bucket *bucket, uint64_t now_ms)
{
    uint64_t most = (uint64_t)bucket->burst * BUCKET_UNIT;
    uint64_t passed_ms = now_ms > bucket->at_ms ? now_ms - bucket->at_ms : 0;
    uint64_t level = bucket->level_thousandths + passed_ms * bucket->rate;
    bucket->at_ms = now_ms;
    bucket->level_thousandths = level < most ? level : most;
    if (bucket->level_thousandths < BUCKET_UNIT) {
        return false;
    }
    bucket->level_thousandths -= BUCKET_UNIT;
    return true;
}

/* ---- Nodes ----------------------------------------------------------------------------------- */

/* Where a node is, or would have to be inserted. */
static uint32_t place_of(const struct wire *wire, uint32_t node_id)
{
    uint32_t low = 0;
    uint32_t high = wire->node_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (wire->nodes[middle]->node_id < node_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct wire__node *wire__node_find(const struct wire *wire, uint32_t node_id)
{
    uint32_t place = place_of(wire, node_id);
    bool is_there = place < wire->node_count && wire->nodes[place]->node_id == node_id;
    return is_there ? wire->nodes[place] : NULL;
}

struct wire__node *wire__node_get(struct wire *wire, uint32_t node_id)
{
    uint32_t place = place_of(wire, node_id);
    if (place < wire->node_count && wire->nodes[place]->node_id == node_id) {
        return wire->nodes[place];
    }
    if (wire->node_count == wire->node_capacity) {
        wire->node_capacity = wire->node_capacity * 2 + 8;
        wire->nodes = memory_resize(wire->nodes, wire->node_capacity * sizeof wire->nodes[0]);
    }
    memmove(wire->nodes + place + 1, wire->nodes + place,
            (wire->node_count - place) * sizeof wire->nodes[0]);
    struct wire__node *node = memory_allocate_zeroed(1, sizeof *node);
    node->wire = wire;
    node->node_id = node_id;
    wire->nodes[place] = node;
    wire->node_count++;
    return node;
}

void wire__node_release(struct wire__node *node)
{
    struct wire *wire = node->wire;
    if (node->is_peer || node->outgoing != NULL || node->accepted != NULL) {
        return;
    }
    ASSERT(node->lookup == NULL); /* Only peers are looked up. */
    uint32_t place = place_of(wire, node->node_id);
    ASSERT(wire->nodes[place] == node);
    wire->node_count--;
    memmove(wire->nodes + place, wire->nodes + place + 1,
            (wire->node_count - place) * sizeof wire->nodes[0]);
    os_timer_destroy(node->timer);
    memory_free(node);
}

/* ---- Peers ----------------------------------------------------------------------------------- */

static void dial_due(void *context)
{
    wire__outgoing_dial(context);
}

int wire_set_peer(struct wire *wire, uint32_t node_id, const char *address)
{
    char host[OS_HOST_SIZE];
    uint16_t port = 0;
    size_t size_bytes = strlen(address) + 1;
    if (node_id == 0 || node_id == wire->hello.node_id || size_bytes > WIRE_ADDRESS_SIZE ||
        !os_address_split(address, host, &port)) {
        return -EINVAL;
    }
    struct wire__node *node = wire__node_get(wire, node_id);
    if (node->is_peer && strcmp(node->address_text, address) == 0) {
        return 0;
    }
    wire__outgoing_stop(node);
    if (node->timer == NULL) {
        node->timer = os_timer_create(wire->loop, dial_due, node);
    }
    node->is_peer = true;
    memcpy(node->address_text, address, size_bytes);
    node->address = (struct os_address){0};
    node->is_number = os_address_parse_number(&node->address, address);
    node->backoff_ms = wire->options.backoff_ms_min;
    node->trouble[0] = '\0';
    os_timer_start(node->timer, 0, 0);
    return 0;
}

void wire_remove_peer(struct wire *wire, uint32_t node_id)
{
    struct wire__node *node = wire__node_find(wire, node_id);
    if (node == NULL || !node->is_peer) {
        return;
    }
    wire__outgoing_stop(node);
    os_timer_destroy(node->timer);
    node->timer = NULL;
    node->is_peer = false;
    wire__node_release(node);
}

void wire_hang_up(struct wire *wire, uint32_t node_id)
{
    struct wire__node *node = wire__node_find(wire, node_id);
    if (node == NULL || node->accepted == NULL) {
        return;
    }
    struct wire__incoming *incoming = node->accepted;
    wire__incoming_drop(incoming);
    wire__connection_close(&incoming->connection);
    wire__node_release(node);
}

void wire_set_version_min(struct wire *wire, uint32_t version_min)
{
    ASSERT(version_min >= wire->hello.version_min);
    ASSERT(version_min <= wire->hello.version_max);
    wire->hello.version_min = version_min;
}

void wire_set_admits_strangers(struct wire *wire, bool admits_strangers)
{
    wire->options.admits_strangers = admits_strangers;
}

/* ---- Sending and receiving ------------------------------------------------------------------- */

static int send_message(struct wire *wire, uint32_t node_id, uint16_t kind,
                        const struct bytes *pieces, uint32_t piece_count, bool is_urgent)
{
    if (kind >= WIRE_KIND_RESERVED || piece_count > WIRE_PIECES_MAX) {
        return -EINVAL;
    }
    struct wire__node *node = wire__node_find(wire, node_id);
    if (node == NULL || node->outgoing == NULL || !node->outgoing->is_connected) {
        return -ENOTCONN;
    }
    struct wire__outgoing *outgoing = node->outgoing;
    uint64_t payload_bytes = wire__size_bytes(pieces, piece_count);
    uint64_t size_bytes_max =
        is_urgent ? WIRE_URGENT_SIZE_BYTES_MAX : wire->options.frame_size_bytes_max;
    if (payload_bytes > size_bytes_max) {
        return -EMSGSIZE;
    }
    uint64_t queued_bytes =
        is_urgent ? outgoing->urgent.size_bytes : wire__outgoing_queued_bytes(outgoing);
    uint64_t queued_bytes_max =
        is_urgent ? WIRE__URGENT_SIZE_BYTES_MAX : wire->options.queue_size_bytes_max;
    if (queued_bytes > 0 &&
        queued_bytes + WIRE_HEADER_SIZE_BYTES + payload_bytes > queued_bytes_max) {
        node->statistics.refused_count++;
        return -EBUSY;
    }
    wire__queue_append_message(is_urgent ? &outgoing->urgent : &outgoing->queue, kind, pieces,
                               piece_count, payload_bytes);
    node->statistics.sent_frame_count++;
    node->statistics.sent_bytes += WIRE_HEADER_SIZE_BYTES + payload_bytes;
    if (list_is_empty(&outgoing->dirty_member)) {
        list_push_back(&wire->dirty, &outgoing->dirty_member);
    }
    return 0;
}

int wire_send(struct wire *wire, uint32_t node_id, uint16_t kind, const struct bytes *pieces,
              uint32_t piece_count)
{
    return send_message(wire, node_id, kind, pieces, piece_count, false);
}

int wire_send_urgent(struct wire *wire, uint32_t node_id, uint16_t kind, const struct bytes *pieces,
                     uint32_t piece_count)
{
    return send_message(wire, node_id, kind, pieces, piece_count, true);
}

void wire_flush(struct wire *wire)
{
    LIST_EACH(member, next, &wire->dirty)
    {
        wire__outgoing_flush(LIST_ITEM(member, struct wire__outgoing, dirty_member));
    }
}

static void end_of_tick(void *context)
{
    wire_flush(context);
}

uint64_t wire_queued_bytes(const struct wire *wire, uint32_t node_id)
{
    const struct wire__node *node = wire__node_find(wire, node_id);
    bool is_connected = node != NULL && node->outgoing != NULL && node->outgoing->is_connected;
    return is_connected ? wire__outgoing_queued_bytes(node->outgoing) : 0;
}

bool wire_is_connected(const struct wire *wire, uint32_t node_id)
{
    const struct wire__node *node = wire__node_find(wire, node_id);
    return node != NULL && node->outgoing != NULL && node->outgoing->is_connected;
}

void wire_pause(struct wire *wire, uint32_t node_id)
{
    struct wire__node *node = wire__node_find(wire, node_id);
    if (node != NULL && node->accepted != NULL) {
        node->accepted->is_paused = true;
        os_stream_pause(node->accepted->connection.stream);
    }
}

void wire_resume(struct wire *wire, uint32_t node_id)
{
    struct wire__node *node = wire__node_find(wire, node_id);
    if (node != NULL && node->accepted != NULL && node->accepted->is_paused) {
        node->accepted->is_paused = false;
        node->accepted->connection.heard_at_ms = os_monotonic_ms(); /* It could not be heard. */
        os_stream_resume(node->accepted->connection.stream);
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

static uint32_t sweep_ms(const struct wire *wire)
{
    uint32_t interval_ms = wire->options.silence_timeout_ms / SWEEPS_PER_SILENCE;
    return interval_ms > SWEEP_MS_MIN ? interval_ms : SWEEP_MS_MIN;
}

static void sweep_waiting(struct list *waiting, uint64_t now_ms)
{
    LIST_EACH(member, next, waiting)
    {
        wire__incoming_sweep(LIST_ITEM(member, struct wire__incoming, waiting_member), now_ms);
    }
}

/* Deadlines and pings. Connections that fail leave the table only when their stream is closed, so
 * none goes while it is walked. */
static void sweep(void *context)
{
    struct wire *wire = context;
    uint64_t now_ms = os_monotonic_ms();
    /* We were stopped, or busy: what others said meanwhile has not been read yet. */
    uint64_t stall_ms = wire->options.silence_timeout_ms / STALLS_PER_SILENCE;
    bool has_stalled = now_ms > wire->swept_at_ms + sweep_ms(wire) + stall_ms;
    wire->swept_at_ms = now_ms;
    LIST_EACH(member, next, &wire->connections)
    {
        struct wire__connection *connection = LIST_ITEM(member, struct wire__connection, member);
        connection->heard_at_ms = has_stalled ? now_ms : connection->heard_at_ms;
        wire__connection_rest(connection);
    }
    for (uint32_t i = 0; i < wire->node_count; i++) {
        struct wire__node *node = wire->nodes[i];
        if (node->outgoing != NULL) {
            wire__outgoing_sweep(node->outgoing, now_ms);
        }
    }
    for (uint32_t i = wire->node_count; i > 0; i--) { /* Those who fail may leave the table. */
        struct wire__node *node = wire->nodes[i - 1];
        if (node->accepted != NULL) {
            wire__incoming_sweep(node->accepted, now_ms);
        }
    }
    sweep_waiting(&wire->unknown, now_ms);
    sweep_waiting(&wire->visitors, now_ms);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static void fill_options(struct wire_options *options)
{
    options->frame_size_bytes_max =
        or_default(options->frame_size_bytes_max, WIRE_FRAME_SIZE_BYTES_MAX);
    options->queue_size_bytes_max = or_default(options->queue_size_bytes_max, QUEUE_SIZE_BYTES_MAX);
    options->unknown_count_max = or_default(options->unknown_count_max, UNKNOWN_COUNT_MAX);
    options->handshake_rate_max = or_default(options->handshake_rate_max, HANDSHAKE_RATE_MAX);
    options->stranger_count_max = or_default(options->stranger_count_max, STRANGER_COUNT_MAX);
    options->stranger_rate_max = or_default(options->stranger_rate_max, STRANGER_RATE_MAX);
    options->handshake_timeout_ms = or_default(options->handshake_timeout_ms, HANDSHAKE_TIMEOUT_MS);
    options->silence_timeout_ms = or_default(options->silence_timeout_ms, SILENCE_TIMEOUT_MS);
    options->backoff_ms_min = or_default(options->backoff_ms_min, BACKOFF_MS_MIN);
    options->backoff_ms_max = or_default(options->backoff_ms_max, BACKOFF_MS_MAX);
    options->stranger_timeout_ms =
        or_default(options->stranger_timeout_ms, WIRE_STRANGER_TIMEOUT_MS);
}

static int check_options(const struct wire_options *options, struct error *error)
{
    const struct tls_identity *identity = tls_context_identity(options->tls);
    ASSERT(options->events->frame != NULL);
    ASSERT(options->boot_id != 0);
    ASSERT(options->version_min != 0);
    ASSERT(options->version_min <= options->version_max);
    ASSERT(options->frame_size_bytes_max <= WIRE_FRAME_SIZE_BYTES_MAX);
    ASSERT(identity != NULL);
    if (strcmp(identity->cluster, options->cluster) != 0 || identity->node_id != options->node_id) {
        return error_say(error, -EINVAL,
                         "the certificate is of node %u of cluster %s, but this is node %u of "
                         "cluster %s",
                         identity->node_id, identity->cluster, options->node_id, options->cluster);
    }
    return 0;
}

static void init(struct wire *wire, struct os_loop *loop, const struct wire_options *options)
{
    uint64_t seed = 0;
    uint64_t now_ms = os_monotonic_ms();
    wire->loop = loop;
    wire->options = *options;
    fill_options(&wire->options);
    wire->hello = (struct wire__hello){.node_id = options->node_id,
                                       .boot_id = options->boot_id,
                                       .version_min = options->version_min,
                                       .version_max = options->version_max};
    wire__text_copy(wire->hello.cluster, sizeof wire->hello.cluster, options->cluster);
    wire__text_copy(wire->hello.software, sizeof wire->hello.software, options->software);
    wire->options.cluster = wire->hello.cluster;
    wire->options.software = wire->hello.software;
    os_random_fill(&seed, sizeof seed);
    random_init(&wire->random, seed);
    list_init(&wire->connections);
    list_init(&wire->unknown);
    list_init(&wire->visitors);
    list_init(&wire->dirty);
    list_init(&wire->strangers);
    wire__pool_init(&wire->pool);
    wire__bucket_init(&wire->accept_bucket, wire->options.handshake_rate_max,
                      HANDSHAKE_BURST_SECONDS * wire->options.handshake_rate_max, now_ms);
    wire__bucket_init(&wire->stranger_bucket, wire->options.stranger_rate_max,
                      wire->options.stranger_count_max, now_ms);
    wire->swept_at_ms = now_ms;
}

static void refused_by_system(int status, void *context)
{
    wire__tell(context, OS_LOG_WARN, "wire.accept.failed", "accept: %s", error_text(status));
}

int wire_open(struct wire **wire, struct os_loop *loop, const struct wire_options *options,
              struct error *error)
{
    static const struct os_listener_events events = {.accepted = wire__incoming_accepted,
                                                     .refused = refused_by_system};
    int status = check_options(options, error);
    if (status != 0) {
        return status;
    }
    struct wire *opened = memory_allocate_zeroed(1, sizeof *opened);
    init(opened, loop, options);
    status = os_listener_open(&opened->listener, loop, &options->listener, &events, opened, error);
    if (status != 0) {
        memory_free(opened);
        return status;
    }
    os_loop_at_end_of_tick(loop, end_of_tick, opened);
    opened->sweeper = os_timer_create(loop, sweep, opened);
    os_timer_start(opened->sweeper, sweep_ms(opened), sweep_ms(opened));
    *wire = opened;
    return 0;
}

static void close_nodes(struct wire *wire)
{
    while (wire->node_count > 0) {
        struct wire__node *node = wire->nodes[wire->node_count - 1];
        wire__outgoing_stop(node);
        if (node->accepted != NULL) {
            struct wire__incoming *incoming = node->accepted;
            wire__incoming_drop(incoming);
            wire__connection_close(&incoming->connection);
        }
        node->is_peer = false;
        wire__node_release(node);
    }
    memory_free(wire->nodes);
}

void wire_close(struct wire *wire)
{
    if (wire == NULL) {
        return;
    }
    os_listener_close(wire->listener);
    os_timer_destroy(wire->sweeper);
    os_loop_forget_end_of_tick(wire->loop, end_of_tick, wire);
    close_nodes(wire);
    LIST_EACH(stranger_member, next_stranger, &wire->strangers)
    {
        struct wire_stranger *stranger = LIST_ITEM(stranger_member, struct wire_stranger, member);
        list_remove(stranger_member);
        stranger->wire = NULL;
    }
    list_append_all(&wire->unknown, &wire->visitors);
    LIST_EACH(waiting_member, next_waiting, &wire->unknown)
    {
        list_remove(waiting_member);
    }
    LIST_EACH(member, next, &wire->connections)
    {
        struct wire__connection *connection = LIST_ITEM(member, struct wire__connection, member);
        list_remove(member);
        connection->role->orphaned(connection);
        wire__connection_close(connection);
    }
    wire__pool_deinit(&wire->pool);
    memory_free(wire);
}

struct os_address wire_address(const struct wire *wire)
{
    return os_listener_address(wire->listener);
}

/* ---- Statistics ------------------------------------------------------------------------------ */

uint32_t wire_peers(const struct wire *wire, struct wire_peer_statistics *statistics,
                    uint32_t count_max)
{
    for (uint32_t i = 0; i < wire->node_count && i < count_max; i++) {
        const struct wire__node *node = wire->nodes[i];
        statistics[i] = node->statistics;
        statistics[i].node_id = node->node_id;
        statistics[i].is_peer = node->is_peer;
        statistics[i].address = node->address;
        statistics[i].is_connected = wire_is_connected(wire, node->node_id);
        statistics[i].is_accepted = node->accepted != NULL;
        statistics[i].queued_bytes = wire_queued_bytes(wire, node->node_id);
        if (!statistics[i].is_connected && !statistics[i].is_accepted) {
            statistics[i].version = 0;
        }
    }
    return wire->node_count;
}

struct wire_statistics wire_statistics(const struct wire *wire)
{
    return wire->statistics;
}
