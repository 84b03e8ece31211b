/* SPDX-License-Identifier: Apache-2.0 */
/* admin: what a node tells about itself, over HTTP. Layer: gateway.
 *
 *   /metrics      all figures, for Prometheus (text format 0.0.4)
 *   /status       the verdict and all figures, as JSON
 *   /status.txt   the same for people: the verdict first
 *   /healthz      200 while the process answers
 *   /readyz       200 when clients are served, 503 with the reason otherwise
 *   /             a list of these
 *
 * The admin does not know the node. It asks a source: for a verdict, and to write its figures into
 * a `struct metrics`, from which every page is made, so that no two pages differ.
 *
 * Names follow Prometheus: `tutti_` and the subject first, base units last (`_seconds`, `_bytes`),
 * then `_total` for counters. The second word is the section in which /status.txt shows the figure.
 *
 * A server belongs to one loop and its thread; the source is asked there. The status pages are 200
 * also when the node is not well: "well" in the JSON tells. */
#ifndef GATEWAY_ADMIN_ADMIN_H
#define GATEWAY_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error/error.h"
#include "base/histogram/histogram.h"
#include "driver/http/http.h"
#include "driver/os/os.h"

/* ---- Figures --------------------------------------------------------------------------------- */

struct metrics;

#define METRICS_LABEL_COUNT_MAX 4

struct metrics_label {
    const char *name;  /* A literal; NULL: this and later ones are not used. */
    const char *value; /* Borrowed for the call; any text. */
};

struct metrics_labels {
    struct metrics_label items[METRICS_LABEL_COUNT_MAX];
};

#define METRICS_NO_LABELS ((struct metrics_labels){0})
#define METRICS_LABEL(name, value) ((struct metrics_labels){{{(name), (value)}}})

/* What the recorded values of a histogram count; they are shown in base units. */
enum metrics_unit {
    METRICS_NANOSECONDS, /* Shown in seconds, bounds from 50 µs to 10 s. */
    METRICS_BYTES,       /* Bounds from 64 B to 1 GiB. */
    METRICS_ITEMS,       /* Bounds from 1 to 65536. */
};

/* Write one figure. `name` and `help` are literals; the samples of one name may come in any order
 * and between others, each with other labels, all with the same label names. */

/* What only grows while the process runs; the name ends in _total. */
void metrics_counter(struct metrics *metrics, const char *name, const char *help,
                     struct metrics_labels labels, uint64_t value);

/* The same in fractions, such as seconds. */
void metrics_counter_real(struct metrics *metrics, const char *name, const char *help,
                          struct metrics_labels labels, double value);

/* What goes up and down. */
void metrics_gauge(struct metrics *metrics, const char *name, const char *help,
                   struct metrics_labels labels, double value);

/* Facts that are text, as labels; the name ends in _info. */
void metrics_info(struct metrics *metrics, const char *name, const char *help,
                  struct metrics_labels labels);

/* Copies the histogram; it may be recorded into meanwhile. The name ends in _seconds, _bytes or in
 * what is counted. A bucket's count may miss values up to 12.5 % below its bound (see
 * base/histogram). */
void metrics_histogram(struct metrics *metrics, const char *name, const char *help,
                       struct metrics_labels labels, const struct histogram *histogram,
                       enum metrics_unit unit);

/* ---- Source and server ----------------------------------------------------------------------- */

#define ADMIN_VERDICT_SIZE 240

struct admin_verdict {
    bool is_ready;                 /* Clients are served. */
    bool is_well;                  /* And nobody needs to do anything. */
    char text[ADMIN_VERDICT_SIZE]; /* "Serving. Every answered write is on disk." */
};

struct admin_source {
    /* How the node is, in a sentence or two. */
    void (*judge)(void *context, struct admin_verdict *verdict);
    /* All its figures. Those of the process (memory, processor time, files) the admin adds
     * itself. */
    void (*collect)(void *context, struct metrics *metrics);
    /* May be NULL. Pages that the admin does not have: true when it was handled, as a handler of
     * driver/http does. */
    bool (*handle)(void *context, const struct http_request *request,
                   struct http_response *response);
    /* What names this start of the process, as "run" of /status; NULL: nothing does. Borrowed. */
    const char *run;
    void *context;
};

struct admin_server;

/* Give a server. Errors: those of os_listener_open(). */
MUST_USE int admin_server_open(struct admin_server **server, struct os_loop *loop,
                               const struct os_listener_options *listener,
                               const struct admin_source *source, struct error *error);

/* As http_server_close(). */
void admin_server_close(struct admin_server *server);

/* Where it listens, with the real port. */
struct os_address admin_server_address(const struct admin_server *server);

#endif
