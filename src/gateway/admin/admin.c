/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/admin/admin.h"

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/http/http.h"
#include "gateway/admin/admin_internal.h"

struct admin_server {
    struct http_server *http;
    struct admin_source source;
    uint64_t started_wall_ms;
    uint64_t open_files_max;
};

/* What Prometheus calls so for every process. */
static void collect_process(const struct admin_server *server, struct metrics *metrics)
{
    uint64_t user_us = 0;
    uint64_t system_us = 0;
    os_processor_time_us(&user_us, &system_us);
    metrics_counter_real(metrics, "process_cpu_seconds_total",
                         "Processor time used, in user and system mode.", METRICS_NO_LABELS,
                         (double)(user_us + system_us) / 1e6);
    metrics_gauge(metrics, "process_resident_memory_bytes", "Resident memory.", METRICS_NO_LABELS,
                  (double)os_memory_resident_bytes());
    metrics_gauge(metrics, "process_open_fds", "Open files and connections.", METRICS_NO_LABELS,
                  (double)os_open_files_count());
    metrics_gauge(metrics, "process_max_fds", "Most files and connections that may be open.",
                  METRICS_NO_LABELS, (double)server->open_files_max);
    metrics_gauge(metrics, "process_start_time_seconds", "When the process started, since 1970.",
                  METRICS_NO_LABELS, (double)server->started_wall_ms / 1e3);
    metrics_counter(metrics, "tutti_admin_requests_total", "HTTP requests to the admin port.",
                    METRICS_NO_LABELS, http_server_request_count(server->http));
    metrics_counter(metrics, "tutti_admin_refused_requests_total",
                    "HTTP requests to the admin port that were malformed.", METRICS_NO_LABELS,
                    http_server_refused_count(server->http));
}

static struct metrics *collect(const struct admin_server *server)
{
    struct metrics *metrics = admin__metrics_create();
    server->source.collect(server->source.context, metrics);
    collect_process(server, metrics);
    return metrics;
}

static struct admin_verdict judge(const struct admin_server *server)
{
    struct admin_verdict verdict = {0};
    server->source.judge(server->source.context, &verdict);
    return verdict;
}

/* ---- Pages ----------------------------------------------------------------------------------- */

static void show_metrics(const struct admin_server *server, struct http_response *response)
{
    struct metrics *metrics = collect(server);
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    admin__write_prometheus(metrics, &response->body);
    admin__metrics_destroy(metrics);
}

static void show_status(const struct admin_server *server, struct http_response *response)
{
    struct metrics *metrics = collect(server);
    struct admin_verdict verdict = judge(server);
    response->content_type = "application/json";
    admin__write_json(metrics, &verdict, server->source.run, &response->body);
    admin__metrics_destroy(metrics);
}

static void show_status_text(const struct admin_server *server, struct http_response *response)
{
    struct metrics *metrics = collect(server);
    struct admin_verdict verdict = judge(server);
    admin__write_text(metrics, &verdict, &response->body);
    admin__metrics_destroy(metrics);
}

static void show_health(const struct admin_server *server, struct http_response *response)
{
    (void)server; /* That this runs is the answer. */
    buffer_append(&response->body, BYTES("ok\n"));
}

static void show_readiness(const struct admin_server *server, struct http_response *response)
{
    struct admin_verdict verdict = judge(server);
    response->status = verdict.is_ready ? 200 : 503;
    buffer_append_format(&response->body, "%s\n", verdict.text);
}

static void show_index(const struct admin_server *server, struct http_response *response);

static const struct page {
    const char *path;
    void (*show)(const struct admin_server *server, struct http_response *response);
    const char *help;
} pages[] = {
    {"/", show_index, "this list"},
    {"/status.txt", show_status_text, "how the node is, for people"},
    {"/status", show_status, "the same as JSON"},
    {"/metrics", show_metrics, "figures for Prometheus"},
    {"/healthz", show_health, "200 while the process answers"},
    {"/readyz", show_readiness, "200 when clients are served, 503 otherwise"},
};

static void show_index(const struct admin_server *server, struct http_response *response)
{
    (void)server;
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        buffer_append_format(&response->body, "%-12s %s\n", pages[i].path, pages[i].help);
    }
}

static void handle(const struct http_request *request, struct http_response *response,
                   void *context)
{
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        if (bytes_equal(request->path, bytes_of_text(pages[i].path))) {
            response->status = 200;
            pages[i].show(context, response);
            return;
        }
    }
    const struct admin_source *source = &((struct admin_server *)context)->source;
    if (source->handle != NULL && source->handle(source->context, request, response)) {
        return;
    }
    response->status = 404;
    buffer_append(&response->body, BYTES("There is no such page. There are:\n"));
    show_index(context, response);
}

/* ---- Life ------------------------------------------------------------------------------------ */

int admin_server_open(struct admin_server **server, struct os_loop *loop,
                      const struct os_listener_options *listener, const struct admin_source *source,
                      struct error *error)
{
    ASSERT(source->judge != NULL);
    ASSERT(source->collect != NULL);
    struct admin_server *opened = memory_allocate_zeroed(1, sizeof *opened);
    opened->source = *source;
    opened->started_wall_ms = os_wall_clock_ms();
    opened->open_files_max = os_open_files_raise();
    struct http_server_options options = {
        .listener = *listener, .handle = handle, .context = opened};
    int status = http_server_open(&opened->http, loop, &options, error);
    if (status != 0) {
        memory_free(opened);
        return status;
    }
    *server = opened;
    return 0;
}

void admin_server_close(struct admin_server *server)
{
    if (server != NULL) {
        http_server_close(server->http);
        memory_free(server);
    }
}

struct os_address admin_server_address(const struct admin_server *server)
{
    return http_server_address(server->http);
}
