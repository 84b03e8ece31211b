/* SPDX-License-Identifier: Apache-2.0 */
/* tls: the cluster's certificates, and encrypted sessions between its nodes. Layer: driver.
 *
 * The only module that knows OpenSSL. It moves no bytes itself: a session is fed what came from the
 * network and says what to send, so it works on any stream and can be tested without one.
 *
 * Certificates. A cluster has an *authority*: a key and a certificate signed by itself, made once.
 * Each node has a key of its own and a certificate, signed by the authority, that names the cluster
 * and the node (docs/formats/tls.md). A node makes a *request* for its key, whoever holds the
 * authority's key signs it; a private key never leaves the machine it was made on.
 *
 * Invariants
 *   I1. TLS 1.3 only; no tickets, no early data, no compression, no renegotiation.
 *   I2. A session is open only if each certificate that the peer showed was verified: signed by the
 *       authority, within its time, of our cluster, naming one node. Without one it is open only on
 *       a server that admits strangers, and then it has no identity.
 *   I3. No key, secret or plaintext is ever in an error message.
 *
 * Keys and certificates are PEM text in memory. Times are milliseconds since 1970 (wall clock);
 * whether a peer's certificate is in its time is judged by the system's clock.
 *
 * Threads. Certificate functions and digests: any. A context and its sessions belong to one thread.
 * Memory of OpenSSL is its own: about 25 KiB for each idle session. */
#ifndef DRIVER_TLS_TLS_H
#define DRIVER_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

/* ---- Digests and secrets --------------------------------------------------------------------- */

#define TLS_DIGEST_SIZE_BYTES 32
#define TLS_DIGEST_TEXT_SIZE 65 /* In hexadecimal, with its terminator. */

struct tls_digest {
    uint8_t bytes[TLS_DIGEST_SIZE_BYTES];
};

/* SHA-256 of the pieces, one after the other. */
struct tls_digest tls_sha256(const struct bytes *pieces, uint32_t piece_count);

/* HMAC-SHA-256 (RFC 2104) of one text under a key of any length. */
struct tls_digest tls_hmac_sha256(struct bytes key, struct bytes text);

/* Lower-case hexadecimal into `text` of TLS_DIGEST_TEXT_SIZE bytes; returns `text`. */
char *tls_digest_format(const struct tls_digest *digest, char *text);

/* Are they equal? In a time that tells nothing but their lengths: for secrets. */
bool tls_is_equal(struct bytes left, struct bytes right);

/* Overwrite a secret that is no longer needed; no compiler leaves it out. */
void tls_wipe(void *secret, size_t size_bytes);
/* The same for the whole memory of a buffer, which it then frees. */
void tls_wipe_buffer(struct buffer *secret);

/* Random bytes for secrets come from os_random_fill(). */

/* ---- Certificates ---------------------------------------------------------------------------- */

#define TLS_CLUSTER_TEXT_SIZE 65 /* 1 to 64 lower-case hexadecimal digits, and the terminator. */
#define TLS_PEM_SIZE_BYTES_MAX (64 * 1024)
#define TLS_DAY_MS (24ull * 3600 * 1000)
/* How long certificates last, unless told otherwise. */
#define TLS_NODE_VALIDITY_MS (90 * TLS_DAY_MS)
#define TLS_AUTHORITY_VALIDITY_MS (50 * 365 * TLS_DAY_MS)
/* Certificates are valid from so long before they were made: the clocks of nodes differ. */
#define TLS_BACKDATED_MS TLS_DAY_MS

/* A private key and what is known about it, as PEM. `certificate` may hold several. */
struct tls_pair {
    struct buffer key;
    struct buffer certificate;
};

/* Wipes the key. */
void tls_pair_deinit(struct tls_pair *pair);

/* Who a certificate names. A small value copied around. */
struct tls_identity {
    char cluster[TLS_CLUSTER_TEXT_SIZE];
    uint32_t node_id; /* 0: the authority. */
    uint64_t valid_from_ms;
    uint64_t valid_until_ms;
};

