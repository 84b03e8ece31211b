/* SPDX-License-Identifier: Apache-2.0 */
/* trace: what a core says of itself, and where the simulator reaches in. Layer: base.
 *
 * Cores do not log. They emit trace records: a stable dotted name and up to four numbers. Each
 * thread keeps its last TRACE_RECENT_COUNT records in a ring, printed when an assertion fires. The
 * simulator sets a sink on its thread and gets every record; data-driven tests compare them.
 *
 * FAULT("module.name") asks whether the simulator wants this fault here; without a simulator it is
 * always false. PROBE("module.name") marks a rare branch, so that a run can tell whether it was
 * taken. A build with TUTTI_PLANTED_BUGS lets the simulator switch deliberate bugs on, to prove
 * that it finds them: BUG("module.name") is a constant false otherwise. */
#ifndef BASE_TRACE_TRACE_H
#define BASE_TRACE_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TRACE_RECENT_COUNT 1000
#define TRACE_VALUE_COUNT 4

struct trace_record {
    const char *name; /* A string literal. */
    uint64_t values[TRACE_VALUE_COUNT];
};

/* What the simulator gives its thread. A NULL member is not called. */
struct trace_hooks {
    void *context;
    void (*record)(void *context, const struct trace_record *record);
    bool (*fault)(void *context, const char *name);
    void (*probe)(void *context, const char *name);
    bool (*bug)(void *context, const char *name);
};

/* Set the hooks of this thread (borrowed until replaced), or NULL for none. */
void trace_set_hooks(const struct trace_hooks *hooks);

/* Emit a record. `name` must be a string literal. */
void trace_emit(const char *name, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

/* Print this thread's recent records, oldest first. */
void trace_print_recent(FILE *file);

bool trace_fault(const char *name);
void trace_probe(const char *name);
bool trace_bug(const char *name);

#define TRACE(name, a, b, c, d) \
    trace_emit("" name, (uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d))
#define FAULT(name) trace_fault("" name)
#define PROBE(name) trace_probe("" name)

#ifdef TUTTI_PLANTED_BUGS
#define BUG(name) trace_bug("" name)
#else
#define BUG(name) false
#endif

#endif
