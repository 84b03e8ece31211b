/* SPDX-License-Identifier: Apache-2.0 */
/* INFO: the fields that tools of Redis read, and ours. Memory is that of the process as the system
 * sees it; there is no allocator whose bookkeeping could say more. */
#include <stdio.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "gateway/resp/resp_cluster.h"
#include "gateway/resp/resp_internal.h"

struct report {
    struct buffer text;
    struct resp_server *server;
    struct resp_information information;
    struct resp_statistics *statistics;
    struct resp_cluster cluster;
};

typedef unsigned long long number;

static void line(struct report *report, const char *name, uint64_t value)
{
    buffer_append_format(&report->text, "%s:%llu\r\n", name, (number)value);
}

static void line_text(struct report *report, const char *name, const char *value)
{
    buffer_append_format(&report->text, "%s:%s\r\n", name, value);
}

/* "1.75M", as people read it. */
static void line_human(struct report *report, const char *name, uint64_t bytes)
{
    static const char units[] = "BKMGT";
    double value = (double)bytes;
    uint32_t unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    buffer_append_format(&report->text, unit == 0 ? "%s:%.0f%c\r\n" : "%s:%.2f%c\r\n", name, value,
                         units[unit]);
}

static void line_kibibytes(struct report *report, const char *name, uint64_t bytes)
{
    buffer_append_format(&report->text, "%s:%.2f\r\n", name, (double)bytes / 1024);
}

static void section_server(struct report *report)
{
    const struct os_listener *listener = resp_server_listener(report->server);
    line_text(report, "redis_version", RESP_REDIS_VERSION);
    line_text(report, "tutti_version", TUTTI_VERSION);
    line_text(report, "redis_git_sha1", "00000000");
    line_text(report, "redis_git_dirty", "0");
    line_text(report, "redis_mode", "standalone");
    line_text(report, "os", "Linux");
    line(report, "arch_bits", 64);
    line_text(report, "multiplexing_api", "libuv");
    line(report, "process_id", (uint64_t)os_process_id());
    line_text(report, "run_id", report->information.run_id);
    line(report, "tcp_port", listener == NULL ? 0 : os_listener_address(listener).port);
    line(report, "server_time_usec", os_wall_clock_us());
    line(report, "uptime_in_seconds", report->information.uptime_s);
    line(report, "uptime_in_days", report->information.uptime_s / 86400);
    line(report, "hz", 10);
    line(report, "configured_hz", 10);
    line_text(report, "executable", "tutti");
    line_text(report, "config_file", report->information.configuration_file);
    line(report, "reactors", report->server->group->server_count);
    line_text(report, "data_directory", report->information.data_directory);
}

static void section_clients(struct report *report)
{
    line(report, "connected_clients", report->statistics->connection_count);
    line(report, "cluster_connections", 0);
    line(report, "maxclients", atomic_load(&report->server->group->client_count_max));
    line(report, "blocked_clients", 0);
    line(report, "tracking_clients", 0);
    line(report, "clients_in_timeout_table", 0);
    line(report, "pending_requests", report->statistics->pending_count);
}

static void section_memory(struct report *report)
{
    uint64_t resident_bytes = os_memory_resident_bytes();
    uint64_t peak_bytes = os_memory_peak_bytes();
    uint64_t total_bytes = os_memory_total_bytes();
    line(report, "used_memory", resident_bytes);
    line_human(report, "used_memory_human", resident_bytes);
    line(report, "used_memory_rss", resident_bytes);
    line_human(report, "used_memory_rss_human", resident_bytes);
    line(report, "used_memory_peak", peak_bytes);
    line_human(report, "used_memory_peak_human", peak_bytes);
    line(report, "total_system_memory", total_bytes);
    line_human(report, "total_system_memory_human", total_bytes);
    line(report, "maxmemory", report->information.memory_limit_bytes);
    line_human(report, "maxmemory_human", report->information.memory_limit_bytes);
    line_text(report, "maxmemory_policy", "noeviction");
    line_text(report, "mem_fragmentation_ratio", "1.00");
    line(report, "mem_clients_normal", report->statistics->buffer_bytes);
    line(report, "cache_bytes", report->information.memory_cache_bytes);
}

static void section_persistence(struct report *report)
{
    const struct resp_information *information = &report->information;
    line(report, "loading", information->is_loading);
    line(report, "async_loading", 0);
    line(report, "rdb_changes_since_last_save", 0);
    line(report, "rdb_bgsave_in_progress", 0);
    line(report, "rdb_last_save_time", information->durable_at_ms / 1000);
    line_text(report, "rdb_last_bgsave_status", "ok");
    line(report, "aof_enabled", 1);
    line(report, "aof_rewrite_in_progress", 0);
    line_text(report, "aof_last_write_status", information->is_full ? "err" : "ok");
    line_text(report, "flush", information->is_flush_always ? "always" : "everysec");
    line_text(report, "flush_risk",
              information->is_flush_always
                  ? "none: a write is answered after the flush that covers it"
                  : "a power loss or a crash of the system loses up to the last second of "
                    "answered writes");
    line(report, "log_flushes", information->log_flush_count);
    line(report, "log_written_bytes", information->log_written_bytes);
    line(report, "log_last_flush_usec", information->log_flush_latest_us);
    line(report, "disk_full", information->is_full);
    line(report, "applied_index", information->applied_index);
    line(report, "store_stalls", information->stall_count);
}