/* Make a new authority for a cluster: an EC P-256 key and its certificate. `pair` must be empty;
 * the caller ends it with tls_pair_deinit(). Errors: -EINVAL: not a cluster id. */
MUST_USE int tls_authority_create(struct tls_pair *pair, const char *cluster, uint64_t now_ms,
                                  struct error *error);

/* Make a node's key, appended to `key`, and a request for a certificate (PKCS #10), appended to
 * `request`. What the request says of the subject counts for nothing: who signs decides. Errors:
 * -EIO when OpenSSL fails. */
MUST_USE int tls_request_create(struct buffer *key, struct buffer *request, struct error *error);

struct tls_sign_options {
    const struct tls_pair *authority; /* Says which cluster. */
    struct bytes request;             /* From outside: anything. */
    uint32_t node_id;                 /* Not 0. */
    uint64_t now_ms;
    uint64_t validity_ms; /* 0: TLS_NODE_VALIDITY_MS. Never beyond the authority's own. */
};

/* Sign a request: append a node's certificate to `certificate`. The request must prove that its
 * sender has the key. Errors: ERROR_PROTOCOL: not a request, or not of a P-256 key, or badly
 * signed; -EINVAL: the authority's pair is not one, or has expired. */
MUST_USE int tls_request_sign(struct buffer *certificate, const struct tls_sign_options *options,
                              struct error *error);

/* Read whom the first certificate of a PEM text names. It is not verified. Errors: ERROR_PROTOCOL:
 * not a certificate of this kind. */
MUST_USE int tls_certificate_read(struct tls_identity *identity, struct bytes certificate,
                                  struct error *error);

/* Is `pair` usable: does its key belong to its certificate, is that signed by `authority` (PEM),
 * and valid at `now_ms`? For whoever was just given a certificate. Errors: -EACCES, and why not;
 * ERROR_PROTOCOL: not PEM of this kind. */
MUST_USE int tls_pair_verify(const struct tls_pair *pair, struct bytes authority, uint64_t now_ms,
                             struct error *error);

/* When a certificate should be renewed: two thirds of its life (the backdated part left out) have
 * passed. */
uint64_t tls_renewal_due_ms(const struct tls_identity *identity);
/* So it is then; and before a certificate is valid, too: the clock was ahead when it was made. */
bool tls_is_renewal_due(const struct tls_identity *identity, uint64_t now_ms);

/* SHA-256 of the first certificate of a PEM text (of its DER form): what a join token pins. Errors:
 * ERROR_PROTOCOL. */
MUST_USE int tls_fingerprint(struct tls_digest *fingerprint, struct bytes certificate,
                             struct error *error);

/* ---- Files (blocks; docs/formats/tls.md) ----------------------------------------------------- */

/* A key and its certificate are one file, so that a crash cannot part them. Readable by this user
 * only; replaced whole or not at all, and durable when this returns 0. */
MUST_USE int tls_pair_save(const struct tls_pair *pair, const char *path, struct error *error);

/* Read what tls_pair_save() wrote into an empty `pair`. Errors: -ENOENT, -EACCES: others could have
 * read it; ERROR_CORRUPT: not a key with its certificate. */
MUST_USE int tls_pair_load(struct tls_pair *pair, const char *path, struct error *error);

/* The same for a key and the request for its certificate, so that who has asked for one can ask again. */
MUST_USE int tls_request_save(struct bytes key, struct bytes request, const char *path,
                              struct error *error);
/* Append what is in the file, byte by byte, to `key` and `request`. Errors: as tls_pair_load(). */
MUST_USE int tls_request_load(struct buffer *key, struct buffer *request, const char *path,
                              struct error *error);

