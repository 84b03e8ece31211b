/* SPDX-License-Identifier: Apache-2.0 */
/* Starting and stopping, in an order in which each part finds what it needs:
 *
 *   start  directory → listeners and admin (a taken port is told at once) → store → shard, log,
 *          replay → node.conf → pool, log writer, maintenance → reactors
 *   stop   gateways (what is under way is answered) → loops → admin → maintenance → log writer →
 *          shard → store
 *
 * Whatever fails on the way up, the way down begins there. */
#include "node/node.h"

#include <malloc.h>
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/number/number.h"
#include "node/node_cluster.h"
#include "node/node_control.h"
#include "node/node_parts.h"

enum {
    POOL_THREAD_COUNT = 4,
    POOL_WORK_COUNT_MAX = 256,
    LEAVE_MS = 2000,
    LEAVE_RETRY_MS = 20,
};

/* How the memory is shared out; the rest of the shares is in node_shard.c. The store's write
 * buffers are part of its cache's budget. */
#define STORE_CACHE_NUMERATOR 3
#define STORE_CACHE_DENOMINATOR 8
#define WRITE_BUFFER_SHARE 6
#define CLIENT_MEMORY_SHARE 8
/* Besides the largest value, which takes all of that share. */
#define CLIENT_MEMORY_EXTRA_BYTES (1ull << 20)
#define VALUE_SIZE_SHARE 8
#define VALUE_SIZE_BYTES_MAX (512ull << 20)
#define WRITE_BUFFER_SIZE_BYTES_MAX (512ull << 20)
/* On a small disk they are small, too: half of what node_maintenance.c keeps in reserve, in which
 * they must find room when they are flushed. */
#define WRITE_BUFFER_DISK_SHARE 40
#define WRITE_BUFFER_SMALL_SIZE_BYTES (16ull << 20)
/* What a flush of the buffers takes besides their content. */
#define FLUSH_MARGIN_SIZE_BYTES (16ull << 20)
#define FLUSH_LOG_SIZE_BYTES_MIN (128ull << 20)
/* Each entry of it takes 8 bytes of memory. */
#define KEPT_LOG_SIZE_BYTES_MAX (4ull << 30)
#define KEPT_LOG_OF_MEMORY 8

uint32_t node_default_reactor_count(uint32_t processor_count)
{
    uint32_t half = processor_count / 2;
    return half < 1 ? 1 : half > NODE_REACTOR_COUNT_MAX ? NODE_REACTOR_COUNT_MAX : half;
}

/* ---- Open files ------------------------------------------------------------------------------ */

/* A client that takes the last file would have the store fail when it opens a table. So what the
 * process may open is shared out at the start. */
enum {
    OPEN_FILES_MIN = 640,
    OPEN_FILES_STORE_SHARE = 4, /* One part in so many, … */
    OPEN_FILES_STORE_MAX = 512, /* … of which the store needs no more than these. */
    /* Connections to the admin port, clients that are refused, segments of the log, what the store
     * opens besides tables. */
    OPEN_FILES_OTHERS = 400,
    OPEN_FILES_PER_REACTOR = 8,
    CLIENT_COUNT_MAX = 10000,
};

static int share_out_files(struct node *node, struct error *error)
{
    uint64_t limit = os_open_files_raise();
    uint64_t store = number_min(limit / OPEN_FILES_STORE_SHARE, OPEN_FILES_STORE_MAX);
    uint64_t others =
        store + OPEN_FILES_OTHERS + node->options.reactor_count * OPEN_FILES_PER_REACTOR;
    if (limit < OPEN_FILES_MIN || limit <= others) {
        return error_say(error, -EMFILE,
                         "the process may open %" PRIu64 " files and needs %" PRIu64
                         ": raise the limit (ulimit -n, or LimitNOFILE= of systemd)",
                         limit, others < OPEN_FILES_MIN ? OPEN_FILES_MIN : others + 1);
    }
    node->table_file_count_max = (uint32_t)store;
    node->client_count_limit = (uint32_t)number_min(limit - others, INT32_MAX);
    if (node->client_count_limit < CLIENT_COUNT_MAX) {
        OS_LOG_WARN(node->options.log, "node.few_clients",
                    "clients=%u open_files=%" PRIu64 " action=%s", node->client_count_limit, limit,
                    "for more raise the limit of open files");
    }
    return 0;
}

