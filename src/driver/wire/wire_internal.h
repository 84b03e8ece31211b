/* SPDX-License-Identifier: Apache-2.0 */
/* wire, for the files of this folder only.
 *
 *   wire_frame.c       frames as bytes
 *   wire_hello.c       the messages that say who somebody is
 *   wire_queue.c       bytes that wait for a peer
 *   wire_connection.c  a stream with a session that carries frames, whatever its role
 *   wire_outgoing.c    role: we dialled a peer; we send
 *   wire_incoming.c    role: somebody dialled us; we receive
 *   wire_stranger.c    … without a certificate; and asking for admission ourselves
 *   wire.c             the endpoint: nodes, time, life */
#ifndef DRIVER_WIRE_WIRE_INTERNAL_H
#define DRIVER_WIRE_WIRE_INTERNAL_H

#include "base/list/list.h"
#include "base/random/random.h"
#include "driver/wire/wire.h"

enum {
    WIRE__MESSAGE_SIZE_BYTES_MAX = 4096,       /* Of a HELLO or a REFUSAL. */
    WIRE__TEXT_SIZE = 256,                     /* Of what is told to the log. */
    WIRE__TROUBLE_SIZE = 2 * WIRE__TEXT_SIZE,  /* The same, with an address. */
    WIRE__CHUNK_SIZE_BYTES = 32 * 1024,        /* Of queues. */
    WIRE__PART_SIZE_BYTES = 256 * 1024,        /* Of messages; shorter ones are one frame. */
    WIRE__URGENT_SIZE_BYTES_MAX = 1024 * 1024, /* That wait for a peer. */
    WIRE__SPARE_CHUNKS_MAX = 64,
    WIRE__AHEAD_SIZE_BYTES_MAX = 1024 * 1024,    /* Encrypted and not yet taken by the system. */
    WIRE__TURN_SIZE_BYTES_MAX = 2 * 1024 * 1024, /* Encrypted for one peer in one tick. */
    /* The system gives a connection up after so many times the silence that we allow. It does so too
     * when a peer that lives has stopped reading for a while, and must not be the first. */
    WIRE__SILENCES_OF_SYSTEM = 10,
    /* What the receiving side of a connection ever has to say; more means that it is not read. */
    WIRE__ANSWERS_SIZE_BYTES_MAX = 256 * 1024,
};

/* ---- Frames ---------------------------------------------------------------------------------- */

enum wire__kind {
    WIRE__KIND_HELLO = WIRE_KIND_RESERVED,
    WIRE__KIND_REFUSAL,
    WIRE__KIND_PING,
    WIRE__KIND_PONG,
    WIRE__KIND_JOIN,
    WIRE__KIND_JOIN_REPLY,
};

/* A long message goes in parts, so that urgent frames may come between them. */
enum wire__flags {
    WIRE__FLAG_PART = 1, /* The payload is a part of a message of that kind, */
    WIRE__FLAG_LAST = 2, /* and the last. */
};

struct wire__header {
    uint32_t size_bytes; /* Of the payload. */
    uint16_t kind;
    uint16_t flags;
    uint32_t checksum;
};

/* Write a frame, header and payload, at `target`, which has the room. */
void wire__frame_encode(uint8_t *target, uint16_t kind, struct bytes payload);

/* The same in parts: the header but for its checksum, which goes on with that of the payload from
 * what is returned; and when that is known, the checksum. */
uint32_t wire__header_begin(uint8_t *target, uint16_t kind, uint16_t flags, uint32_t size_bytes);
void wire__header_end(uint8_t *target, uint32_t checksum);

/* The total of some pieces. */
size_t wire__size_bytes(const struct bytes *pieces, uint32_t piece_count);

enum wire__outcome { WIRE__INCOMPLETE, WIRE__FRAME, WIRE__MALFORMED };

/* Look at the first frame in `input`. FRAME: `header` and `payload` (borrowed) are set. INCOMPLETE:
 * `wanted_bytes` are needed to know more. MALFORMED: `reason`, a literal, is set. */
enum wire__outcome wire__frame_decode(struct bytes input, uint32_t payload_size_bytes_max,
                                      struct wire__header *header, struct bytes *payload,
                                      size_t *wanted_bytes, const char **reason);

/* ---- Messages -------------------------------------------------------------------------------- */

struct wire__hello {
    char cluster[TLS_CLUSTER_TEXT_SIZE];
    uint32_t node_id;
    uint64_t boot_id;
    uint32_t version_min;
    uint32_t version_max;
    char software[WIRE_SOFTWARE_SIZE];
};