/* Certificates alone, which are no secret. */
MUST_USE int tls_certificate_save(struct bytes certificate, const char *path, struct error *error);
MUST_USE int tls_certificate_load(struct buffer *certificate, const char *path,
                                  struct error *error);

/* ---- Contexts: who we are and whom we trust -------------------------------------------------- */

struct tls_context;

struct tls_context_options {
    struct bytes authority;      /* One certificate or, while it is being replaced, several. */
    const struct tls_pair *pair; /* Ours. Borrowed. */
};

/* Give a context for a node, for accepting and for connecting. Errors: those of tls_pair_verify(),
 * but not that our certificate has expired: others will say so. */
MUST_USE int tls_context_create(struct tls_context **context,
                                const struct tls_context_options *options, struct error *error);

/* Give a context for connecting without a certificate of our own: it trusts a server whose
 * certificates end in the authority with this fingerprint. For joining. */
struct tls_context *tls_context_create_pinned(const struct tls_digest *fingerprint);

/* Use a renewed certificate, or other authorities, for sessions made from now on. Must be of the
 * same cluster and node. Errors: as for creating; -EINVAL: another cluster or node. The context is
 * as before. Not for a pinned context. */
MUST_USE int tls_context_reload(struct tls_context *context,
                                const struct tls_context_options *options, struct error *error);

/* Whom our certificate names; NULL for a pinned context. Borrows until the next reload. */
const struct tls_identity *tls_context_identity(const struct tls_context *context);

/* Sessions live on. */
void tls_context_destroy(struct tls_context *context);

/* ---- Sessions -------------------------------------------------------------------------------- */

struct tls_session;

enum tls_side {
    TLS_SIDE_SERVER,
    TLS_SIDE_CLIENT,
};

enum tls_state {
    TLS_STATE_HANDSHAKE,
    TLS_STATE_OPEN,   /* Plaintext may be sent, and may come. */
    TLS_STATE_ENDED,  /* The peer said that nothing more will come; we may still send. */
    TLS_STATE_FAILED, /* Nothing more can be done but to send what is left and close. */
};

struct tls_session_options {
    enum tls_side side;
    bool admits_strangers;     /* Server: a client without a certificate is let in. */
    uint32_t expected_node_id; /* Client: whom we mean to reach; 0: any node of the cluster. */
};

/* Give a session. A client has its first bytes to send at once: see tls_session_start(). */
struct tls_session *tls_session_create(struct tls_context *context,
                                       const struct tls_session_options *options);
void tls_session_destroy(struct tls_session *session);

/* Client: append the first bytes to send to `outgoing`. Once, before all else. */
void tls_session_start(struct tls_session *session, struct buffer *outgoing);

/* Take bytes from the network, all of them: append what they decrypt to (at most as many) to
 * `plain`, and what must be sent to `outgoing`. Errors, after which the state is FAILED (send what
 * is in `outgoing`, it tells the peer why, and close): ERROR_PROTOCOL: not TLS, or broken; -EACCES:
 * the peer is not who it must be, or did not accept us. */
MUST_USE int tls_session_receive(struct tls_session *session, struct bytes received,
                                 struct buffer *plain, struct buffer *outgoing,
                                 struct error *error);

/* Encrypt and append to `outgoing`. The state is OPEN or ENDED. Errors: -EIO; then it is
 * FAILED. */
MUST_USE int tls_session_send(struct tls_session *session, struct bytes plain,
                              struct buffer *outgoing, struct error *error);

/* Say that nothing more will be sent: append that to `outgoing`. Nothing in a handshake. */
void tls_session_finish(struct tls_session *session, struct buffer *outgoing);

enum tls_state tls_session_state(const struct tls_session *session);

/* Whom the peer's certificate names. NULL before the session is open, and for a stranger. */
const struct tls_identity *tls_session_peer(const struct tls_session *session);

/* Upper bound of the bytes that tls_session_send() makes of so many. */
size_t tls_sealed_size_bytes_max(size_t plain_size_bytes);

#endif
