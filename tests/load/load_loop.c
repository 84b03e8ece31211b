/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/memory/memory.h"
#include "base/number/number.h"
#include "load.h"

enum {
    INPUT_SIZE_BYTES = 256 << 10,
    EVENT_COUNT_MAX = 1024,
    NOISE_SIZE_BYTES = 256 << 10,
    RETRY_AFTER_NS = 5000000,
    RETRY_POLL_MS = 1,
    IDLE_POLL_MS = 100,
    REFUSALS_SHOWN_MAX = 3,
};

struct load_retry {
    struct load_connection *connection;
    uint32_t client;
    uint64_t at_ns;
};

void load_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("tutti-load: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

uint64_t load_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

bool load_next_key(struct load *load, char *key)
{
    uint64_t number = 0;
    if (load->options.operation == LOAD_FILL) {
        if (load->next_fill == load->options.key_count) {
            return false;
        }
        number = load->next_fill++;
    } else {
        number = random_below(&load->random, load->options.key_count);
    }
    memcpy(key, "key:", 4);
    for (int i = LOAD_KEY_SIZE_BYTES - 1; i >= 4; i--) {
        key[i] = (char)('0' + number % 10);
        number /= 10;
    }
    return true;
}

struct bytes load_next_value(struct load *load)
{
    size_t size_bytes = load->options.value_size_bytes;
    size_t start = random_below(&load->random, NOISE_SIZE_BYTES - size_bytes);
    return bytes_make(load->noise + start, size_bytes);
}

static void note_pause(struct load *load, uint64_t now_ns)
{
    if (now_ns - load->last_answer_ns >= load->options.pause_ns &&
        load->pause_count < LOAD_PAUSE_COUNT_MAX) {
        load->pauses[load->pause_count++] =
            (struct load_pause){.from_ns = load->last_answer_ns, .until_ns = now_ns};
    }
}

void load_answered(struct load *load, uint64_t sent_ns, uint32_t count)
{
    uint64_t now_ns = load_now_ns();
    note_pause(load, now_ns);
    load->last_answer_ns = now_ns;
    load->answer_count += count;
    if (now_ns < load->measured_from_ns || now_ns >= load->until_ns) {
        return;
    }
    uint64_t latency_ns = now_ns - sent_ns;
    load->measured_count += count;
    load->longest_ns = latency_ns > load->longest_ns ? latency_ns : load->longest_ns;
    if (load->latency_count < LOAD_LATENCY_COUNT_MAX) {
        uint64_t units = latency_ns / LOAD_LATENCY_UNIT_NS;
        load->latencies[load->latency_count++] = units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
    }
}

void load_refused(struct load_connection *connection, uint32_t client, struct bytes reason)
{
    struct load *load = connection->load;
    if (load->options.operation == LOAD_FILL) {
        load_fail("the fill was refused: %.*s", (int)reason.size_bytes, reason.data);
    }
    if (load->error_count++ < REFUSALS_SHOWN_MAX) {
        (void)fprintf(stderr, "tutti-load: refused: %.*s\n", (int)reason.size_bytes, reason.data);
    }
    load->retries[load->retry_tail++ % load->options.client_count] = (struct load_retry){
        .connection = connection, .client = client, .at_ns = load_now_ns() + RETRY_AFTER_NS};
}

static int dial(const char *node)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    const char *colon = strrchr(node, ':');
    char host[INET_ADDRSTRLEN];
    uint64_t port = 0;
    if (colon == NULL || (size_t)(colon - node) >= sizeof host ||
        !number_parse_unsigned(bytes_of_text(colon + 1), &port) || port > UINT16_MAX) {
        load_fail("%s is not HOST:PORT", node);
    }
    memcpy(host, node, (size_t)(colon - node));
    host[colon - node] = '\0';
    address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        load_fail("%s is not an IPv4 address", host);
    }
    int one = 1;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0 ||
        connect(descriptor, (const struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0 ||
        fcntl(descriptor, F_SETFL, O_NONBLOCK) != 0) {
        load_fail("connect to %s: %s", node, strerror(errno));
    }
    return descriptor;
}

static void watch(int poll_set, int operation, struct load_connection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(poll_set, operation, connection->socket, &event) != 0) {
        load_fail("epoll_ctl: %s", strerror(errno));
    }
}

/* Send what the protocol appended. What the socket does not take goes out when it is writable,
 * which edge-triggered polling tells. */