enum wire__reason {
    WIRE__REASON_VERSION = 1,
    WIRE__REASON_CLUSTER = 2,
    WIRE__REASON_NODE = 3,
    WIRE__REASON_REMOVED = 4,
    WIRE__REASON_BUSY = 5,
    WIRE__REASON_CLOSED = 6, /* No strangers here. */
};

struct wire__refusal {
    uint32_t reason; /* Of enum wire__reason, or one that we do not know. */
    char text[WIRE__TEXT_SIZE];
};

/* Append as bytes. */
void wire__hello_encode(struct buffer *target, const struct wire__hello *hello);
void wire__refusal_encode(struct buffer *target, const struct wire__refusal *refusal);

/* Read from outside. Texts come out printable and terminated. False: not such a message. */
MUST_USE bool wire__hello_decode(struct bytes input, struct wire__hello *hello);
MUST_USE bool wire__refusal_decode(struct bytes input, struct wire__refusal *refusal);

/* The highest version that both speak; 0: none. */
uint32_t wire__version_of(const struct wire__hello *left, const struct wire__hello *right);

/* Copy a text into `target` of `size` bytes, cut where it must be. */
void wire__text_copy(char *target, size_t size, const char *text);

/* ---- Queues ---------------------------------------------------------------------------------- */

struct wire__chunk {
    struct list member;
    uint32_t size_bytes;
    uint32_t sent_bytes;
    uint8_t bytes[WIRE__CHUNK_SIZE_BYTES];
};

/* Chunks that wait for use: shared by all queues of an endpoint, the warmest first. */
struct wire__pool {
    struct list chunks;
    uint32_t count;
};

struct wire__queue {
    struct list chunks;
    uint64_t size_bytes; /* Not sent yet. */
    struct wire__pool *pool;
};

void wire__pool_init(struct wire__pool *pool);
void wire__pool_deinit(struct wire__pool *pool);
void wire__queue_init(struct wire__queue *queue, struct wire__pool *pool);
/* Forget what waits. */
void wire__queue_clear(struct wire__queue *queue);
/* Lengthen by a few bytes (far less than a chunk) in one piece, and borrow where they start. */
uint8_t *wire__queue_extend(struct wire__queue *queue, uint32_t size_bytes);
/* Append a copy. */
void wire__queue_append(struct wire__queue *queue, struct bytes bytes);
/* Append a message that is given in pieces of `payload_bytes` in all: a frame, or several. */
void wire__queue_append_message(struct wire__queue *queue, uint16_t kind,
                                const struct bytes *pieces, uint32_t piece_count,
                                uint64_t payload_bytes);
/* The oldest bytes, at most so many; empty when nothing waits. */
struct bytes wire__queue_peek(const struct wire__queue *queue, uint32_t size_bytes_max);
void wire__queue_consume(struct wire__queue *queue, uint32_t size_bytes);

/* ---- Connections ----------------------------------------------------------------------------- */

struct wire__connection;

/* What a connection is for. */
struct wire__role {
    /* The session is open: the peer's certificate is good, or it is a stranger. */
    void (*opened)(struct wire__connection *connection);
    /* A frame came. May finish or close the connection; then no more come. */
    void (*frame)(struct wire__connection *connection, const struct wire__header *header,
                  struct bytes payload);
    /* It has failed; it is being closed. Not for what the role closes itself. `error` says why. */
    void (*failed)(struct wire__connection *connection, const struct error *error);
    /* May be NULL. What was written has been taken by the system. */
    void (*drained)(struct wire__connection *connection);
    /* Of an endpoint's connections only: it is being closed. */
    void (*orphaned)(struct wire__connection *connection);
    /* The last: the role frees it, after wire__connection_deinit(). */
    void (*closed)(struct wire__connection *connection);
};

struct wire__connection {
    const struct wire__role *role;
    struct os_stream *stream;
    struct tls_session *session;
    struct buffer input;             /* Decrypted, and not a whole frame yet. */
    struct buffer parts;             /* Of a message that is not whole yet, */
    uint16_t parts_kind;             /* and of which kind; */
    bool has_parts;                  /* if there is one. */
    bool takes_parts;                /* The peer may send such. */
    struct buffer sealed;            /* For the next write. */
    struct list member;              /* Of the endpoint's connections. */
    uint32_t payload_size_bytes_max; /* Of a frame, */
    uint32_t message_size_bytes_max; /* and of one that comes in parts. */
    uint64_t heard_at_ms;
    uint64_t written_bytes;  /* Handed to the stream. */
    uint64_t rested_bytes;   /* The same, when it was last looked at. */
    size_t input_bytes_most; /* Of `input`, since it was last looked at. */
    bool is_open;
    bool is_over;   /* Nothing is received or sent any more; `closed` will follow. */
    bool is_closed; /* The stream was told to close. */
};

