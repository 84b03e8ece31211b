/* SPDX-License-Identifier: Apache-2.0 */
/* wire: frames between the nodes of a cluster. Layer: driver.
 *
 * An endpoint listens for the other nodes and dials those it was told of. Each connection is TCP
 * with mutual TLS and carries frames in one direction: a node sends only on connections that it
 * dialled and receives only on those that it accepted, so two nodes that talk have two connections
 * and nobody has to decide which of two to keep (docs/decisions/0009). The format is in
 * docs/formats/wire.md; what the frames contain is their owner's business.
 *
 * Invariants
 *   I1. A frame is delivered only from a node whose certificate names the cluster and the node that
 *       its HELLO named.
 *   I2. Frames of one connection arrive in the order in which they were sent, without gaps, but for
 *       urgent ones, which overtake others and keep their order among themselves. What was
 *       queued or on its way when a connection was lost is lost: a frame arrives at most once.
 *   I3. At most one accepted connection of each node is used: a newer one replaces an older one.
 *   I4. All that waits is bounded: queues by `queue_size_bytes_max`, connections before they have
 *       said who they are by `unknown_count_max` and `handshake_timeout_ms`, strangers by number,
 *       rate, size and time.
 *
 * Driven by one loop and its thread. Frames that were sent in a tick leave together at its end.
 * Peers are few (hundreds): looking one up is a walk of a small table. */
#ifndef DRIVER_WIRE_WIRE_H
#define DRIVER_WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"
#include "driver/os/os.h"
#include "driver/tls/tls.h"

struct wire;
struct wire_stranger;

/* Most bytes of what is sent at once, unless the options say less: an entry of the log with what goes
 * along. It goes in parts and costs the receiver memory as they come, but it holds up those behind
 * it. */
#define WIRE_FRAME_SIZE_BYTES_MAX ((1024u + 1) * 1024 * 1024)
/* Header before the payload of each frame. */
#define WIRE_HEADER_SIZE_BYTES 16
/* Kinds from here on are wire's own. */
#define WIRE_KIND_RESERVED 0xff00
/* Most pieces of one frame. */
#define WIRE_PIECES_MAX 256
/* Longest name of a software version. */
#define WIRE_SOFTWARE_SIZE 64

/* What strangers may do (see `stranger` below). */
#define WIRE_STRANGER_SIZE_BYTES_MAX (64 * 1024)
#define WIRE_STRANGER_TIMEOUT_MS 10000

/* ---- What the owner hears -------------------------------------------------------------------- */

/* The other end of a connection; borrowed for the call. */
struct wire_remote {
    uint32_t node_id;
    uint64_t boot_id;     /* Another one means that it was restarted. */
    uint32_t version;     /* Of the protocol: the highest that both speak. */
    const char *software; /* For people. */
};

/* Callbacks, all on the loop's thread and never from inside a function of this module that the owner
 * called, but for `event`. Every function of this module but wire_close() may be called in them; in
 * `event` and `admits` none. Each may be NULL, but for `frame`. */
struct wire_events {
    /* A frame came. `payload` is borrowed for the call, and not aligned. */
    void (*frame)(const struct wire_remote *remote, uint16_t kind, struct bytes payload,
                  void *context);

    /* Of those we dialled: wire_send() works from now on; it no longer does. In turns, for each
     * peer. `disconnected` also comes after wire_remove_peer() and wire_set_peer() with another
     * address, if it was connected, but not after wire_close(). */
    void (*connected)(const struct wire_remote *remote, void *context);
    void (*disconnected)(uint32_t node_id, void *context);

    /* A peer that we dialled says that we were removed from the cluster. It says so again each
     * time. */
    void (*removed)(uint32_t node_id, void *context);

    /* Of those who dialled us: frames may come from now on; no more will. In turns, for each node
     * and boot: before a newer connection of the same node is `accepted` the older is `closed`. */
    void (*accepted)(const struct wire_remote *remote, void *context);
    void (*closed)(uint32_t node_id, uint64_t boot_id, void *context);

    /* May this node, whose certificate is good, connect? NULL: yes. For nodes that were removed
     * from the cluster while their certificates last. */
    bool (*admits)(uint32_t node_id, void *context);

    /* A stranger (a node without a certificate) wants to join. `payload` is borrowed; the answer is
     * the owner's duty: wire_stranger_reply(), now or later, exactly once. */
    void (*stranger)(struct wire_stranger *stranger, const char *address, struct bytes payload,
                     void *context);

    /* Something for the log: a stable dotted name ("wire.peer.refused") and a text for people. No
     * secrets. May come often when we are attacked: the log limits its rate. */
    void (*event)(enum os_log_level level, const char *name, const char *text, void *context);
};

