/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions.
 *
 * OpenSSL reads and writes through a BIO. Ours has no memory: while a function of this file runs, it
 * reads from the bytes that the caller gave and appends to the caller's buffer, so what passes
 * through is copied by OpenSSL alone. Each call runs until OpenSSL wants more than was given. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/tls/tls_internal.h"

enum {
    RECORD_PLAIN_BYTES_MAX = 16 * 1024, /* RFC 8446 §5.1. */
    RECORD_OVERHEAD_BYTES = 5 + 1 + 16, /* Header, inner type, tag. */
    ALERT_BYTES_MAX = 256,
    /* Numbers of alerts that speak of certificates: RFC 8446 §6.2. */
    ALERT_BAD_CERTIFICATE = 42,
    ALERT_ACCESS_DENIED = 49,
    ALERT_CERTIFICATE_REQUIRED = 116,
    REASON_SIZE = 160,
    /* RFC 8446 §5.5: AES-GCM is safe for 24 million full records under one key. Connections of nodes
     * last, so we change ours long before. */
    RECORDS_PER_KEY_MAX = 1 << 22,
};

struct tls_session {
    SSL *openssl;
    struct tls__trust trust;
    struct tls_session_options options;
    enum tls_state state;
    uint64_t record_count; /* Sent under the present key. */
    uint64_t record_count_max;
    bool has_peer;
    struct tls_identity peer;
    char reason[REASON_SIZE]; /* Why the peer's certificate was refused; or empty. */

    /* During a call only. */
    struct bytes received;
    struct buffer *outgoing;
};

/* ---- The BIO --------------------------------------------------------------------------------- */

static BIO_METHOD *method;
static pthread_once_t method_once = PTHREAD_ONCE_INIT;

static int bio_read(BIO *bio, char *target, int size_bytes)
{
    struct tls_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (session->received.size_bytes == 0 || size_bytes <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t count = session->received.size_bytes;
    count = count < (size_t)size_bytes ? count : (size_t)size_bytes;
    memcpy(target, session->received.data, count);
    session->received =
        bytes_make(session->received.data + count, session->received.size_bytes - count);
    return (int)count;
}

static int bio_write(BIO *bio, const char *source, int size_bytes)
{
    struct tls_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ASSERT(session->outgoing != NULL);
    ASSERT(size_bytes >= 0);
    buffer_append(session->outgoing, bytes_make(source, (size_t)size_bytes));
    return size_bytes;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "session");
    ASSERT(method != NULL);
    ASSERT(BIO_meth_set_read(method, bio_read) == 1);
    ASSERT(BIO_meth_set_write(method, bio_write) == 1);
    ASSERT(BIO_meth_set_ctrl(method, bio_control) == 1);
}

static void attach_bio(struct tls_session *session)
{
    ASSERT(pthread_once(&method_once, make_method) == 0);
    BIO *bio = BIO_new(method);
    ASSERT(bio != NULL);
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->openssl, bio, bio);
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct tls_session *tls_session_create(struct tls_context *context,
                                       const struct tls_session_options *options)
{
    struct tls_session *session = memory_allocate_zeroed(1, sizeof *session);
    session->openssl = SSL_new(tls__context_openssl(context));
    ASSERT(session->openssl != NULL);
    session->trust = *tls__context_trust(context);
    session->options = *options;
    session->record_count_max = RECORDS_PER_KEY_MAX;
    ASSERT(SSL_set_app_data(session->openssl, session) == 1);
    attach_bio(session);
    if (options->side == TLS_SIDE_SERVER) {
        ASSERT(!session->trust.is_pinned);
        int mode = SSL_VERIFY_PEER;
        mode |= options->admits_strangers ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
        SSL_set_verify(session->openssl, mode, NULL);
        SSL_set_accept_state(session->openssl);
    } else {
        SSL_set_verify(session->openssl, SSL_VERIFY_PEER, NULL);
        SSL_set_connect_state(session->openssl);
    }
    return session;
}

void tls_session_destroy(struct tls_session *session)
{
    if (session != NULL) {
        SSL_free(session->openssl);
        memory_free(session);
    }
}

/* ---- Whom to believe ------------------------------------------------------------------------- */

static int refuse(X509_STORE_CTX *store, struct tls_session *session, const char *reason)
{
    /* Gives the alert; the reason is for us. */
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    (void)snprintf(session->reason, sizeof session->reason, "%s", reason);
    return 0;
}

/* Trust the certificate with the pinned fingerprint, if the peer has shown it. Its being an
 * authority, and the signature, are checked like any other's. */