static void section_stats(struct report *report)
{
    const struct resp_statistics *statistics = report->statistics;
    line(report, "total_connections_received", statistics->accepted_count);
    line(report, "total_commands_processed", statistics->command_count);
    line(report, "instantaneous_ops_per_sec",
         atomic_load(&report->server->group->commands_per_second));
    line_kibibytes(report, "instantaneous_input_kbps",
                   atomic_load(&report->server->group->input_bytes_per_second));
    line_kibibytes(report, "instantaneous_output_kbps",
                   atomic_load(&report->server->group->output_bytes_per_second));
    line(report, "total_net_input_bytes", statistics->input_bytes);
    line(report, "total_net_output_bytes", statistics->output_bytes);
    line(report, "rejected_connections", statistics->refused_count);
    line(report, "expired_keys", report->information.expired_key_count);
    line(report, "evicted_keys", 0);
    line(report, "evicted_clients", statistics->evicted_count);
    line(report, "keyspace_hits", report->information.hit_count);
    line(report, "keyspace_misses", report->information.miss_count);
    line(report, "pubsub_channels", 0);
    line(report, "pubsub_patterns", 0);
    line(report, "total_forks", 0);
    line(report, "total_error_replies", statistics->error_count - statistics->error_count_at_reset);
    line(report, "total_disk_reads", report->information.read_elsewhere_count);
}

/* Does the node follow this one in some range? */
static bool is_our_replica(const struct resp_cluster *cluster, uint32_t id)
{
    for (uint32_t i = 0; i < cluster->range_count; i++) {
        const struct cluster_range *range = &cluster->ranges[i];
        for (uint32_t j = 0; j < range->replica_count; j++) {
            if (range->leader == cluster->self->node.id && range->replicas[j] == id) {
                return true;
            }
        }
    }
    return false;
}

static bool is_replica_online(const struct resp_cluster *cluster, const struct cluster_node *node)
{
    return node->node.is_online && is_our_replica(cluster, node->node.id);
}

/* Any node takes writes, so each is a master to its clients; its replicas are the nodes that follow
 * it in the ranges that it leads. */
static void section_replication(struct report *report)
{
    const struct resp_cluster *cluster = &report->cluster;
    struct buffer replicas = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        if (is_our_replica(cluster, node->node.id)) {
            buffer_append_format(&replicas, "slave%u:ip=%s,port=%u,state=%s,offset=%llu,lag=0\r\n",
                                 count, node->host, node->node.port,
                                 node->node.is_online ? "online" : "wait_bgsave",
                                 (number)node->node.offset);
            count++;
        }
    }
    line_text(report, "role", "master");
    line(report, "connected_slaves", count);
    buffer_append(&report->text, buffer_bytes(&replicas));
    buffer_deinit(&replicas);
    line_text(report, "master_failover_state", "no-failover");
    line_text(report, "master_replid", report->information.run_id);
    line_text(report, "master_replid2", "0000000000000000000000000000000000000000");
    line(report, "master_repl_offset", report->information.applied_index);
    line(report, "repl_backlog_active", 0);
}

/* As section_replication(), of the replicas that are there. */
RESP_HANDLER(role)
{
    const struct resp_backend *backend = connection->server->backend;
    struct resp_information information = {0};
    struct resp_cluster cluster;
    backend->get_information(backend->context, &information);
    resp__cluster_describe(connection, &cluster);
    uint32_t replica_count = 0;
    for (uint32_t i = 0; i < cluster.node_count; i++) {
        replica_count += is_replica_online(&cluster, &cluster.nodes[i]);
    }
    reply_array(reply, 3);
    reply_bulk_text(reply, "master");
    reply_integer(reply, (int64_t)information.applied_index);
    reply_array(reply, replica_count);
    for (uint32_t i = 0; i < cluster.node_count; i++) {
        const struct cluster_node *node = &cluster.nodes[i];
        if (is_replica_online(&cluster, node)) {
            reply_array(reply, 3);
            reply_bulk_text(reply, node->host);
            reply_bulk_integer(reply, node->node.port);
            reply_bulk_integer(reply, (int64_t)node->node.offset);
        }
    }
    resp__cluster_deinit(&cluster);
    return HANDLED_DONE;
}

/* ---- The rest -------------------------------------------------------------------------------- */

static void section_cpu(struct report *report)
{
    uint64_t user_us;
    uint64_t system_us;
    os_processor_time_us(&user_us, &system_us);
    buffer_append_format(&report->text, "used_cpu_sys:%.6f\r\nused_cpu_user:%.6f\r\n",
                         (double)system_us / 1e6, (double)user_us / 1e6);
}

