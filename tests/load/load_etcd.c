/* SPDX-License-Identifier: Apache-2.0 */
/* etcdserverpb.KV/Put and KV/Range: gRPC, which is HTTP/2 (by nghttp2) with a body of one byte "not
 * compressed", four of length, and a message of Protocol Buffers. The two requests are small enough
 * to be written by hand:
 *
 *   PutRequest    0x0a length key  0x12 length value
 *   RangeRequest  0x0a length key                      (linearizable unless field 7 says otherwise)
 *
 * Of a response only `grpc-status` is looked at, and whether a Range brought a value at all. Many
 * clients may share a connection, each with a stream at a time. */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <string.h>

#include "base/memory/memory.h"
#include "load.h"

enum {
    GRPC_HEADER_SIZE_BYTES = 5,
    BODY_SIZE_BYTES_MAX = LOAD_VALUE_SIZE_BYTES_MAX + 64,
    STREAM_WINDOW_BYTES = 1 << 20,
    CONNECTION_WINDOW_BYTES = 64 << 20,
    REASON_SIZE_BYTES = 128,
    FIELD_KEY = 0x0a,
    FIELD_VALUE = 0x12,
};

struct request {
    uint32_t client;
    bool is_well; /* grpc-status: 0 */
    uint64_t sent_ns;
    size_t answer_size_bytes;
    size_t body_read_bytes;
    size_t body_size_bytes;
    uint8_t body[BODY_SIZE_BYTES_MAX];
};

struct session {
    nghttp2_session *http;
    char reason[REASON_SIZE_BYTES]; /* The latest grpc-message. */
    struct request requests[];
};