/* ---- Life ------------------------------------------------------------------------------------ */

struct wire_options {
    struct os_listener_options listener;
    const char *cluster; /* As in the certificates. Copied. */
    uint32_t node_id;    /* Ours; not 0. As in our certificate. */
    uint64_t boot_id;    /* Random for each start of the process; not 0. */
    /* Ours. Borrowed until wire_close(); may be reloaded at any time. */
    struct tls_context *tls;
    uint32_t version_min; /* Of the protocol, that we speak. */
    uint32_t version_max;
    const char *software; /* For people: "0.2.0". Copied. */
    bool admits_strangers;
    const struct wire_events *events; /* A constant. */
    void *context;

    /* Limits; 0 stands for the default. */
    uint32_t frame_size_bytes_max; /* Of payloads: WIRE_FRAME_SIZE_BYTES_MAX. */
    uint32_t queue_size_bytes_max; /* For each peer: 64 MiB. */
    uint32_t unknown_count_max;    /* Accepted and not known yet: 128. The oldest one gives way. */
    uint32_t handshake_rate_max;   /* Accepted for each second: 64; four times as many at once. */
    uint32_t stranger_count_max;   /* Open at once: 8. */
    uint32_t stranger_rate_max;    /* For each second: 2; as many as open ones at once. */
    uint32_t handshake_timeout_ms; /* Until both have said HELLO: 5000. */
    uint32_t silence_timeout_ms;   /* Until a connection is taken for dead: 3000. */
    uint32_t backoff_ms_min;       /* Before dialling again: from 50, doubled each time … */
    uint32_t backoff_ms_max;       /* … to 2000; a random part of it is left out. */
    uint32_t stranger_timeout_ms;  /* WIRE_STRANGER_TIMEOUT_MS. */
};

/* Give an endpoint that listens. It has a callback at the end of each tick: what other such
 * callbacks send leaves in the same tick if they are registered before, or call wire_flush().
 * Errors: those of os_listener_open(); -EINVAL: cluster or node is not that of the certificate. */
MUST_USE int wire_open(struct wire **wire, struct os_loop *loop, const struct wire_options *options,
                       struct error *error);

/* Close the listener and all connections; no callback comes any more. They are gone when the loop
 * has turned or was destroyed. Strangers that were not answered must still be. */
void wire_close(struct wire *wire);

/* Where it listens, with the real port. */
struct os_address wire_address(const struct wire *wire);

/* ---- Peers ----------------------------------------------------------------------------------- */

/* Room for an address as text. */
#define WIRE_ADDRESS_SIZE OS_ADDRESS_NAME_SIZE

/* Dial `node_id` at `address`, and again whenever the connection is lost, until removed. With
 * another address than before, as text: dial anew.
 *
 * `address` is "10.0.0.1:7380", "[fd00::1]:7380" or "name:7380", and copied. Numbers are dialled as they
 * are. A name is looked up for each attempt, so that a node may come back elsewhere under its name; off
 * this thread (os_lookup_start()), one lookup at a time for each peer, and of nothing but the name: a
 * connection that is there stays when its name gets another address. A lookup that fails is an attempt
 * that failed, with the same wait before the next; while one is under way the peer is not connected, and
 * that is all. What the resolver said for an earlier attempt is not used again.
 * Errors, and then nothing changed: -EINVAL: it is us, or 0, or the text is none of these. */
MUST_USE int wire_set_peer(struct wire *wire, uint32_t node_id, const char *address);

/* Hang up and forget. What is queued is lost. Fine when it is not known. */
void wire_remove_peer(struct wire *wire, uint32_t node_id);

/* Close the connection that `node_id` dialled, if there is one; it may dial again, and is then asked
 * about by `admits`. */
void wire_hang_up(struct wire *wire, uint32_t node_id);

/* Connections from now on need this version at least; it is one that we speak. Those that are there stay. */
void wire_set_version_min(struct wire *wire, uint32_t version_min);

/* Whether we may admit strangers from now on. */
void wire_set_admits_strangers(struct wire *wire, bool admits_strangers);

/* ---- Sending --------------------------------------------------------------------------------- */

/* Send a frame to a peer: one payload, given in pieces, which are copied. It leaves at the end of
 * the tick. Errors, and then nothing is sent: -ENOTCONN; -EBUSY: the queue is full, try again later
 * or leave it; -EMSGSIZE: too large; -EINVAL: a reserved kind or too many pieces. An empty queue
 * takes a frame of any size allowed. Frames arrive in the order in which they were sent. */
