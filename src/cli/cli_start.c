/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"
#include "driver/config/config.h"
#include "driver/os/os.h"
#include "node/node.h"

static void print_help(void)
{
    struct buffer text = {0};
    buffer_append(&text,
                  BYTES("Usage: tutti start [options]\n\n"
                        "Start a node and serve until SIGTERM or Ctrl-C. Needs no options.\n\n"
                        "Options\n"));
    config_help(&config_start_table, &text);
    buffer_append(
        &text, BYTES("\nExit codes\n"
                     "  0  stopped when asked to, or removed from the cluster\n"
                     "  1  did not start; the message says why\n"
                     "  2  flags, variables or the configuration file are wrong\n"
                     "  3  a flush or the store failed while serving; stopped at once, nothing\n"
                     "     that was not durable was acknowledged; or SIGTERM came while the log\n"
                     "     waited for space on the disk, and there was none for three seconds\n"));
    (void)fwrite(text.data, 1, text.size_bytes, stdout);
    buffer_deinit(&text);
}

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

int cli_start(int argument_count, const char *const *arguments, const char *const *environment)
{
    struct config_sources sources = {
        .argument_count = argument_count, .arguments = arguments, .environment = environment};
    if (config_is_help_wanted(&sources)) {
        print_help();
        return CLI_EXIT_OK;
    }
    struct error error = {0};
    static struct config_start configuration;
    if (config_start_load(&sources, &configuration, &error) != 0) {
        (void)fprintf(stderr, "tutti start: %s\nTry: tutti start --help\n", error.message);
        return NODE_EXIT_USAGE;
    }
    os_ignore_broken_pipes();
    struct os_log_options log_options = {
        .descriptor = 2,
        .format = (enum os_log_format)configuration.log_format,
        .level = (enum os_log_level)configuration.log_level,
    };
    struct os_log *log = os_log_create(&log_options);
    struct node_options options = {
        .data_directory = configuration.data,
        .configuration_file = text_or_null(configuration.config),
        .redis = configuration.redis,
        .admin = configuration.admin,
        .peer = configuration.peer,
        .advertise = text_or_null(configuration.advertise),
        .zone = configuration.zone,
        .join = text_or_null(configuration.join),
        .join_token = text_or_null(configuration.token),
        .replica_count = (uint32_t)configuration.replicas,
        .shard_count = (uint32_t)configuration.shards,
        .split_size_bytes = configuration.split_size,
        .split_load_per_s = configuration.split_load,
        .reactor_count = configuration.reactors != 0
                             ? (uint32_t)configuration.reactors
                             : node_default_reactor_count(os_processor_count()),
        .memory_size_bytes = configuration.memory,
        .password = text_or_null(configuration.requirepass),
        .is_flush_always = configuration.flush == CONFIG_FLUSH_ALWAYS,
        .is_connection_ordered = configuration.pipeline_order == CONFIG_ORDER_CONNECTION,
        .log = log,
    };
    int exit_code = node_run(&options, &error);
    if (exit_code != NODE_EXIT_OK) {
        OS_LOG_ERROR(log, "node.start_failed", "reason=%s", error.message);
    }
    os_log_destroy(log);
    return exit_code;
}