/* Begin to read an accepted stream, with a server's session, which it takes. */
void wire__connection_accept(struct wire__connection *connection, const struct wire__role *role,
                             struct os_stream *stream, struct tls_session *session);

/* Connect, with a client's session, which it takes on success. Errors: those of
 * os_stream_connect(). */
MUST_USE int wire__connection_dial(struct wire__connection *connection,
                                   const struct wire__role *role, struct os_loop *loop,
                                   const struct os_address *address, struct tls_session *session,
                                   struct error *error);

/* After `closed`. */
void wire__connection_deinit(struct wire__connection *connection);

/* Encrypt; it leaves with the next write. Send what is encrypted. Both fail the connection, if they
 * fail. */
void wire__connection_seal(struct wire__connection *connection, struct bytes plain);
void wire__connection_write(struct wire__connection *connection);
void wire__connection_send_frame(struct wire__connection *connection, enum wire__kind kind,
                                 struct bytes payload);

/* Called now and then: buffers that were larger than needed since the last time are given back. */
void wire__connection_rest(struct wire__connection *connection);

/* Tell the role that it failed, and close. */
void wire__connection_fail(struct wire__connection *connection, const struct error *error);
/* A frame that may not be. */
void wire__connection_malformed(struct wire__connection *connection, const char *reason);

/* Close, without telling the role that it failed. At once, or when all is sent. Safe twice; closing
 * cuts finishing short. */
void wire__connection_close(struct wire__connection *connection);
void wire__connection_finish(struct wire__connection *connection);

/* ---- The endpoint ---------------------------------------------------------------------------- */

/* Lets through `rate` for each second, and `burst` at once. */
struct wire__bucket {
    uint32_t rate;
    uint32_t burst;
    uint64_t level_thousandths;
    uint64_t at_ms;
};

void wire__bucket_init(struct wire__bucket *bucket, uint32_t rate, uint32_t burst, uint64_t now_ms);
bool wire__bucket_take(struct wire__bucket *bucket, uint64_t now_ms);

/* One of the other nodes. It is there while it is a peer or connected. */
struct wire__node {
    struct wire *wire;
    uint32_t node_id;
    bool is_peer;
    bool is_number; /* The address is: nothing to look up. */
    char address_text[WIRE_ADDRESS_SIZE];
    struct os_address address;       /* Of a name, what the newest lookup found. */
    struct os_lookup *lookup;        /* An attempt begins with it; NULL: none is under way. */
    struct wire__outgoing *outgoing; /* Dialled; NULL between attempts. */
    struct wire__incoming *accepted; /* Has said HELLO. */
    struct os_timer *timer;          /* Of the next attempt. NULL for who is no peer. */
    uint32_t backoff_ms;
    char trouble[WIRE__TROUBLE_SIZE]; /* What was last logged about its dialling. */
    struct wire_peer_statistics statistics;
};

struct wire {
    struct os_loop *loop;
    struct os_listener *listener;
    struct os_timer *sweeper;
    struct wire_options options; /* Without zeros. */
    struct wire__hello hello;    /* Ours. */
    struct random random;
    struct wire__node **nodes; /* In order of their ids. */
    uint32_t node_count;
    uint32_t node_capacity;
    struct list connections; /* All of them, also those that close. */
    struct list unknown;     /* Accepted, not of a known node; the oldest first. */
    struct list visitors;    /* Strangers that were let in. */
    struct list dirty;       /* Outgoing ones with something to send. */
    struct list strangers;   /* Requests that were not answered. */
    uint32_t stranger_count; /* Connections of strangers and requests that outlived theirs. */
    struct wire__pool pool;
    struct wire__bucket accept_bucket;
    struct wire__bucket stranger_bucket;
    struct wire_statistics statistics;
    uint64_t swept_at_ms;
};

/* Tell the log. */
void wire__tell(struct wire *wire, enum os_log_level level, const char *name, const char *format,
                ...) __attribute__((format(printf, 4, 5)));

/* The node, or NULL. */
struct wire__node *wire__node_find(const struct wire *wire, uint32_t node_id);
/* The node, new if need be. */
struct wire__node *wire__node_get(struct wire *wire, uint32_t node_id);
/* Forget it if it is neither a peer nor connected. */
void wire__node_release(struct wire__node *node);