MUST_USE int wire_send(struct wire *wire, uint32_t node_id, uint16_t kind,
                       const struct bytes *pieces, uint32_t piece_count);

/* The same for a small message that may overtake those that wait, but for other urgent ones: it goes
 * between two frames of what is being sent. -EMSGSIZE above WIRE_URGENT_SIZE_BYTES_MAX. */
#define WIRE_URGENT_SIZE_BYTES_MAX 4096u
MUST_USE int wire_send_urgent(struct wire *wire, uint32_t node_id, uint16_t kind,
                              const struct bytes *pieces, uint32_t piece_count);

/* Send what was gathered, now. The end of each tick does it anyway. */
void wire_flush(struct wire *wire);

/* Bytes that wait to be sent; 0 for who is not connected. Not counted is what the system's own
 * buffers hold. */
uint64_t wire_queued_bytes(const struct wire *wire, uint32_t node_id);

bool wire_is_connected(const struct wire *wire, uint32_t node_id);

/* ---- Receiving ------------------------------------------------------------------------------- */

/* Back-pressure: no more frames from `node_id` until resumed; its queue fills and its wire_send()
 * fails with -EBUSY. The rest of what a read brought may still come. Holds for the connection that
 * is there now. */
void wire_pause(struct wire *wire, uint32_t node_id);
void wire_resume(struct wire *wire, uint32_t node_id);

/* ---- Strangers ------------------------------------------------------------------------------- */

/* Answer a stranger and close its connection; takes `stranger`. It may be gone already: then
 * nothing happens. `payload`: at most WIRE_STRANGER_SIZE_BYTES_MAX. */
void wire_stranger_reply(struct wire_stranger *stranger, struct bytes payload);

/* The other side: ask a node to let us in. */
struct wire_join;

struct wire_join_options {
    struct os_address address;
    struct tls_digest fingerprint; /* Of the authority's certificate. */
    const char *cluster;           /* May be NULL: not known yet. */
    uint32_t version_min;
    uint32_t version_max;
    const char *software;
    struct bytes payload; /* At most WIRE_STRANGER_SIZE_BYTES_MAX. Copied. */
    uint64_t timeout_ms;  /* 0: WIRE_STRANGER_TIMEOUT_MS. */

    /* The outcome, exactly once, unless cancelled: status 0 and the reply (borrowed), or the reason
     * why there is none. `join` is gone after it. */
    void (*done)(int status, struct bytes reply, const struct error *error, void *context);
    void *context;
};

/* Give a request that is under way. Errors: those of os_stream_connect(); -EMSGSIZE. */
MUST_USE int wire_join_start(struct wire_join **join, struct os_loop *loop,
                             const struct wire_join_options *options, struct error *error);

/* Give up; `done` does not come. */
void wire_join_cancel(struct wire_join *join);

/* ---- Statistics ------------------------------------------------------------------------------ */

/* Of one node: what we dialled and what we accepted. Since it was set, or first accepted. */
struct wire_peer_statistics {
    uint32_t node_id;
    bool is_peer;              /* We dial it. */
    bool is_connected;         /* We may send. */
    bool is_accepted;          /* It may send. */
    struct os_address address; /* Where it is dialled; of a name: all zeros until it was found. */
    uint32_t version; /* Of the connection we dialled, or else of the accepted one; or 0. */
    char software[WIRE_SOFTWARE_SIZE];
    uint64_t sent_frame_count;
    uint64_t sent_bytes; /* Frames with headers; without what TLS adds. */
    uint64_t received_frame_count;
    uint64_t received_bytes;
    uint64_t queued_bytes;
    uint64_t refused_count; /* wire_send() with -EBUSY. */
    uint64_t connect_count; /* Connections we dialled that reached HELLO. */
    uint64_t fail_count;    /* Those that did not. */
    uint64_t round_trip_us; /* The last one measured, with what queued; 0: none yet. */
};

/* Fill `statistics` with at most `count_max` nodes in order of their ids; returns how many there
 * are. */
uint32_t wire_peers(const struct wire *wire, struct wire_peer_statistics *statistics,
                    uint32_t count_max);

struct wire_statistics {
    uint64_t accepted_count;         /* TCP connections. */
    uint64_t handshake_count;        /* Of them: both said HELLO. */
    uint64_t rejected_count;         /* Of them: closed before, whatever the reason. */
    uint64_t malformed_count;        /* Closed because of a frame that is none. */
    uint64_t stranger_count;         /* Requests that were delivered. */
    uint64_t stranger_refused_count; /* Too many, too fast, or not admitted. */
    uint32_t unknown_count;          /* Open now, and not known yet. */
};

struct wire_statistics wire_statistics(const struct wire *wire);

#endif