/* ---- Reactors -------------------------------------------------------------------------------- */

static int submit(void *context, wal_shard shard, struct shard_request *request,
                  const struct reply *reply)
{
    struct reactor *reactor = context;
    struct node *node = reactor->node;
    if (reactor->loop == node->shards.loop) {
        return route_submit(node->cluster->route, shard, request, reply);
    }
    return node_forward_submit(&node->shards, reactor->loop, shard, request);
}

static const struct slots *newest_slots(void *context)
{
    return node_shards_map(&((struct reactor *)context)->node->shards);
}

static void get_information(void *context, struct resp_information *information)
{
    node_status_information(((struct reactor *)context)->node, information);
}

static bool setting_at(void *context, uint32_t index, const char **name, struct buffer *value)
{
    const struct node *node = ((struct reactor *)context)->node;
    char address[OS_ADDRESS_TEXT_SIZE];
    struct os_address admin = node_admin_address(node->admin);
    switch (index) {
    case 0:
        *name = "admin";
        buffer_append(value, bytes_of_text(os_address_format(&admin, address)));
        return true;
    case 1:
        *name = "reactors";
        buffer_append_format(value, "%u", node->reactor_count);
        return true;
    default:
        return false;
    }
}

static void get_cluster(void *context, struct resp_cluster *target)
{
    const struct node *node = ((struct reactor *)context)->node;
    if (node->cluster != NULL) { /* It serves. */
        node_view_describe(node->cluster->view, target);
    }
}

static bool find_leader(void *context, uint16_t slot, struct resp_place *place)
{
    const struct node *node = ((struct reactor *)context)->node;
    return node->cluster != NULL && node_view_find_leader(node->cluster->view, slot, place);
}

static void gateway_event(void *context, const char *name, const char *text)
{
    struct node *node = ((struct reactor *)context)->node;
    OS_LOG_WARN(node->options.log, "node.gateway", "event=%s text=%s", name, text);
}

/* Whoever comes second of this and of what makes the wake sees the other. */
void node_request_stop(struct node *node)
{
    atomic_store(&node->shards.is_stop_wanted, true);
    if (atomic_load(&node->can_be_woken)) {
        os_wake_signal(node->stop_wake);
    }
}

static void stop_node(void *context)
{
    node_request_stop(((struct reactor *)context)->node);
}

static void let_go_of_map(void *context)
{
    const struct reactor *reactor = context;
    node_map_let_go(&reactor->node->shards.map, reactor->map_reader);
}

static int reactor_open(struct node *node, uint32_t index, struct error *error)
{
    struct reactor *reactor = &node->reactors[index];
    reactor->node = node;
    int status = os_loop_create(&reactor->loop, error);
    if (status != 0) {
        return status;
    }
    reactor->backend = (struct resp_backend){
        .context = reactor,
        .submit = submit,
        .slots = newest_slots,
        .get_information = get_information,
        .setting_at = setting_at,
        .get_cluster = get_cluster,
        .find_leader = find_leader,
        .stop_node = stop_node,
        .event = gateway_event,
    };
    reactor->server = resp_server_create(node->group, reactor->loop, &reactor->backend);
    reactor->map_reader = node_map_add_reader(&node->shards.map);
    os_loop_at_end_of_tick(reactor->loop, let_go_of_map, reactor);
    struct os_listener_options listener = {
        .address = node->options.redis,
        .sibling = index == 0 ? NULL : resp_server_listener(node->reactors[0].server),
        .flag = "--redis",
    };
    if (listener.sibling != NULL) {
        listener.address = os_listener_address(listener.sibling);
    }
    return resp_server_listen(reactor->server, &listener, error);
}

static void reactor_close(struct reactor *reactor)
{
    if (reactor->server != NULL) {
        resp_server_destroy(reactor->server);
    }
    if (reactor->loop != NULL) {
        os_loop_destroy(reactor->loop);
    }
}

static void reactor_run(void *context)
{
    os_loop_run(((struct reactor *)context)->loop);
}

/* ---- Stopping -------------------------------------------------------------------------------- */

static void stop_loops(void *context)
{
    struct node *node = context;
    for (uint32_t i = 0; i < node->reactor_count; i++) {
        os_loop_stop(node->reactors[i].loop);
    }
}

