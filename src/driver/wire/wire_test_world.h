/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of wire: a few nodes of one cluster on one loop, which note what they hear, and a
 * *hand*, a peer that does what the test says and nothing by itself. */
#ifndef DRIVER_WIRE_WIRE_TEST_WORLD_H
#define DRIVER_WIRE_WIRE_TEST_WORLD_H

#include "driver/wire/wire_internal.h"

enum { WORLD_PARTIES_MAX = 4, WORLD_STRANGERS_MAX = 16, WORLD_FRAME_SIZE_BYTES_MAX = 16 << 20 };

#define WORLD_CLUSTER "00112233445566778899aabbccddeeff"

struct party {
    uint32_t node_id;
    struct wire *wire;
    struct tls_pair pair;
    struct tls_context *tls;
    struct wire_options options; /* For its next opening. */
    struct buffer heard;         /* "connected 2\naccepted 2\n", … */
    struct buffer told;          /* "wire.peer.lost node 2 at …\n" */
    struct buffer payloads;      /* Of all frames, one after the other. */
    uint64_t frame_count;
    uint64_t payload_bytes;
    uint64_t last_boot_id;
    uint16_t last_kind;
    bool keeps_payloads;
    bool is_removed[WORLD_PARTIES_MAX + 1]; /* Nodes that it does not admit. */
    void (*frame)(struct party *party, const struct wire_remote *remote, uint16_t kind,
                  struct bytes payload); /* May be NULL. */
    struct wire_stranger *strangers[WORLD_STRANGERS_MAX];
    uint32_t stranger_count;
    bool answers_strangers;
};

struct world {
    struct os_loop *loop;
    struct os_timer *timer;
    struct tls_pair authority;
    struct tls_digest fingerprint;
    struct party parties[WORLD_PARTIES_MAX];
};

extern struct world world;

/* For cmocka: an empty world with an authority; a world with everything closed. */
int world_setup(void **state);
int world_teardown(void **state);

/* Give node `node_id` (1 to WORLD_PARTIES_MAX) a certificate and open it. Its options may be changed
 * before by world_party(). */
struct party *world_party(uint32_t node_id);
void world_open(struct party *party);
void world_close(struct party *party);
/* wire_set_peer() with numbers. */
int world_set_peer(struct wire *wire, uint32_t node_id, const struct os_address *address);
/* `source` dials `target`. */
void world_introduce(struct party *source, const struct party *target);
/* … and they are connected, one way. */
void world_connect(struct party *source, struct party *target);

/* A certificate for a key, signed by any authority. */
struct tls_pair world_certificate(const struct tls_pair *authority, uint32_t node_id,
                                  uint64_t made_ms, uint64_t validity_ms);
/* Change who `party` is, before it is opened. */
void world_use(struct party *party, const struct tls_pair *authority, const struct tls_pair *pair);

/* Let the loop turn for a moment. Fails the test when it was called for too long since the test
 * began. */
void world_turn(void);
void world_pass_ms(uint64_t duration_ms);
#define UNTIL(condition)   \
    while (!(condition)) { \
        world_turn();      \
    }

bool has_text(const struct buffer *buffer, const char *text);

/* ---- The hand -------------------------------------------------------------------------------- */

struct hand {
    struct wire__connection connection;
    struct tls_context *tls;
    struct os_listener *listener; /* When it waits to be dialled. */
    struct buffer received;       /* Kinds of frames as text: "ff00 ff03 ". */
    struct buffer last_payload;
    struct error error;
    struct wire__hello hello; /* Sent when the session is open, unless is_silent. */
    bool is_silent;
    bool is_there; /* The connection is. */
    bool is_open;
    bool was_closed;
};

/* Dial a party with a node's certificate, or without one. */
void hand_dial(struct hand *hand, struct party *party, const struct tls_pair *pair);
/* Wait for one to dial us as a node. */
struct os_address hand_listen(struct hand *hand, const struct tls_pair *pair);
void hand_send(struct hand *hand, uint16_t kind, struct bytes payload);
/* Anything, as it is. */
void hand_send_raw(struct hand *hand, struct bytes plain);
void hand_close(struct hand *hand);

#endif
