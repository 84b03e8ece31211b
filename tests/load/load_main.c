/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of tutti-load, and its report: one JSON object on standard output.
 *
 * Every latency is kept, so quantiles are exact. A pipelined batch is one latency. Processor time
 * is that of this program: a load generator that needs most of a processor measures itself. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/number/number.h"
#include "load.h"

static const char usage[] =
    "Usage: tutti-load resp|etcd write|read|fill --nodes HOST:PORT[,HOST:PORT…] [options]\n"
    "  --clients N     each with one request or batch outstanding (64)\n"
    "  --streams N     clients that share a connection; etcd only (1)\n"
    "  --pipeline N    commands in a batch; resp only (1)\n"
    "  --keys N        keys drawn from, or filled (1000000)\n"
    "  --value BYTES   size of values (256)\n"
    "  --warm-up MS    not measured (500)\n"
    "  --time MS       measured (3000); a fill ends when it is done\n"
    "  --pause MS      report each time without any answer of at least so long (20)\n";

enum option_code {
    OPTION_NODES = 1,
    OPTION_CLIENTS,
    OPTION_STREAMS,
    OPTION_PIPELINE,
    OPTION_KEYS,
    OPTION_VALUE,
    OPTION_WARM_UP,
    OPTION_TIME,
    OPTION_PAUSE,
};

enum { NS_PER_MS = 1000000, CLIENT_COUNT_MAX = 100000, PIPELINE_MAX = 10000, MS_MAX = 3600000 };

static void misused(void)
{
    (void)fputs(usage, stderr);
    exit(2);
}

static uint64_t number_between(const char *text, uint64_t least, uint64_t most)
{
    uint64_t value = 0;
    if (!number_parse_unsigned(bytes_of_text(text), &value) || value < least || value > most) {
        (void)fprintf(stderr, "tutti-load: %s is not between %" PRIu64 " and %" PRIu64 "\n", text,
                      least, most);
        misused();
    }
    return value;
}

static void take_nodes(struct load_options *options, char *text)
{
    char *rest = NULL;
    for (char *node = strtok_r(text, ",", &rest); node != NULL; node = strtok_r(NULL, ",", &rest)) {
        if (options->node_count == LOAD_NODE_COUNT_MAX) {
            misused();
        }
        options->nodes[options->node_count++] = node;
    }
}

static void take_option(struct load_options *options, int code, char *text)
{
    switch (code) {
    case OPTION_NODES:
        take_nodes(options, text);
        break;
    case OPTION_CLIENTS:
        options->client_count = (uint32_t)number_between(text, 1, CLIENT_COUNT_MAX);
        break;
    case OPTION_STREAMS:
        options->clients_per_connection = (uint32_t)number_between(text, 1, CLIENT_COUNT_MAX);
        break;
    case OPTION_PIPELINE:
        options->pipeline = (uint32_t)number_between(text, 1, PIPELINE_MAX);
        break;
    case OPTION_KEYS:
        options->key_count = number_between(text, 1, UINT32_MAX);
        break;
    case OPTION_VALUE:
        options->value_size_bytes = (uint32_t)number_between(text, 1, LOAD_VALUE_SIZE_BYTES_MAX);
        break;
    case OPTION_WARM_UP:
        options->warm_up_ns = number_between(text, 0, MS_MAX) * NS_PER_MS;
        break;
    case OPTION_TIME:
        options->duration_ns = number_between(text, 1, MS_MAX) * NS_PER_MS;
        break;
    case OPTION_PAUSE:
        options->pause_ns = number_between(text, 1, MS_MAX) * NS_PER_MS;
        break;
    default:
        misused();
    }
}

static void read_arguments(struct load_options *options, int count, char **arguments)
{
    static const struct option known[] = {
        {"nodes", required_argument, NULL, OPTION_NODES},
        {"clients", required_argument, NULL, OPTION_CLIENTS},
        {"streams", required_argument, NULL, OPTION_STREAMS},
        {"pipeline", required_argument, NULL, OPTION_PIPELINE},
        {"keys", required_argument, NULL, OPTION_KEYS},
        {"value", required_argument, NULL, OPTION_VALUE},
        {"warm-up", required_argument, NULL, OPTION_WARM_UP},
        {"time", required_argument, NULL, OPTION_TIME},
        {"pause", required_argument, NULL, OPTION_PAUSE},
        {NULL, 0, NULL, 0},
    };
    int code = 0;
    while ((code = getopt_long(count, arguments, "", known, NULL)) != -1) {
        take_option(options, code, optarg);
    }
    if (count - optind != 2 || options->node_count == 0) {
        misused();
    }
    const char *protocol = arguments[optind];
    const char *operation = arguments[optind + 1];
    options->protocol = strcmp(protocol, "resp") == 0   ? &load_protocol_resp
                        : strcmp(protocol, "etcd") == 0 ? &load_protocol_etcd
                                                        : NULL;
    if (options->protocol == NULL) {
        misused();
    }
    if (strcmp(operation, "write") == 0) {
        options->operation = LOAD_WRITE;
    } else if (strcmp(operation, "read") == 0) {
        options->operation = LOAD_READ;
    } else if (strcmp(operation, "fill") == 0) {
        options->operation = LOAD_FILL;
    } else {
        misused();
    }
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static double quantile_ms(const struct load *load, uint64_t per_mille)
{
    if (load->latency_count == 0) {
        return 0;
    }
    uint64_t rank = (load->latency_count - 1) * per_mille / 1000;
    return (double)load->latencies[rank] * LOAD_LATENCY_UNIT_NS / NS_PER_MS;
}

static double processor_s(void)
{
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void report(struct load *load, double used_s)
{
    double seconds = (double)(load->until_ns - load->measured_from_ns) / 1e9;
    double whole_s = seconds + (double)load->options.warm_up_ns / 1e9;
    qsort(load->latencies, load->latency_count, sizeof *load->latencies, compare);
    (void)printf("{\"answers\": %" PRIu64 ", \"rate\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
                 "\"longest_ms\": %.4f, \"errors\": %" PRIu64 ", \"missing\": %" PRIu64
                 ", \"cpu_percent\": %.1f, \"cpu_us\": %.3f, \"pauses\": [",
                 load->answer_count, (double)load->measured_count / seconds, quantile_ms(load, 500),
                 quantile_ms(load, 990), (double)load->longest_ns / NS_PER_MS, load->error_count,
                 load->missing_count, 100 * used_s / whole_s,
                 load->answer_count > 0 ? used_s * 1e6 / (double)load->answer_count : 0);
    for (uint32_t i = 0; i < load->pause_count; i++) {
        (void)printf("%s[%" PRIu64 ", %" PRIu64 "]", i > 0 ? ", " : "", load->pauses[i].from_ns,
                     load->pauses[i].until_ns);
    }
    (void)printf("]}\n");
}

int main(int argument_count, char **arguments)
{
    static struct load load = {.options = {.client_count = 64,
                                           .clients_per_connection = 1,
                                           .pipeline = 1,
                                           .key_count = 1000000,
                                           .value_size_bytes = 256,
                                           .warm_up_ns = 500ULL * NS_PER_MS,
                                           .duration_ns = 3000ULL * NS_PER_MS,
                                           .pause_ns = 20ULL * NS_PER_MS}};
    read_arguments(&load.options, argument_count, arguments);
    if (load.options.operation == LOAD_FILL) {
        load.options.warm_up_ns = 0;
        load.options.duration_ns = (uint64_t)MS_MAX * NS_PER_MS;
    }
    double began_s = processor_s();
    load_run(&load);
    report(&load, processor_s() - began_s);
    return EXIT_SUCCESS;
}