/* On reactor 0: the last gateway that stopped stops the loops, so that errands still found
 * theirs. */
static void gateway_stopped_here(struct os_message *message)
{
    struct node *node = LIST_ITEM(message, struct reactor, stopped_message)->node;
    ASSERT(node->serving_count > 0);
    if (--node->serving_count > 0) {
        return;
    }
    node_shards_stop(&node->shards, stop_loops, node);
}

static void gateway_stopped(void *context)
{
    struct reactor *reactor = context;
    reactor->stopped_message.deliver = gateway_stopped_here;
    os_loop_post(reactor->node->reactors[0].loop, &reactor->stopped_message);
}

static void stop_gateway(struct os_message *message)
{
    struct reactor *reactor = LIST_ITEM(message, struct reactor, stop_message);
    resp_server_stop(reactor->server, gateway_stopped, reactor);
}

static void stop_gateways(struct node *node)
{
    route_stop(node->cluster->route, LEAVE_MS);
    for (uint32_t i = 0; i < node->reactor_count; i++) {
        struct reactor *reactor = &node->reactors[i];
        reactor->stop_message.deliver = stop_gateway;
        os_loop_post(reactor->loop, &reactor->stop_message);
    }
}

/* Another node leads before this one stops, so that nobody waits for an election. */
static void leave(void *context)
{
    struct node *node = context;
    if (node_cluster_leave(node->cluster) || os_monotonic_ms() >= node->leave_until_ms) {
        os_timer_stop(node->leave_timer);
        if (node->control != NULL) {
            node_control_stop(node->control);
        }
        stop_gateways(node);
    } else {
        os_timer_start(node->leave_timer, LEAVE_RETRY_MS, 0);
    }
}

static void stop(void *context)
{
    struct node *node = context;
    if (atomic_exchange(&node->state, NODE_STOPPING) == NODE_STOPPING) {
        return;
    }
    OS_LOG_INFO(node->options.log, "node.stopping", "state=%s", "answering what is under way");
    if (node->node_log != NULL) {
        node_log_want_stop(node->node_log);
    }
    /* Who was removed has nobody to hand over to, and must not serve on. */
    node->leave_until_ms = os_monotonic_ms() + (node->cluster->is_removed ? 0 : LEAVE_MS);
    leave(node);
}

/* ---- Starting -------------------------------------------------------------------------------- */

/* For whoever knows the directory only. A full disk must not keep the node from serving. */
static void write_admin_file(const struct node *node)
{
    char text[OS_ADDRESS_TEXT_SIZE];
    struct error error = {0};
    struct buffer content = {0};
    struct os_address address = node_admin_address(node->admin);
    buffer_append_format(&content, "%s %s\n", os_address_format(&address, text), node->run_id);
    if (os_file_write(node_data_path(node->data, NODE_FILE_ADMIN), buffer_bytes(&content),
                      &error) != 0) {
        OS_LOG_WARN(node->options.log, "node.admin_file", "reason=%s consequence=%s", error.message,
                    "tutti status needs --admin");
    }
    buffer_deinit(&content);
}

static int open_listeners(struct node *node, struct error *error)
{
    const struct node_options *options = &node->options;
    struct resp_options resp_options = {
        .server_count = options->reactor_count,
        .password = options->password,
        .must_have_password =
            !os_address_is_loopback(&options->redis) || !os_address_is_loopback(&options->admin),
        .is_connection_ordered = options->is_connection_ordered,
        .client_count_limit = node->client_count_limit,
        .value_size_bytes_max =
            number_min(options->memory_size_bytes / VALUE_SIZE_SHARE, VALUE_SIZE_BYTES_MAX),
        .answer_size_bytes_max = node_answer_size_bytes_max(options),
        .client_memory_bytes_max =
            options->memory_size_bytes / CLIENT_MEMORY_SHARE + CLIENT_MEMORY_EXTRA_BYTES,
        .output_size_bytes_max = options->memory_size_bytes / CLIENT_MEMORY_SHARE,
    };
    int status = resp_group_create(&node->group, &resp_options, error);
    for (uint32_t i = 0; i < options->reactor_count && status == 0; i++) {
        node->reactor_count = i + 1;
        status = reactor_open(node, i, error);
    }
    if (status == 0) {
        status = node_admin_start(&node->admin, node, error);
    }
    if (status == 0) {
        write_admin_file(node);
    }
    return status;
}

