/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace/trace.h"

#include <inttypes.h>
#include <stddef.h>

static _Thread_local const struct trace_hooks *hooks;
static _Thread_local struct trace_record recent[TRACE_RECENT_COUNT];
static _Thread_local uint64_t emitted_count;

void trace_set_hooks(const struct trace_hooks *wanted)
{
    hooks = wanted;
}

void trace_emit(const char *name, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    struct trace_record *record = &recent[emitted_count++ % TRACE_RECENT_COUNT];
    *record = (struct trace_record){name, {a, b, c, d}};
    if (hooks != NULL && hooks->record != NULL) {
        hooks->record(hooks->context, record);
    }
}

void trace_print_recent(FILE *file)
{
    uint64_t first = emitted_count > TRACE_RECENT_COUNT ? emitted_count - TRACE_RECENT_COUNT : 0;
    for (uint64_t i = first; i < emitted_count; i++) {
        const struct trace_record *record = &recent[i % TRACE_RECENT_COUNT];
        (void)fprintf(file,
                      "trace %" PRIu64 " %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", i,
                      record->name, record->values[0], record->values[1], record->values[2],
                      record->values[3]);
    }
}

bool trace_fault(const char *name)
{
    return hooks != NULL && hooks->fault != NULL && hooks->fault(hooks->context, name);
}

void trace_probe(const char *name)
{
    if (hooks != NULL && hooks->probe != NULL) {
        hooks->probe(hooks->context, name);
    }
}

bool trace_bug(const char *name)
{
    return hooks != NULL && hooks->bug != NULL && hooks->bug(hooks->context, name);
}