/* ---- Outgoing -------------------------------------------------------------------------------- */

struct wire__outgoing {
    struct wire__connection connection;
    struct wire *wire;       /* NULL: closed; no callbacks. */
    struct wire__node *node; /* NULL: given up; only `disconnected` may follow. */
    uint32_t node_id;
    struct list dirty_member; /* Of wire->dirty. */
    struct wire__queue queue;
    struct wire__queue urgent; /* Goes first, between frames. */
    bool is_within_urgent;     /* Of which of the two the newest frame is, */
    uint64_t frame_rest_bytes; /* and how much of it was not sent yet. */
    uint64_t deadline_ms;      /* For HELLO. */
    uint64_t connected_at_ms;
    uint64_t pinged_at_ms;
    uint64_t ping_ns;     /* Sent in a PING that was not answered; or 0. */
    uint64_t taken_bytes; /* By the system, as of the last sweep. */
    uint64_t moved_at_ms; /* When the system last took something of what waited. */
    bool is_connected;
    bool was_connected; /* `disconnected` is due. */
    char software[WIRE_SOFTWARE_SIZE];
};

/* Dial a peer now, unless that is under way. Looks its name up first, if it has one. */
void wire__outgoing_dial(struct wire__node *node);
/* Give up what is dialled or looked up; the node has neither then. */
void wire__outgoing_stop(struct wire__node *node);
/* Encrypt and send what waits, as far as it is the peer's turn. */
void wire__outgoing_flush(struct wire__outgoing *outgoing);
/* Pings, deadlines, silence. */
void wire__outgoing_sweep(struct wire__outgoing *outgoing, uint64_t now_ms);
/* Bytes that wait. */
uint64_t wire__outgoing_queued_bytes(const struct wire__outgoing *outgoing);

/* ---- Incoming -------------------------------------------------------------------------------- */

enum wire__incoming_state {
    WIRE__INCOMING_UNKNOWN,   /* Until its HELLO, or its being a stranger. */
    WIRE__INCOMING_ACCEPTED,  /* Of a node; frames come. */
    WIRE__INCOMING_STRANGER,  /* Until it has asked. */
    WIRE__INCOMING_ANSWERING, /* A stranger waits for its answer. */
    WIRE__INCOMING_OVER,      /* Nothing may come any more. */
};

struct wire__incoming {
    struct wire__connection connection;
    struct wire *wire;          /* NULL: closed; no callbacks. */
    struct wire__node *node;    /* While ACCEPTED. */
    struct list waiting_member; /* Of wire->unknown or wire->visitors. */
    enum wire__incoming_state state;
    struct wire_stranger *stranger; /* While ANSWERING. */
    uint64_t accepted_at_ms;
    uint64_t deadline_ms;
    uint64_t alive_at_ms; /* When a paused one was last told that we live. */
    bool is_unknown;      /* Counted as one. */
    bool is_stranger;     /* Counted as one. */
    bool is_settled;      /* Got what it came for: it is not counted as rejected. */
    bool must_tell;       /* `closed` is due. */
    bool is_paused;
    uint32_t node_id;
    uint64_t boot_id;
    uint32_t version;
    char software[WIRE_SOFTWARE_SIZE];
};

/* It is no longer one of those who have not said who they are. */
void wire__incoming_known(struct wire__incoming *incoming);
/* A connection came. */
void wire__incoming_accepted(struct os_stream *stream, void *context);
/* Stop being the connection of its node. */
void wire__incoming_drop(struct wire__incoming *incoming);
void wire__incoming_sweep(struct wire__incoming *incoming, uint64_t now_ms);
/* Say no, and hang up. */
void wire__incoming_refuse(struct wire__incoming *incoming, enum wire__reason reason,
                           const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The address of the other end into `text` of OS_ADDRESS_TEXT_SIZE; returns it. */
char *wire__incoming_address(const struct wire__incoming *incoming, char *text);

/* ---- Strangers ------------------------------------------------------------------------------- */

struct wire_stranger {
    struct wire *wire;               /* NULL: closed. */
    struct wire__incoming *incoming; /* NULL: it has gone. */
    struct list member;              /* Of wire->strangers. */
};

/* Without a certificate: is there room for one? */
void wire__stranger_opened(struct wire__incoming *incoming);
void wire__stranger_frame(struct wire__incoming *incoming, const struct wire__header *header,
                          struct bytes payload);
/* Its connection is gone. */
void wire__stranger_gone(struct wire__incoming *incoming);

#endif