static uint64_t write_buffer_size_bytes(const struct node_options *options)
{
    uint64_t size_bytes =
        number_min(options->memory_size_bytes / WRITE_BUFFER_SHARE, WRITE_BUFFER_SIZE_BYTES_MAX);
    uint64_t free_bytes;
    uint64_t total_bytes;
    if (os_disk_space(options->data_directory, &free_bytes, &total_bytes, NULL) != 0) {
        return size_bytes;
    }
    uint64_t share = total_bytes / WRITE_BUFFER_DISK_SHARE;
    return number_min(
        size_bytes, share < WRITE_BUFFER_SMALL_SIZE_BYTES ? WRITE_BUFFER_SMALL_SIZE_BYTES : share);
}

static int open_storage(struct node *node, struct error *error)
{
    uint64_t memory = node->options.memory_size_bytes;
    uint64_t buffers = write_buffer_size_bytes(&node->options);
    struct store_options store_options = {
        .directory = node_data_store_path(node->data),
        .cache_size_bytes = memory * STORE_CACHE_NUMERATOR / STORE_CACHE_DENOMINATOR,
        .write_buffer_size_bytes = buffers,
        .open_file_count_max = node->table_file_count_max,
        .is_compaction_deferred = true, /* A replay needs the processors. */
    };
    int status = store_open(&node->store, &store_options, error);
    if (status != 0) {
        return status;
    }
    status = node_shards_open(&node->shards, node->store, &node->options, node->data, error);
    if (status != 0) {
        return status;
    }
    /* A segment of the log is large. When it takes the room for flushing the store, no segment can
     * be released and nothing moves any more. */
    os_files_keep_free(node->shards.files, buffers + FLUSH_MARGIN_SIZE_BYTES);
    status = node_data_commit(node->data, !node->options.is_flush_always, error);
    if (status == 0) {
        node_join_forget(node->data, node->options.log);
    }
    return status;
}

static char *redis_address(const struct node *node, char *text)
{
    struct os_address address = os_listener_address(resp_server_listener(node->reactors[0].server));
    return os_address_format(&address, text);
}

static void removed(void *context)
{
    node_request_stop(context);
}

static int open_cluster(struct node *node, struct error *error)
{
    char redis[OS_ADDRESS_TEXT_SIZE];
    char admin[OS_ADDRESS_TEXT_SIZE];
    struct os_address admin_address = node_admin_address(node->admin);
    struct node_cluster_options options = {
        .shards = &node->shards,
        .data = node->data,
        .options = &node->options,
        .loop = node->reactors[0].loop,
        .redis = redis_address(node, redis),
        .admin = os_address_format(&admin_address, admin),
        .sampler = node->sampler,
        .halver = node->halver,
        .started_at_ms = node->started_at_ms,
        .removed = removed,
        .context = node,
    };
    int status = node_cluster_open(&node->cluster, &options, error);
    return status == 0 ? node_control_open(&node->control, node->cluster, error) : status;
}

/* A new directory that is to belong to a cluster gets its name there first. */
static int join(struct node *node, struct error *error)
{
    if (node->options.join == NULL) {
        return node_data_is_new(node->data) ? node_join_check_unasked(node->data, error) : 0;
    }
    if (!node_data_is_new(node->data)) {
        OS_LOG_INFO(node->options.log, "node.joined_already", "cluster=%s node=%u",
                    node_data_cluster_id(node->data), node_data_node_id(node->data));
        return 0;
    }
    if (node->options.replica_count != 0) {
        OS_LOG_WARN(node->options.log, "node.replicas_as_they_are", "wanted=%u reason=%s action=%s",
                    node->options.replica_count, "--replicas counts when a cluster is made",
                    "to change it, run: tutti replicas");
    }
    char redis[OS_ADDRESS_TEXT_SIZE];
    char admin[OS_ADDRESS_TEXT_SIZE];
    struct os_address admin_address = node_admin_address(node->admin);
    int status =
        node_join(node->data, &node->options, redis_address(node, redis),
                  os_address_format(&admin_address, admin), &node->shards.is_stop_wanted, error);
    if (status == -ECANCELED) {
        OS_LOG_INFO(node->options.log, "node.join_stopped", "reason=%s action=%s",
                    "it was told to stop",
                    "to join, start it again with the same token and directory");
    }
    return status;
}

