/* SPDX-License-Identifier: Apache-2.0 */
/* The log as the core knows it: no payloads, terms as runs, the configurations of its tail. Terms
 * change rarely, so there are few runs, and most questions are about the newest. */
#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "base/trace/trace.h"
#include "core/raft/raft_internal.h"

enum { RUN_ROOM_MIN = 2 };

static uint32_t count_runs(const struct raft_options *options)
{
    uint32_t count = 1;
    if (options->entries != NULL) {
        for (raft_index i = 1; i <= options->last_index - options->first_index; i++) {
            count += options->entries[i].term != options->entries[i - 1].term ? 1u : 0u;
        }
    }
    return count;
}

void raft__log_init(struct raft_log *log, const struct raft_options *options)
{
    bool is_empty = options->last_index < options->first_index;
    log->run_capacity = RAFT_RUN_COUNT_MIN + (is_empty ? 0 : count_runs(options));
    log->first_index = options->first_index;
    log->last_index = options->first_index - 1;
    log->previous_term = options->previous_term;
    log->configurations[0] = (struct raft_known_configuration){
        .index = options->configuration_index, .configuration = options->configuration};
    log->configuration_count = 1;
    if (!is_empty && options->entries == NULL) {
        raft__log_append(log, options->last_term);
        log->last_index = options->last_index;
        return;
    }
    while (log->last_index < options->last_index) {
        const struct raft_entry *entry =
            &options->entries[log->last_index + 1 - options->first_index];
        raft__log_append(log, entry->term);
        if (entry->kind == RAFT_ENTRY_CONFIGURATION &&
            log->last_index > options->configuration_index) {
            raft__log_append_configuration(log, log->last_index, entry->configuration);
        }
    }
}

void raft__log_deinit(struct raft_log *log)
{
    memory_free(log->runs);
}

bool raft__log_get_term(const struct raft_log *log, raft_index index, raft_term *term)
{
    if (index > log->last_index || index + 1 < log->first_index) {
        return false;
    }
    for (uint32_t i = log->run_count; i > 0; i--) {
        if (log->runs[i - 1].index <= index) {
            *term = log->runs[i - 1].term;
            return true;
        }
    }
    ASSERT(index + 1 == log->first_index);
    *term = log->previous_term;
    return true;
}

raft_term raft__log_last_term(const struct raft_log *log)
{
    return log->run_count > 0 ? log->runs[log->run_count - 1].term : log->previous_term;
}

bool raft__log_can_append(const struct raft_log *log, raft_term term, raft_index commit_index)
{
    return log->run_count < log->run_capacity || raft__log_last_term(log) == term ||
           log->runs[1].index - 1 <= commit_index;
}

static void remove_runs(struct raft_log *log, uint32_t count)
{
    log->run_count -= count;
    for (uint32_t i = 0; i < log->run_count; i++) {
        log->runs[i] = log->runs[i + count];
    }
}

/* For one run more. */
static void make_room(struct raft_log *log)
{
    if (log->run_count == log->run_room) {
        log->run_room = log->run_room == 0 ? RUN_ROOM_MIN : 2 * log->run_room;
        log->runs = memory_resize(log->runs, log->run_room * sizeof log->runs[0]);
    }
}

void raft__log_append(struct raft_log *log, raft_term term)
{
    ASSERT(term >= raft__log_last_term(log));
    if (log->run_count == 0 || log->runs[log->run_count - 1].term != term) {
        if (log->run_count == log->run_capacity) {
            PROBE("raft.log.run_forgotten");
            raft__log_compact(log, log->runs[1].index - 1);
        }
        make_room(log);
        log->runs[log->run_count++] = (struct raft_run){.index = log->last_index + 1, .term = term};
    }
    log->last_index++;
}

void raft__log_append_configuration(struct raft_log *log, raft_index index,
                                    const struct raft_configuration *configuration)
{
    ASSERT(index > log->configurations[log->configuration_count - 1].index);
    if (log->configuration_count == RAFT_KNOWN_CONFIGURATION_COUNT_MAX) {
        log->configuration_count--;
        for (uint32_t i = 0; i < log->configuration_count; i++) {
            log->configurations[i] = log->configurations[i + 1];
        }
    }
    log->configurations[log->configuration_count++] =
        (struct raft_known_configuration){.index = index, .configuration = *configuration};
}

void raft__log_truncate(struct raft_log *log, raft_index index)
{
    ASSERT(index >= log->first_index && index <= log->last_index);
    log->last_index = index - 1;
    while (log->run_count > 0 && log->runs[log->run_count - 1].index >= index) {
        log->run_count--;
    }
    while (log->configurations[log->configuration_count - 1].index >= index &&
           !BUG("raft.truncated_configuration_kept")) {
        ASSERT(log->configuration_count > 1);
        log->configuration_count--;
    }
}

void raft__log_compact(struct raft_log *log, raft_index index)
{
    if (index < log->first_index) {
        return;
    }
    raft_term term = 0;
    bool is_known = raft__log_get_term(log, index, &term);
    ASSERT(is_known);
    uint32_t gone = 0;
    while (gone + 1 < log->run_count && log->runs[gone + 1].index <= index + 1) {
        gone++;
    }
    remove_runs(log, gone);
    if (index == log->last_index) {
        log->run_count = 0;
    } else {
        log->runs[0].index = number_max(log->runs[0].index, index + 1);
    }
    log->first_index = index + 1;
    log->previous_term = term;
}

void raft__log_reset(struct raft_log *log, raft_index index, raft_term term)
{
    log->first_index = index + 1;
    log->last_index = index;
    log->previous_term = term;
    log->run_count = 0;
}

void raft__log_set_configuration(struct raft_log *log, raft_index index,
                                 const struct raft_configuration *configuration)
{
    struct raft_known_configuration kept[RAFT_KNOWN_CONFIGURATION_COUNT_MAX];
    uint32_t kept_count = 1;
    kept[0] = (struct raft_known_configuration){.index = index, .configuration = *configuration};
    for (uint32_t i = 0; i < log->configuration_count; i++) {
        const struct raft_known_configuration *known = &log->configurations[i];
        if (known->index <= index || known->index > log->last_index) {
            continue;
        }
        if (kept_count == RAFT_KNOWN_CONFIGURATION_COUNT_MAX) {
            return; /* All that are known are newer. */
        }
        kept[kept_count++] = *known;
    }
    memcpy(log->configurations, kept, kept_count * sizeof *kept);
    log->configuration_count = kept_count;
}

raft_index raft__log_last_at_most(const struct raft_log *log, raft_index index, raft_term term)
{
    index = number_min(index, log->last_index);
    for (uint32_t i = log->run_count; i > 0; i--) {
        const struct raft_run *run = &log->runs[i - 1];
        if (run->index <= index) {
            if (run->term <= term) {
                return index;
            }
            index = run->index - 1;
        }
    }
    if (index + 1 == log->first_index && index > 0 && log->previous_term > term) {
        return index - 1;
    }
    return index;
}

const struct raft_known_configuration *raft__log_configuration_at(const struct raft_log *log,
                                                                  raft_index index)
{
    for (uint32_t i = log->configuration_count; i > 0; i--) {
        if (log->configurations[i - 1].index <= index) {
            return &log->configurations[i - 1];
        }
    }
    return NULL;
}