static X509 *find_pinned(X509_STORE_CTX *store, const struct tls__trust *trust)
{
    STACK_OF(X509) *shown = X509_STORE_CTX_get0_untrusted(store);
    for (int i = 0; i < sk_X509_num(shown); i++) {
        struct tls_digest fingerprint = tls__fingerprint(sk_X509_value(shown, i));
        if (tls_is_equal(bytes_make(fingerprint.bytes, sizeof fingerprint.bytes),
                         bytes_make(trust->fingerprint.bytes, sizeof trust->fingerprint.bytes))) {
            return sk_X509_value(shown, i);
        }
    }
    return NULL;
}

static int verify_pinned(X509_STORE_CTX *store, struct tls_session *session)
{
    X509 *pinned = find_pinned(store, &session->trust);
    if (pinned == NULL) {
        (void)refuse(store, session, "its cluster is not the one that the fingerprint is of");
        return 0;
    }
    STACK_OF(X509) *trusted = sk_X509_new_null();
    ASSERT(trusted != NULL);
    ASSERT(sk_X509_push(trusted, pinned) > 0);
    X509_STORE_CTX_set0_trusted_stack(store, trusted);
    int is_verified = X509_verify_cert(store);
    sk_X509_free(
        trusted); /* The store does not look at it any more; the certificate is not ours. */
    return is_verified;
}

static int verify_identity(X509_STORE_CTX *store, struct tls_session *session)
{
    char text[REASON_SIZE];
    struct tls_identity peer;
    if (!tls__read_identity(&peer, X509_STORE_CTX_get0_cert(store)) || peer.node_id == 0) {
        return refuse(store, session, "it is not the certificate of a node");
    }
    if (!session->trust.is_pinned && strcmp(peer.cluster, session->trust.cluster) != 0) {
        (void)snprintf(text, sizeof text, "it is of another cluster, %s", peer.cluster);
        return refuse(store, session, text);
    }
    uint32_t expected = session->options.expected_node_id;
    if (expected != 0 && expected != peer.node_id) {
        (void)snprintf(text, sizeof text, "it is of node %u, and not of node %u", peer.node_id,
                       expected);
        return refuse(store, session, text);
    }
    session->peer = peer;
    session->has_peer = true;
    return 1;
}

int tls__session_verify(X509_STORE_CTX *store, void *unused)
{
    (void)unused;
    SSL *openssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_session *session = SSL_get_app_data(openssl);
    int is_verified =
        session->trust.is_pinned ? verify_pinned(store, session) : X509_verify_cert(store);
    if (is_verified == 1) {
        return verify_identity(store, session);
    }
    if (session->reason[0] == '\0') {
        int code = X509_STORE_CTX_get_error(store);
        (void)snprintf(session->reason, sizeof session->reason, "%s",
                       X509_verify_cert_error_string(code));
    }
    return 0;
}

/* ---- Failing --------------------------------------------------------------------------------- */

/* An alert of the peer that says that it does not want us. */
static bool is_refusal(int reason)
{
    int alert = reason - SSL_AD_REASON_OFFSET;
    return (alert >= ALERT_BAD_CERTIFICATE && alert <= ALERT_ACCESS_DENIED) ||
           alert == ALERT_CERTIFICATE_REQUIRED || alert == SSL_AD_HANDSHAKE_FAILURE;
}

static int fail(struct tls_session *session, struct error *error)
{
    session->state = TLS_STATE_FAILED;
    session->has_peer = false;
    int reason = ERR_GET_REASON(ERR_peek_error());
    if (session->reason[0] != '\0') {
        ERR_clear_error();
        return error_say(error, -EACCES, "the peer's certificate was refused: %s", session->reason);
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        ERR_clear_error();
        return error_say(error, -EACCES, "the peer has no certificate");
    }
    if (is_refusal(reason)) {
        return tls__fail(error, -EACCES, "the peer refused us");
    }
    return tls__fail(error, ERROR_PROTOCOL, "tls");
}

/* What the last call of OpenSSL came to: 0 to wait for more bytes, 1 at the peer's end, or the
 * error. */
static int judge(struct tls_session *session, int result, struct error *error)
{
    switch (SSL_get_error(session->openssl, result)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    default:
        return fail(session, error);
    }
}

/* ---- Running --------------------------------------------------------------------------------- */

/* What OpenSSL says of a call takes older errors for its own. To clear none is dear: as much as to encrypt
 * 1 KB. */
static void forget_errors(void)
{
    if (ERR_peek_error() != 0) {
        ERR_clear_error();
    }
}

static int run_handshake(struct tls_session *session, struct error *error)
{
    forget_errors();
    int result = SSL_do_handshake(session->openssl);
    if (result != 1) {
        int status = judge(session, result, error);
        if (status == 1) {
            session->state = TLS_STATE_FAILED;
            return error_say(error, ERROR_PROTOCOL, "tls: the peer hung up");
        }
        return status;
    }
    bool has_certificate = SSL_get0_peer_certificate(session->openssl) != NULL;
    ASSERT(has_certificate == session->has_peer); /* I2. */
    ASSERT_IF(!session->has_peer, session->options.admits_strangers);
    session->state = TLS_STATE_OPEN;
    return 0;
}