static int start_threads(struct node *node, struct error *error)
{
    struct os_pool_options pool_options = {
        .name = "disk", .thread_count = POOL_THREAD_COUNT, .work_count_max = POOL_WORK_COUNT_MAX};
    int status = os_pool_create(&node->pool, &pool_options, error);
    if (status != 0) {
        return status;
    }
    struct node_log_options log_options = {
        .wal = node->shards.wal,
        .is_flush_always = node->options.is_flush_always,
        .log = node->options.log,
    };
    status = node_log_start(&node->node_log, &log_options, error);
    if (status != 0) {
        return status;
    }
    node->shards.wal = NULL;
    struct node_maintenance_options maintenance_options = {
        .store = node->store,
        .node_log = node->node_log,
        .shards = &node->shards,
        .directory = node->options.data_directory,
        .flush_log_size_bytes = FLUSH_LOG_SIZE_BYTES_MIN,
        .kept_log_size_bytes_max = number_min(KEPT_LOG_SIZE_BYTES_MAX,
                                              KEPT_LOG_OF_MEMORY * node->options.memory_size_bytes),
        .log = node->options.log,
    };
    status = node_maintenance_start(&node->maintenance, &maintenance_options, error);
    if (status != 0) {
        return status;
    }
    node->shards.pool = node->pool;
    node->shards.node_log = node->node_log;
    node->shards.maintenance = node->maintenance;
    node_shards_attach(&node->shards, node->reactors[0].loop);
    return open_cluster(node, error);
}

static int start_reactors(struct node *node, struct error *error)
{
    node->stop_wake = os_wake_create(node->reactors[0].loop, stop, node);
    node->leave_timer = os_timer_create(node->reactors[0].loop, leave, node);
    atomic_store(&node->can_be_woken, true);
    if (atomic_load(&node->shards.is_stop_wanted)) {
        os_wake_signal(node->stop_wake);
    }
    for (uint32_t i = 1; i < node->reactor_count; i++) {
        int status = os_thread_start(&node->reactors[i].thread, "reactor", reactor_run,
                                     &node->reactors[i], error);
        if (status != 0) {
            return status;
        }
    }
    node->serving_count = node->reactor_count;
    return 0;
}

static void say_ready(const struct node *node)
{
    char redis[OS_ADDRESS_TEXT_SIZE];
    char admin[OS_ADDRESS_TEXT_SIZE];
    struct os_address redis_address =
        os_listener_address(resp_server_listener(node->reactors[0].server));
    struct os_address admin_address = node_admin_address(node->admin);
    char peer[OS_ADDRESS_TEXT_SIZE];
    struct os_address peer_address = node_cluster_address(node->cluster);
    OS_LOG_INFO(node->options.log, "node.ready",
                "redis=%s admin=%s peer=%s node=%u data=%s reactors=%u memory_bytes=%" PRIu64
                " took_ms=%" PRIu64,
                os_address_format(&redis_address, redis), os_address_format(&admin_address, admin),
                os_address_format(&peer_address, peer), node_data_node_id(node->data),
                node->options.data_directory, node->reactor_count, node->options.memory_size_bytes,
                os_monotonic_ms() - node->started_at_ms);
    if (!node->options.is_flush_always) {
        OS_LOG_WARN(node->options.log, "node.weaker_durability", "mode=%s risk=%s", "everysec",
                    "a crash of the machine loses up to about a second of acknowledged writes");
    }
}

static void say_stopped(const struct node *node)
{
    OS_LOG_INFO(node->options.log, "node.stopped", "uptime_ms=%" PRIu64,
                os_monotonic_ms() - node->started_at_ms);
}

static void close_reactors(struct node *node)
{
    for (uint32_t i = 1; i < node->reactor_count; i++) {
        if (node->reactors[i].thread != NULL) {
            os_loop_stop(node->reactors[i].loop);
            os_thread_join(node->reactors[i].thread);
        }
    }
    if (node->stop_wake != NULL) {
        os_wake_destroy(node->stop_wake);
        os_timer_destroy(node->leave_timer);
    }
}

