/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver/http/http.h"
#include "driver/json/json.h"
#include "gateway/admin/admin_internal.h"

/* ---- A strict reader of the format of Prometheus --------------------------------------------- */

enum { SERIES_COUNT_MAX = 512, TEXT_SIZE = 256 };

/* A line such as: name{label="value",…} 1.5 */
struct series {
    char id[TEXT_SIZE]; /* Name and labels, without `le`. */
    char name[TEXT_SIZE];
    char bound[TEXT_SIZE]; /* Of le; empty when there is none. */
    double value;
};

struct reader {
    const char *place;
    uint32_t line;
    char family[TEXT_SIZE];
    char kind[TEXT_SIZE];
    char seen_families[SERIES_COUNT_MAX][TEXT_SIZE];
    uint32_t family_count;
    char seen_lines[SERIES_COUNT_MAX][2 * TEXT_SIZE];
    uint32_t series_count;
    struct series last_bucket;
    char problem[TEXT_SIZE];
};

static bool complain(struct reader *reader, const char *problem)
{
    (void)snprintf(reader->problem, sizeof reader->problem, "line %u: %s", reader->line, problem);
    return false;
}

static bool take_name(struct reader *reader, char *name, bool is_label)
{
    size_t size = 0;
    for (const char *each = reader->place;
         isalnum((unsigned char)*each) || *each == '_' || (*each == ':' && !is_label); each++) {
        size++;
    }
    if (size == 0 || size >= TEXT_SIZE || isdigit((unsigned char)*reader->place)) {
        return complain(reader, "a name is expected");
    }
    memcpy(name, reader->place, size);
    name[size] = '\0';
    reader->place += size;
    return true;
}

static bool take(struct reader *reader, const char *text)
{
    if (strncmp(reader->place, text, strlen(text)) != 0) {
        return complain(reader, "something else is expected");
    }
    reader->place += strlen(text);
    return true;
}

static bool take_label(struct reader *reader, struct series *series)
{
    char name[TEXT_SIZE];
    char value[TEXT_SIZE];
    size_t size = 0;
    if (!take_name(reader, name, true) || !take(reader, "=\"")) {
        return false;
    }
    while (*reader->place != '"') {
        if (*reader->place == '\\' && strchr("\\\"n", reader->place[1]) == NULL) {
            return complain(reader, "an unknown escape");
        }
        if (*reader->place == '\n' || *reader->place == '\0' || size + 2 >= sizeof value) {
            return complain(reader, "a label does not end");
        }
        if (*reader->place == '\\') {
            value[size++] = *reader->place++;
        }
        value[size++] = *reader->place++;
    }
    value[size] = '\0';
    reader->place++;
    if (strcmp(name, "le") == 0) {
        memcpy(series->bound, value, size + 1);
        return true;
    }
    size_t used = strlen(series->id);
    (void)snprintf(series->id + used, sizeof series->id - used, ",%.60s=%.60s", name, value);
    return true;
}

static bool take_value(struct reader *reader, double *value)
{
    char *end = NULL;
    if (isspace((unsigned char)*reader->place)) {
        return complain(reader, "more than one space");
    }
    *value = strtod(reader->place, &end);
    if (end == reader->place || *end != '\n') {
        return complain(reader, "a number is expected");
    }
    reader->place = end + 1;
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    return strlen(text) >= strlen(end) && strcmp(text + strlen(text) - strlen(end), end) == 0;
}

/* Buckets rise, their bounds too, the last is +Inf and equals the count that follows. */
static bool check_histogram(struct reader *reader, const struct series *series)
{
    struct series *last = &reader->last_bucket;
    size_t size = strlen(reader->family);
    const char *part = series->name + size;
    if (strcmp(part, "_bucket") == 0) {
        bool is_same = strcmp(last->id, series->id) == 0;
        if (series->bound[0] == '\0' ||
            (is_same && strtod(series->bound, NULL) <= strtod(last->bound, NULL)) ||
            (is_same && series->value < last->value)) {
            return complain(reader, "buckets do not rise");
        }
        *last = *series;
        return true;
    }
    if (strcmp(last->bound, "+Inf") != 0) {
        return complain(reader, "the last bucket is not +Inf");
    }
    if (strcmp(part, "_count") == 0) {
        double total = last->value;
        *last = (struct series){0};
        return series->value == total || complain(reader, "the count is not that of the buckets");
    }
    return strcmp(part, "_sum") == 0 || complain(reader, "an unknown part of a histogram");
}