static uint8_t *append_varint(uint8_t *at, size_t value)
{
    while (value > 127) {
        *at++ = (uint8_t)(value | 128);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *append_field(uint8_t *at, uint8_t field, struct bytes content)
{
    *at++ = field;
    at = append_varint(at, content.size_bytes);
    memcpy(at, content.data, content.size_bytes);
    return at + content.size_bytes;
}

/* False when a fill has no key left. */
static bool write_body(struct load *load, struct request *request)
{
    char key[LOAD_KEY_SIZE_BYTES];
    if (!load_next_key(load, key)) {
        return false;
    }
    uint8_t *message = request->body + GRPC_HEADER_SIZE_BYTES;
    uint8_t *end = append_field(message, FIELD_KEY, bytes_make(key, sizeof key));
    if (load->options.operation != LOAD_READ) {
        end = append_field(end, FIELD_VALUE, load_next_value(load));
    }
    size_t size_bytes = (size_t)(end - message);
    request->body[0] = 0;
    for (int i = 0; i < 4; i++) {
        request->body[1 + i] = (uint8_t)(size_bytes >> (24 - 8 * i));
    }
    request->body_size_bytes = GRPC_HEADER_SIZE_BYTES + size_bytes;
    request->body_read_bytes = 0;
    return true;
}

static ssize_t read_body(nghttp2_session *http, int32_t stream, uint8_t *target, size_t size_bytes,
                         uint32_t *flags, nghttp2_data_source *source, void *connection)
{
    struct request *request = source->ptr;
    size_t left = request->body_size_bytes - request->body_read_bytes;
    size_t count = left < size_bytes ? left : size_bytes;
    memcpy(target, request->body + request->body_read_bytes, count);
    request->body_read_bytes += count;
    if (count == left) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)count;
}

static nghttp2_nv header(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value),
                        .flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

/* Move what nghttp2 has to say into the connection's output. */
static void gather_output(struct load_connection *connection)
{
    struct session *session = connection->state;
    for (;;) {
        const uint8_t *data = NULL;
        ssize_t size_bytes = nghttp2_session_mem_send(session->http, &data);
        if (size_bytes < 0) {
            load_fail("HTTP/2: %s", nghttp2_strerror((int)size_bytes));
        }
        if (size_bytes == 0) {
            return;
        }
        buffer_append(&connection->output, bytes_make(data, (size_t)size_bytes));
    }
}

/* Hand a request to nghttp2; gather_output() makes it leave. */
static void submit(struct load_connection *connection, struct request *request)
{
    struct session *session = connection->state;
    if (!write_body(connection->load, request)) {
        return;
    }
    const char *path = connection->load->options.operation == LOAD_READ ? "/etcdserverpb.KV/Range"
                                                                        : "/etcdserverpb.KV/Put";
    const nghttp2_nv headers[] = {
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", path),
        header(":authority", connection->authority),
        header("content-type", "application/grpc"),
        header("te", "trailers"),
        header("user-agent", "tutti-load"),
    };
    nghttp2_data_provider body = {.source.ptr = request, .read_callback = read_body};
    request->is_well = false;
    request->answer_size_bytes = 0;
    request->sent_ns = load_now_ns();
    int32_t stream = nghttp2_submit_request(session->http, NULL, headers,
                                            sizeof headers / sizeof *headers, &body, request);
    if (stream < 0) {
        load_fail("HTTP/2: %s", nghttp2_strerror(stream));
    }
}

static void send_request(struct load_connection *connection, uint32_t client)
{
    struct session *session = connection->state;
    submit(connection, &session->requests[client]);
    gather_output(connection);
}

static int on_header(nghttp2_session *http, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size_bytes, const uint8_t *value, size_t value_size_bytes,
                     uint8_t flags, void *user)
{
    struct load_connection *connection = user;
    struct session *session = connection->state;
    struct request *request = nghttp2_session_get_stream_user_data(http, frame->hd.stream_id);
    struct bytes key = bytes_make(name, name_size_bytes);
    if (request == NULL) {
        return 0;
    }
    if (bytes_equal(key, BYTES("grpc-status"))) {
        request->is_well = bytes_equal(bytes_make(value, value_size_bytes), BYTES("0"));
    } else if (bytes_equal(key, BYTES("grpc-message")) && value_size_bytes > 0) {
        (void)snprintf(session->reason, sizeof session->reason, "%.*s", (int)value_size_bytes,
                       (const char *)value);
    }
    return 0;
}

static int on_data(nghttp2_session *http, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t size_bytes, void *user)
{
    struct request *request = nghttp2_session_get_stream_user_data(http, stream);
    if (request != NULL) {
        request->answer_size_bytes += size_bytes;
    }
    return 0;
}

static int on_close(nghttp2_session *http, int32_t stream, uint32_t code, void *user)
{
    struct load_connection *connection = user;
    struct session *session = connection->state;
    struct load *load = connection->load;
    struct request *request = nghttp2_session_get_stream_user_data(http, stream);
    if (request == NULL) {
        return 0;
    }
    if (code != NGHTTP2_NO_ERROR || !request->is_well) {
        load_refused(connection, request->client,
                     code != NGHTTP2_NO_ERROR ? bytes_of_text(nghttp2_http2_strerror(code))
                                              : bytes_of_text(session->reason));
        return 0;
    }
    if (load->options.operation == LOAD_READ &&
        request->answer_size_bytes < load->options.value_size_bytes) {
        load->missing_count++;
    }
    load_answered(load, request->sent_ns, 1);
    submit(connection, request);
    return 0;
}

static void open_session(struct load_connection *connection)
{
    struct session *session = memory_allocate_zeroed(
        1, sizeof *session + connection->client_count * sizeof session->requests[0]);
    for (uint32_t i = 0; i < connection->client_count; i++) {
        session->requests[i].client = i;
    }
    nghttp2_session_callbacks *callbacks = NULL;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
    };
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        load_fail("no memory for HTTP/2");
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    if (nghttp2_session_client_new(&session->http, callbacks, connection) != 0 ||
        nghttp2_submit_settings(session->http, NGHTTP2_FLAG_NONE, settings, 2) != 0 ||
        nghttp2_session_set_local_window_size(session->http, NGHTTP2_FLAG_NONE, 0,
                                              CONNECTION_WINDOW_BYTES) != 0) {
        load_fail("HTTP/2 does not start");
    }
    nghttp2_session_callbacks_del(callbacks);
    connection->state = session;
}

static void receive_frames(struct load_connection *connection, struct bytes input)
{
    struct session *session = connection->state;
    ssize_t taken = nghttp2_session_mem_recv(session->http, input.data, input.size_bytes);
    if (taken < 0) {
        load_fail("HTTP/2: %s", nghttp2_strerror((int)taken));
    }
    gather_output(connection);
}

const struct load_protocol load_protocol_etcd = {
    .name = "etcd", .open = open_session, .send = send_request, .receive = receive_frames};