static void flush(struct load_connection *connection)
{
    struct buffer *output = &connection->output;
    while (connection->sent_bytes < output->size_bytes) {
        ssize_t sent = send(connection->socket, output->data + connection->sent_bytes,
                            output->size_bytes - connection->sent_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            return;
        }
        if (sent < 0) {
            load_fail("send to %s: %s", connection->authority, strerror(errno));
        }
        connection->sent_bytes += (size_t)sent;
    }
    buffer_clear(output);
    connection->sent_bytes = 0;
}

static void receive(struct load_connection *connection, uint8_t *input)
{
    for (;;) {
        ssize_t received = recv(connection->socket, input, INPUT_SIZE_BYTES, 0);
        if (received < 0 && errno == EAGAIN) {
            break;
        }
        if (received <= 0) {
            load_fail("%s closed the connection%s%s", connection->authority,
                      received < 0 ? ": " : "", received < 0 ? strerror(errno) : "");
        }
        connection->load->options.protocol->receive(connection,
                                                    bytes_make(input, (size_t)received));
        if (received < INPUT_SIZE_BYTES) {
            break;
        }
    }
    flush(connection);
}

static void send_again(struct load *load, uint64_t now_ns)
{
    while (load->retry_head < load->retry_tail) {
        struct load_retry retry = load->retries[load->retry_head % load->options.client_count];
        if (retry.at_ns > now_ns) {
            return;
        }
        load->retry_head++;
        load->options.protocol->send(retry.connection, retry.client);
        flush(retry.connection);
    }
}

static void open_all(struct load *load, struct load_connection *connections, uint32_t count,
                     int poll_set)
{
    uint32_t client = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct load_connection *connection = &connections[i];
        const char *node = load->options.nodes[i % load->options.node_count];
        uint32_t left = load->options.client_count - client;
        uint32_t most = load->options.clients_per_connection;
        *connection = (struct load_connection){.load = load,
                                               .socket = dial(node),
                                               .first_client = client,
                                               .client_count = left < most ? left : most};
        (void)snprintf(connection->authority, sizeof connection->authority, "%s", node);
        client += connection->client_count;
        load->options.protocol->open(connection);
        watch(poll_set, EPOLL_CTL_ADD, connection, EPOLLIN | EPOLLOUT | EPOLLET);
    }
}

static bool is_over(const struct load *load, uint64_t now_ns)
{
    if (load->options.operation == LOAD_FILL) {
        return load->answer_count == load->options.key_count;
    }
    return now_ns >= load->until_ns;
}

static void prepare(struct load *load)
{
    random_init(&load->random, load_now_ns());
    load->noise = memory_allocate(NOISE_SIZE_BYTES);
    for (size_t i = 0; i < NOISE_SIZE_BYTES; i++) {
        load->noise[i] = (uint8_t)random_next(&load->random);
    }
    load->latencies = memory_allocate(LOAD_LATENCY_COUNT_MAX * sizeof *load->latencies);
    load->retries = memory_allocate_zeroed(load->options.client_count, sizeof *load->retries);
}

void load_run(struct load *load)
{
    prepare(load);
    uint32_t per_connection = load->options.clients_per_connection;
    uint32_t count = (load->options.client_count + per_connection - 1) / per_connection;
    struct load_connection *connections = memory_allocate_zeroed(count, sizeof *connections);
    uint8_t *input = memory_allocate(INPUT_SIZE_BYTES);
    int poll_set = epoll_create1(EPOLL_CLOEXEC);
    open_all(load, connections, count, poll_set);

    uint64_t now_ns = load_now_ns();
    load->last_answer_ns = now_ns;
    load->measured_from_ns = now_ns + load->options.warm_up_ns;
    load->until_ns = load->measured_from_ns + load->options.duration_ns;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t client = 0; client < connections[i].client_count; client++) {
            load->options.protocol->send(&connections[i], client);
        }
        flush(&connections[i]);
    }
    while (!is_over(load, now_ns)) {
        struct epoll_event events[EVENT_COUNT_MAX];
        bool has_retries = load->retry_head < load->retry_tail;
        int ready = epoll_wait(poll_set, events, EVENT_COUNT_MAX,
                               has_retries ? RETRY_POLL_MS : IDLE_POLL_MS);
        for (int i = 0; i < ready; i++) {
            if ((events[i].events & EPOLLOUT) != 0) {
                flush(events[i].data.ptr);
            }
            receive(events[i].data.ptr, input);
        }
        now_ns = load_now_ns();
        send_again(load, now_ns);
    }
    note_pause(load, now_ns);
    if (load->until_ns > now_ns) {
        load->until_ns = now_ns; /* A fill ends when it is done. */
    }
}