static bool check_series(struct reader *reader, const struct series *series)
{
    char line[2 * TEXT_SIZE];
    (void)snprintf(line, sizeof line, "%s le=%s", series->id, series->bound);
    for (uint32_t i = 0; i < reader->series_count; i++) {
        if (strcmp(reader->seen_lines[i], line) == 0) {
            return complain(reader, "a series stands twice");
        }
    }
    memcpy(reader->seen_lines[reader->series_count++], line, sizeof line);
    if (strncmp(series->name, reader->family, strlen(reader->family)) != 0) {
        return complain(reader, "not of the family above");
    }
    if (strcmp(reader->kind, "histogram") == 0) {
        return check_histogram(reader, series);
    }
    if (strcmp(series->name, reader->family) != 0) {
        return complain(reader, "not of the family above");
    }
    bool is_counter = strcmp(reader->kind, "counter") == 0;
    if (is_counter != ends_with(series->name, "_total") || (is_counter && series->value < 0)) {
        return complain(reader, "a counter ends in _total and is not negative");
    }
    return true;
}

static bool take_series(struct reader *reader)
{
    struct series series = {0};
    if (!take_name(reader, series.name, false)) {
        return false;
    }
    memcpy(series.id, series.name, sizeof series.id);
    if (*reader->place == '{') {
        do {
            reader->place++;
            if (!take_label(reader, &series)) {
                return false;
            }
        } while (*reader->place == ',');
        if (!take(reader, "}")) {
            return false;
        }
    }
    return take(reader, " ") && take_value(reader, &series.value) && check_series(reader, &series);
}

static bool take_head(struct reader *reader)
{
    char name[TEXT_SIZE];
    if (!take(reader, "# HELP ") || !take_name(reader, name, false) || !take(reader, " ")) {
        return false;
    }
    for (uint32_t i = 0; i < reader->family_count; i++) {
        if (strcmp(reader->seen_families[i], name) == 0) {
            return complain(reader, "a family stands twice");
        }
    }
    memcpy(reader->seen_families[reader->family_count++], name, sizeof name);
    memcpy(reader->family, name, sizeof name);
    size_t size = strcspn(reader->place, "\n");
    if (size < 10 || reader->place[size - 1] != '.') {
        return complain(reader, "help is a sentence");
    }
    reader->place += size;
    reader->line++;
    if (!take(reader, "\n# TYPE ") || !take_name(reader, name, false) || !take(reader, " ") ||
        strcmp(name, reader->family) != 0) {
        return complain(reader, "TYPE follows HELP, of the same name");
    }
    return take_name(reader, reader->kind, true) && take(reader, "\n");
}

static struct reader reader;

/* Check a whole page; the reader's problem is empty when it is right. */
static const char *check_page(const char *page)
{
    reader = (struct reader){.place = page, .line = 1};
    bool is_good = true;
    while (is_good && *reader.place != '\0') {
        is_good = *reader.place == '#' ? take_head(&reader) : take_series(&reader);
        reader.line++;
    }
    if (is_good && reader.last_bucket.id[0] != '\0') {
        (void)complain(&reader, "a histogram without its count");
    }
    return reader.problem;
}

/* ---- Figures --------------------------------------------------------------------------------- */

static struct histogram latencies;

static void collect_all_kinds(void *context, struct metrics *metrics)
{
    (void)context;
    struct histogram empty = {0};
    metrics_info(metrics, "tutti_build_info", "What is running.",
                 (struct metrics_labels){{{"version", "0.1.0"}, {"data", "/a \"b\"\n\\c"}}});
    metrics_counter(metrics, "tutti_wal_flushes_total", "Flushes of the log.", METRICS_NO_LABELS,
                    18446744073709551615ull);
    metrics_counter(metrics, "tutti_commands_total", "Commands that were executed.",
                    METRICS_LABEL("family", "string"), 7);
    metrics_histogram(metrics, "tutti_command_duration_seconds", "Time from request to reply.",
                      METRICS_LABEL("family", "string"), &latencies, METRICS_NANOSECONDS);
    metrics_counter(metrics, "tutti_commands_total", "Commands that were executed.",
                    METRICS_LABEL("family", "hash"), 8);
    metrics_histogram(metrics, "tutti_command_duration_seconds", "Time from request to reply.",
                      METRICS_LABEL("family", "hash"), &empty, METRICS_NANOSECONDS);
    metrics_gauge(metrics, "tutti_store_size_bytes", "Size of the store on disk.",
                  METRICS_NO_LABELS, 1.5 * 1024 * 1024 * 1024);
    metrics_gauge(metrics, "tutti_store_odd", "Not a number, to be sure.", METRICS_NO_LABELS, NAN);
    metrics_histogram(metrics, "tutti_wal_batch_bytes", "Bytes of a flush.", METRICS_NO_LABELS,
                      &latencies, METRICS_BYTES);
    metrics_histogram(metrics, "tutti_wal_batch_records", "Records of a flush.", METRICS_NO_LABELS,
                      &latencies, METRICS_ITEMS);
    metrics_counter_real(metrics, "tutti_store_stalled_seconds_total", "Time the store stalled.",
                         METRICS_NO_LABELS, 0.25);
}