static int run_reading(struct tls_session *session, struct buffer *plain, struct error *error)
{
    for (;;) {
        size_t count = 0;
        buffer_reserve(plain, RECORD_PLAIN_BYTES_MAX);
        forget_errors();
        int result = SSL_read_ex(session->openssl, plain->data + plain->size_bytes,
                                 RECORD_PLAIN_BYTES_MAX, &count);
        if (result == 1) {
            plain->size_bytes += count;
            if (session->received.size_bytes == 0 && SSL_has_pending(session->openssl) == 0) {
                return 0; /* To ask for more would cost as much as half a record. */
            }
            continue;
        }
        int status = judge(session, result, error);
        if (status == 1) {
            session->state = TLS_STATE_ENDED;
            return 0;
        }
        return status;
    }
}

void tls_session_start(struct tls_session *session, struct buffer *outgoing)
{
    ASSERT(session->options.side == TLS_SIDE_CLIENT);
    ASSERT(session->state == TLS_STATE_HANDSHAKE);
    session->outgoing = outgoing;
    int status = run_handshake(session, NULL);
    ASSERT(status == 0); /* It has only written. */
    session->outgoing = NULL;
}

int tls_session_receive(struct tls_session *session, struct bytes received, struct buffer *plain,
                        struct buffer *outgoing, struct error *error)
{
    if (session->state == TLS_STATE_ENDED) {
        return 0; /* RFC 8446 §6.1: what comes after the end is ignored. */
    }
    if (session->state == TLS_STATE_FAILED) {
        return error_say(error, ERROR_PROTOCOL, "tls: the session has failed");
    }
    session->received = received;
    session->outgoing = outgoing;
    int status = 0;
    if (session->state == TLS_STATE_HANDSHAKE) {
        status = run_handshake(session, error);
    }
    if (status == 0 && session->state == TLS_STATE_OPEN) {
        status = run_reading(session, plain, error);
    }
    ASSERT_IF(status == 0 && session->state != TLS_STATE_ENDED, session->received.size_bytes == 0);
    session->received = (struct bytes){0};
    session->outgoing = NULL;
    return status;
}

void tls__session_limit_records(struct tls_session *session, uint64_t record_count_max)
{
    session->record_count_max = record_count_max;
}

/* Count what will be sent, and have OpenSSL change our key before it if that is due. */
static void count_records(struct tls_session *session, size_t plain_size_bytes)
{
    uint64_t record_count = plain_size_bytes / RECORD_PLAIN_BYTES_MAX + 1;
    if (session->record_count + record_count > session->record_count_max) {
        /* Fails only in a handshake; each side changes the key that it sends with. */
        ASSERT(SSL_key_update(session->openssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
        session->record_count = 0;
    }
    session->record_count += record_count;
}

int tls_session_send(struct tls_session *session, struct bytes plain, struct buffer *outgoing,
                     struct error *error)
{
    ASSERT(session->state == TLS_STATE_OPEN || session->state == TLS_STATE_ENDED);
    if (plain.size_bytes == 0) {
        return 0;
    }
    size_t written_bytes = 0;
    buffer_reserve(outgoing, tls_sealed_size_bytes_max(plain.size_bytes));
    session->outgoing = outgoing;
    forget_errors();
    count_records(session, plain.size_bytes);
    int result = SSL_write_ex(session->openssl, plain.data, plain.size_bytes, &written_bytes);
    session->outgoing = NULL;
    if (result != 1) {
        session->state = TLS_STATE_FAILED;
        return tls__fail(error, -EIO, "encrypt");
    }
    ASSERT(written_bytes == plain.size_bytes); /* The BIO takes everything. */
    return 0;
}

void tls_session_finish(struct tls_session *session, struct buffer *outgoing)
{
    if (session->state != TLS_STATE_OPEN && session->state != TLS_STATE_ENDED) {
        return;
    }
    session->outgoing = outgoing;
    ERR_clear_error();
    (void)SSL_shutdown(session->openssl); /* Says whether the peer did the same already. */
    session->outgoing = NULL;
    ERR_clear_error();
}

enum tls_state tls_session_state(const struct tls_session *session)
{
    return session->state;
}

const struct tls_identity *tls_session_peer(const struct tls_session *session)
{
    bool is_known = session->state == TLS_STATE_OPEN || session->state == TLS_STATE_ENDED;
    return is_known && session->has_peer ? &session->peer : NULL;
}

size_t tls_sealed_size_bytes_max(size_t plain_size_bytes)
{
    /* Answers that OpenSSL owes the peer (to a change of keys) may go before. */
    size_t record_count = plain_size_bytes / RECORD_PLAIN_BYTES_MAX + 1;
    return plain_size_bytes + record_count * RECORD_OVERHEAD_BYTES + ALERT_BYTES_MAX;
}