static void node_close(struct node *node)
{
    node_admin_destroy(node->admin);
    close_reactors(node);
    node_control_close(node->control);
    node_maintenance_destroy(node->maintenance);
    node_log_destroy(node->node_log);
    if (node->pool != NULL) {
        os_pool_destroy(node->pool);
    }
    if (node->shards.wal != NULL) {
        wal_close(node->shards.wal);
    }
    if (node->shards.count > 0) {
        node_shards_close(&node->shards);
    }
    node_cluster_close(node->cluster);
    for (uint32_t i = 0; i < node->reactor_count; i++) {
        reactor_close(&node->reactors[i]);
    }
    if (node->group != NULL) {
        resp_group_destroy(node->group);
    }
    if (node->store != NULL) {
        store_close(node->store);
    }
    if (node->data != NULL) {
        node_data_close(node->data);
    }
    node_sampler_destroy(node->sampler);
    node_halver_destroy(node->halver);
    memory_free(node);
}

/* Without this, the next start reads the log that is left; with it, that is next to nothing. */
static void flush_before_close(struct node *node)
{
    struct error error = {0};
    int status = node_shards_settle(&node->shards);
    if (status == 0) {
        status = store_flush(node->store, &error);
    }
    if (status != 0) {
        OS_LOG_WARN(node->options.log, "node.store_not_flushed", "reason=%s consequence=%s",
                    error.message, "the next start reads the log instead");
    }
}

/* Only whoever makes a cluster says how many shards it has; whoever joins one is told. */
static void take_shard_count(struct node *node)
{
    uint32_t wanted = node->options.shard_count;
    if (node_data_is_new(node->data) && wanted > 0) {
        node_data_set_shard_count(node->data, wanted);
    }
    if (wanted > 0 && wanted != node_data_shard_count(node->data)) {
        OS_LOG_WARN(node->options.log, "node.shards_as_they_are", "shards=%u wanted=%u reason=%s",
                    node_data_shard_count(node->data), wanted,
                    "--shards counts when a cluster is made");
    }
}

static void new_run_id(struct node *node)
{
    uint8_t random[(NODE_RUN_ID_SIZE - 1) / 2];
    os_random_fill(random, sizeof random);
    for (size_t i = 0; i < sizeof random; i++) {
        (void)snprintf(node->run_id + 2 * i, 3, "%02x", random[i]);
    }
}

/* By default malloc gives each thread a heap of its own. Blocks of the store's cache are allocated by
 * one thread and freed by another, so every heap kept its own peak: 242 MB resident for a cache of 134
 * MB. With one heap it is 149 MB, and no slower.
 *
 * What is as large as a piece of the store's write buffers, 1 MB, is to be given back to the system once
 * it is freed. By default malloc learns from the first such piece that it had better be kept, and then it
 * comes to lie among rows that live long. The other threshold would be learnt, too. */
static void set_up_malloc(void)
{
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 4 << 20);
}

int node_run(const struct node_options *options, struct error *error)
{
    set_up_malloc();
    struct node *node = memory_allocate_zeroed(1, sizeof *node);
    node->options = *options;
    node->started_at_ms = os_monotonic_ms();
    node->sampler = node_sampler_create();
    node->halver = node_halver_create();
    new_run_id(node);
    int status = share_out_files(node, error);
    if (status == 0) {
        status = node_data_open(&node->data, options->data_directory, NODE_USE_SERVE, error);
    }
    if (status == 0) {
        take_shard_count(node);
        status = open_listeners(node, error);
    }
    if (status == 0) {
        status = join(node, error);
    }
    if (status == 0) {
        status = open_storage(node, error);
        if (status == ERROR_CORRUPT) {
            OS_LOG_ERROR(options->log, "node.damaged", "action=%s", node_damage_advice(node->data));
        }
    }
    if (status == 0) {
        status = start_threads(node, error);
    }
    if (status == 0) {
        status = start_reactors(node, error);
    }
    if (status == -ECANCELED && atomic_load(&node->shards.is_stop_wanted)) {
        say_stopped(node);
        node_close(node);
        return NODE_EXIT_OK;
    }
    if (status != 0) {
        node_close(node);
        return NODE_EXIT_START;
    }
    atomic_store(&node->state, NODE_SERVING);
    say_ready(node);
    os_loop_run(node->reactors[0].loop);
    flush_before_close(node);
    say_stopped(node);
    node_close(node);
    return NODE_EXIT_OK;
}