static void judge_ready(void *context, struct admin_verdict *verdict)
{
    verdict->is_ready = *(bool *)context;
    (void)snprintf(verdict->text, sizeof verdict->text, "%s",
                   verdict->is_ready ? "Serving."
                                     : "Not serving yet: replaying the log, 40 % done.");
}

static void record_latencies(void)
{
    latencies = (struct histogram){0};
    for (uint64_t i = 0; i < 1000; i++) {
        histogram_record(&latencies, i * 1000);
    }
    histogram_record(&latencies, 60000000000ull); /* Beyond the last bound. */
}

static struct metrics *collected(void)
{
    record_latencies();
    struct metrics *metrics = admin__metrics_create();
    collect_all_kinds(NULL, metrics);
    return metrics;
}

/* Claim: our pages are what Prometheus reads: grouped, typed, escaped, histograms cumulative. */
static void test_prometheus_page(void **state)
{
    (void)state;
    struct metrics *metrics = collected();
    struct buffer page = {0};
    admin__write_prometheus(metrics, &page);
    buffer_append_byte(&page, 0);
    const char *text = (const char *)page.data;
    assert_string_equal(check_page(text), "");
    assert_non_null(strstr(text, "tutti_wal_flushes_total 18446744073709551615\n"));
    assert_non_null(
        strstr(text, "tutti_build_info{version=\"0.1.0\",data=\"/a \\\"b\\\"\\n\\\\c\"} 1\n"));
    assert_non_null(strstr(text, "tutti_store_odd NaN\n"));
    assert_non_null(strstr(
        text, "tutti_command_duration_seconds_bucket{family=\"string\",le=\"+Inf\"} 1001\n"));
    assert_non_null(strstr(text,
                           "tutti_command_duration_seconds_bucket{family=\"string\",le=\"10\"} "
                           "1000\n"));
    assert_non_null(strstr(text, "tutti_command_duration_seconds_count{family=\"hash\"} 0\n"));
    assert_non_null(strstr(text, "le=\"5e-05\""));
    buffer_deinit(&page);
    admin__metrics_destroy(metrics);
}

/* Claim: the checker above is not blind: each way to be wrong is found. */
static void test_checker_sees(void **state)
{
    (void)state;
    static const char head[] = "# HELP a_total Some help.\n# TYPE a_total counter\n";
    static const struct {
        const char *text;
        bool has_head;
    } wrong[] = {
        {"a_total 1\n", false},
        {"a_total  1\n", true},
        {"a_total 1", true},
        {"a_total x\n", true},
        {"a_total -1\n", true},
        {"b_total 1\n", true},
        {"a_total{l=\"x} 1\n", true},
        {"a_total{l=\"\\x\"} 1\n", true},
        {"a_total{1=\"x\"} 1\n", true},
        {"a_total{l=\"x\",} 1\n", true},
        {"a_total 1\na_total 2\n", true},
        {"a_total 1\n# HELP a_total Some help.\n# TYPE a_total counter\n", true},
        {"# HELP g Some help.\n# TYPE h gauge\n", false},
        {"# HELP g Some help.\n# TYPE g gauge\ng_total 1\n", false},
        {"# HELP h Some help.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\n",
         false},
        {"# HELP h Some help.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n",
         false},
        {"# HELP h Some help.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 3\n", false},
        {"# HELP h Some help.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\n", false},
    };
    char page[1024];
    (void)snprintf(page, sizeof page, "%sa_total{l=\"x\"} 1\na_total{l=\"y\"} 2e+07\n", head);
    assert_string_equal(check_page(page), "");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        (void)snprintf(page, sizeof page, "%s%s", wrong[i].has_head ? head : "", wrong[i].text);
        if (check_page(page)[0] == '\0') {
            fail_msg("not found: %s", page);
        }
    }
}