static void section_commandstats(struct report *report)
{
    const struct resp_group *group = report->server->group;
    for (uint32_t i = 0; i < group->commands.entry_count; i++) {
        struct {
            uint64_t call_count;
            uint64_t failed_count;
            uint64_t rejected_count;
            uint64_t time_ns;
        } sum = {0};
        for (uint32_t j = 0; j < group->server_count; j++) {
            const struct command_counters *counters = &group->servers[j]->counters[i];
            sum.call_count += COUNTER_READ(counters->call_count);
            sum.failed_count += COUNTER_READ(counters->failed_count);
            sum.rejected_count += COUNTER_READ(counters->rejected_count);
            sum.time_ns += COUNTER_READ(counters->time_ns);
        }
        if (sum.call_count + sum.rejected_count == 0) {
            continue;
        }
        double time_us = (double)sum.time_ns / 1e3;
        buffer_append_format(
            &report->text,
            "cmdstat_%s:calls=%llu,usec=%.0f,usec_per_call=%.2f,rejected_calls=%llu,"
            "failed_calls=%llu\r\n",
            group->commands.entries[i].command->name, (number)sum.call_count, time_us,
            sum.call_count == 0 ? 0.0 : time_us / (double)sum.call_count,
            (number)sum.rejected_count, (number)sum.failed_count);
    }
}

static void section_errorstats(struct report *report)
{
    resp__error_append(report->server->group, &report->text);
}

static void section_latencystats(struct report *report)
{
    for (uint32_t i = 0; i < KV_FAMILY_COUNT; i++) {
        const struct histogram *histogram = &report->statistics->latencies_ns[i];
        if (histogram->count > 0) {
            buffer_append_format(&report->text,
                                 "latency_percentiles_usec_family_%s:p50=%.3f,p99=%.3f,"
                                 "p99.9=%.3f\r\n",
                                 kv_family_name((enum kv_family)i),
                                 (double)histogram_quantile(histogram, 500) / 1e3,
                                 (double)histogram_quantile(histogram, 990) / 1e3,
                                 (double)histogram_quantile(histogram, 999) / 1e3);
        }
    }
}

static void section_cluster(struct report *report)
{
    const struct resp_cluster *cluster = &report->cluster;
    uint32_t online_count = 0;
    for (uint32_t i = 0; i < cluster->node_count; i++) {
        online_count += cluster->nodes[i].node.is_online;
    }
    line(report, "cluster_enabled", 1); /* Cluster-aware clients may come; others need not know. */
    line_text(report, "cluster_node_id", cluster->self->id);
    line(report, "cluster_nodes", cluster->node_count);
    line(report, "cluster_nodes_online", online_count);
    line(report, "cluster_slots_led", cluster->self->led_slot_count);
}

static void section_keyspace(struct report *report)
{
    const struct resp_information *information = &report->information;
    if (information->key_count > 0) {
        buffer_append_format(&report->text, "db0:keys=%llu,expires=%llu,avg_ttl=0\r\n",
                             (number)information->key_count,
                             (number)information->expiring_key_count);
    }
}

static const struct {
    const char *name;
    const char *title;
    void (*write)(struct report *report);
    bool is_default;
} sections[] = {
    {"server", "Server", section_server, true},
    {"clients", "Clients", section_clients, true},
    {"memory", "Memory", section_memory, true},
    {"persistence", "Persistence", section_persistence, true},
    {"stats", "Stats", section_stats, true},
    {"replication", "Replication", section_replication, true},
    {"cpu", "CPU", section_cpu, true},
    {"commandstats", "Commandstats", section_commandstats, false},
    {"errorstats", "Errorstats", section_errorstats, true},
    {"latencystats", "Latencystats", section_latencystats, false},
    {"cluster", "Cluster", section_cluster, true},
    {"keyspace", "Keyspace", section_keyspace, true},
};

static bool is_wanted(uint32_t section, const struct bytes *arguments, uint32_t count)
{
    bool is_default = count == 1 && sections[section].is_default;
    for (uint32_t i = 1; i < count && !is_default; i++) {
        is_default = resp__is(arguments[i], sections[section].name) ||
                     resp__is(arguments[i], "all") || resp__is(arguments[i], "everything") ||
                     (resp__is(arguments[i], "default") && sections[section].is_default);
    }
    return is_default;
}

RESP_HANDLER(info)
{
    struct report report = {.server = connection->server};
    const struct resp_backend *backend = report.server->backend;
    backend->get_information(backend->context, &report.information);
    report.statistics = memory_allocate(sizeof *report.statistics);
    resp_group_get_statistics(report.server->group, report.statistics);
    resp__cluster_describe(connection, &report.cluster);
    for (uint32_t i = 0; i < COUNT_OF(sections); i++) {
        if (is_wanted(i, arguments, count)) {
            buffer_append_format(&report.text, "%s# %s\r\n",
                                 report.text.size_bytes == 0 ? "" : "\r\n", sections[i].title);
            sections[i].write(&report);
        }
    }
    reply_verbatim(reply, "txt", buffer_bytes(&report.text));
    resp__cluster_deinit(&report.cluster);
    memory_free(report.statistics);
    buffer_deinit(&report.text);
    return HANDLED_DONE;
}
