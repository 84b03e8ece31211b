/* SPDX-License-Identifier: Apache-2.0 */
/* load: clients in a closed loop against Redis-speaking nodes or etcd, for the benchmarks.
 *
 * One program for both protocols, so that both are timed by the same loop and the same clock. Each
 * client has one request outstanding (one batch of `pipeline` commands in RESP) and sends the next
 * when the answer is there. Connections are spread over the nodes in turn.
 *
 * A protocol is a table of three functions. The loop owns sockets, time and counting; a protocol
 * turns a client's turn into bytes appended to `output`, and bytes that came into load_answered()
 * or load_refused(), once per request. One thread; everything lives until the program ends. What
 * must not happen (a lost connection, bytes that are not the protocol) ends the program by
 * load_fail(): a measurement that stumbled is none. */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/random/random.h"

enum {
    LOAD_NODE_COUNT_MAX = 16,
    LOAD_KEY_SIZE_BYTES = 16,
    LOAD_VALUE_SIZE_BYTES_MAX = 4096,
    LOAD_PAUSE_COUNT_MAX = 4096,
};

enum load_operation {
    LOAD_WRITE, /* A random key. */
    LOAD_READ,  /* A random key, linearizably. */
    LOAD_FILL,  /* Each key once, in order; then the program ends. */
};

struct load;

struct load_connection {
    struct load *load;
    void *state; /* The protocol's. */
    struct buffer output;
    size_t sent_bytes; /* Of `output`. */
    uint32_t first_client;
    uint32_t client_count;
    int socket;
    char authority[64];
};

struct load_protocol {
    const char *name;
    /* The socket is connected. */
    void (*open)(struct load_connection *connection);
    /* The client (counted from 0 on this connection) sends its next request, if
     * load_next_key() has one. */
    void (*send)(struct load_connection *connection, uint32_t client);
    void (*receive)(struct load_connection *connection, struct bytes input);
};

extern const struct load_protocol load_protocol_resp;
extern const struct load_protocol load_protocol_etcd;

struct load_options {
    const struct load_protocol *protocol;
    enum load_operation operation;
    const char *nodes[LOAD_NODE_COUNT_MAX]; /* HOST:PORT, IPv4. */
    uint32_t node_count;
    uint32_t client_count;
    uint32_t clients_per_connection;
    uint32_t pipeline;
    uint64_t key_count;
    uint32_t value_size_bytes;
    uint64_t warm_up_ns;
    uint64_t duration_ns;
    uint64_t pause_ns; /* A time without any answer is a pause from here on. */
};

struct load_pause {
    uint64_t from_ns; /* On CLOCK_MONOTONIC, as all times. */
    uint64_t until_ns;
};

struct load {
    struct load_options options;
    struct random random;
    uint8_t *noise; /* Values are cut from it: they do not compress. */
    uint64_t next_fill;
    uint64_t measured_from_ns;
    uint64_t until_ns;
    uint64_t last_answer_ns;
    uint64_t answer_count; /* All that were answered, the warm-up included. */
    uint64_t measured_count;
    uint64_t error_count;
    uint64_t missing_count; /* Reads that found nothing. */
    uint32_t *latencies;    /* Of the measured requests, in units of LOAD_LATENCY_UNIT_NS. */
    uint64_t latency_count;
    uint64_t longest_ns;
    struct load_pause pauses[LOAD_PAUSE_COUNT_MAX];
    uint32_t pause_count;
    struct load_retry *retries; /* A ring of one place per client. */
    uint64_t retry_head;
    uint64_t retry_tail;
};

enum { LOAD_LATENCY_UNIT_NS = 100, LOAD_LATENCY_COUNT_MAX = 16 << 20 };

/* ---- for the protocols ---- */

uint64_t load_now_ns(void);

/* Write the next request's key, LOAD_KEY_SIZE_BYTES without a terminator; false when every key of a
 * fill was handed out. */
bool load_next_key(struct load *load, char *key);

/* `value_size_bytes` to write; borrowed until the next call. */
struct bytes load_next_value(struct load *load);

/* `count` requests that were sent together were answered; the client goes on with load_protocol.send. */
void load_answered(struct load *load, uint64_t sent_ns, uint32_t count);

/* The server refused; the client sends again a little later, when the loop calls
 * load_protocol.send. */
void load_refused(struct load_connection *connection, uint32_t client, struct bytes reason);

void load_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---- for main() ---- */

/* Connect all, run to the end. The caller has set `options`; the rest is zero. */
void load_run(struct load *load);

#endif