/* Claim: the JSON page has the verdict and every figure, with labels where there are some. */
static void test_json_page(void **state)
{
    (void)state;
    struct metrics *metrics = collected();
    struct admin_verdict verdict = {.is_ready = true, .text = "Serving."};
    struct buffer page = {0};
    struct json *json = NULL;
    struct error error = {0};
    admin__write_json(metrics, &verdict, "5ca1ab1e", &page);
    assert_int_equal(json_parse(&json, buffer_bytes(&page), &error), 0);
    assert_true(json_flag(json_get(json, "ready"), false));
    assert_string_equal(json_text(json_get(json, "verdict"), ""), "Serving.");
    const struct json *figures = json_get(json, "metrics");
    assert_string_equal(json_text(json_get(json_get(figures, "tutti_build_info"), "version"), ""),
                        "0.1.0");
    assert_string_equal(json_text(json_get(json, "run"), ""), "5ca1ab1e");
    const struct json *second = json_at(json_get(figures, "tutti_commands_total"), 1);
    assert_string_equal(json_text(json_get(json_get(second, "labels"), "family"), ""), "hash");
    assert_true(json_number(json_get(second, "value"), -1) == 8);
    const struct json *batch = json_get(figures, "tutti_wal_batch_bytes");
    assert_true(json_number(json_get(batch, "count"), -1) == 1001);
    assert_true(json_number(json_get(figures, "tutti_store_stalled_seconds_total"), -1) == 0.25);
    json_destroy(json);
    buffer_deinit(&page);
    admin__metrics_destroy(metrics);
}

/* Claim: people see the verdict first, then sections with figures in units that they know. */
static void test_text_page(void **state)
{
    (void)state;
    struct metrics *metrics = collected();
    struct admin_verdict verdict = {.is_ready = true, .text = "Serving."};
    struct buffer page = {0};
    admin__write_text(metrics, &verdict, &page);
    buffer_append_byte(&page, 0);
    const char *text = (const char *)page.data;
    assert_int_equal(strncmp(text, "Serving.\n\nbuild\n  version  ", 27), 0);
    assert_non_null(strstr(text, "\nstore\n  size                              1.5 GiB\n"));
    assert_non_null(
        strstr(text, "\ncommand\n  duration string                   1001 times, median "));
    assert_non_null(strstr(text, "\n  stalled                           250.00 ms\n"));
    assert_null(strstr(text, "\\n"));
    for (const char *section = strstr(text, "\nwal\n"); section != NULL;) {
        section = strstr(section + 1, "\nwal\n");
        assert_null(section); /* One section of a name, though its figures are not together. */
    }
    buffer_deinit(&page);
    admin__metrics_destroy(metrics);
}

/* ---- Over HTTP ------------------------------------------------------------------------------- */

static void run_loop(void *context)
{
    os_loop_run(context);
}

static int ask(const struct os_address *address, const char *target, struct buffer *body)
{
    struct http_answer answer = {0};
    struct error error = {0};
    assert_int_equal(http_get(address, target, 5000, &answer, &error), 0);
    buffer_clear(body);
    buffer_append(body, buffer_bytes(&answer.body));
    buffer_append_byte(body, 0);
    buffer_deinit(&answer.body);
    return answer.status;
}

/* Claim: each page is served with its status; readiness follows the verdict. */
static void test_server(void **state)
{
    (void)state;
    bool is_ready = false;
    struct os_loop *loop = NULL;
    struct os_thread *thread = NULL;
    struct admin_server *server = NULL;
    struct os_listener_options listener = {.flag = "--admin"};
    struct admin_source source = {
        .judge = judge_ready, .collect = collect_all_kinds, .context = &is_ready};
    record_latencies();
    assert_int_equal(os_loop_create(&loop, NULL), 0);
    assert_int_equal(os_address_parse(&listener.address, "127.0.0.1:0", NULL), 0);
    assert_int_equal(admin_server_open(&server, loop, &listener, &source, NULL), 0);
    struct os_address address = admin_server_address(server);
    assert_int_equal(os_thread_start(&thread, "admin", run_loop, loop, NULL), 0);
    struct buffer body = {0};
    assert_int_equal(ask(&address, "/metrics", &body), 200);
    assert_string_equal(check_page((const char *)body.data), "");
    assert_non_null(strstr((const char *)body.data, "\nprocess_resident_memory_bytes "));
    assert_int_equal(ask(&address, "/status", &body), 200);
    assert_int_equal(ask(&address, "/status.txt", &body), 200);
    assert_int_equal(strncmp((const char *)body.data, "Not serving yet", 15), 0);
    assert_int_equal(ask(&address, "/healthz", &body), 200);
    assert_int_equal(ask(&address, "/readyz?verbose", &body), 503);
    assert_non_null(strstr((const char *)body.data, "replaying the log"));
    assert_int_equal(ask(&address, "/metric", &body), 404);
    assert_non_null(strstr((const char *)body.data, "/metrics"));
    os_loop_stop(loop);
    os_thread_join(thread);
    admin_server_close(server);
    os_loop_destroy(loop);
    buffer_deinit(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prometheus_page), cmocka_unit_test(test_checker_sees),
        cmocka_unit_test(test_json_page),       cmocka_unit_test(test_text_page),
        cmocka_unit_test(test_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
