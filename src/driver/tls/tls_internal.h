/* SPDX-License-Identifier: Apache-2.0 */
/* tls, for the files of this folder only. */
#ifndef DRIVER_TLS_TLS_INTERNAL_H
#define DRIVER_TLS_TLS_INTERNAL_H

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "driver/tls/tls.h"

/* Describe what OpenSSL just refused; empties its queue of errors. Returns `code`. */
int tls__fail(struct error *error, int code, const char *what);

/* For OpenSSL, which would else ask the terminal: nothing of ours is encrypted. */
int tls__no_password(char *target, int size_bytes, int is_writing, void *context);

/* The objects that PEM text holds. NULL, and nothing in OpenSSL's queue of errors, when it holds
 * none; the caller frees them. */
X509 *tls__parse_certificate(struct bytes pem);
STACK_OF(X509) * tls__parse_certificates(struct bytes pem);
EVP_PKEY *tls__parse_key(struct bytes pem);
X509_REQ *tls__parse_request(struct bytes pem);

/* Whom a certificate names, as its subject alternative name says. False: it is of another kind. */
bool tls__read_identity(struct tls_identity *identity, X509 *certificate);

struct tls_digest tls__fingerprint(const X509 *certificate);

/* OpenSSL's objects behind a pair and its authorities. */
struct tls__material {
    X509 *certificate;
    EVP_PKEY *key;
    STACK_OF(X509) * authorities;
    struct tls_identity identity;
};

/* Read and verify all of it; `at_ms` 0: at any time. Errors: as tls_pair_verify(). */
MUST_USE int tls__material_init(struct tls__material *material, const struct tls_pair *pair,
                                struct bytes authority, uint64_t at_ms, struct error *error);
void tls__material_deinit(struct tls__material *material);

/* What a session takes from its context, so that it may outlive that. */
struct tls__trust {
    char cluster[TLS_CLUSTER_TEXT_SIZE]; /* Empty: any. */
    bool is_pinned;
    struct tls_digest fingerprint;
};

SSL_CTX *tls__context_openssl(const struct tls_context *context);
const struct tls__trust *tls__context_trust(const struct tls_context *context);

/* For tests: change the keys after so many records already. */
void tls__session_limit_records(struct tls_session *session, uint64_t record_count_max);

/* OpenSSL asks whether it shall believe the peer's certificates. */
int tls__session_verify(X509_STORE_CTX *store, void *unused);

#endif
