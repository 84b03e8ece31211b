/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/random/random.h"
#include "driver/os/os.h"
#include "driver/tls/tls_internal.h"

static const char cluster[] = "00112233445566778899aabbccddeeff";

/* One side of a connection whose network is two buffers. */
struct end {
    struct tls_session *session;
    struct buffer outgoing;
    struct buffer plain;
    struct error error;
    int status;
};

static struct {
    struct tls_pair authority;
    struct tls_pair first;
    struct tls_pair second;
    struct tls_context *server_context;
    struct tls_context *client_context;
    struct end server;
    struct end client;
    size_t step_bytes; /* So many bytes of the network at a time; 0: all. */
} world;

/* ---- The world ------------------------------------------------------------------------------- */

static struct tls_pair make_node(const struct tls_pair *authority, uint32_t node_id,
                                 uint64_t made_ms, uint64_t validity_ms)
{
    struct tls_pair pair = {0};
    struct buffer request = {0};
    assert_int_equal(tls_request_create(&pair.key, &request, NULL), 0);
    struct tls_sign_options options = {.authority = authority,
                                       .request = buffer_bytes(&request),
                                       .node_id = node_id,
                                       .now_ms = made_ms,
                                       .validity_ms = validity_ms};
    assert_int_equal(tls_request_sign(&pair.certificate, &options, NULL), 0);
    buffer_deinit(&request);
    return pair;
}

static struct tls_context *make_context(const struct tls_pair *authority,
                                        const struct tls_pair *pair)
{
    struct tls_context *context = NULL;
    struct error error = {0};
    struct tls_context_options options = {.authority = buffer_bytes(&authority->certificate),
                                          .pair = pair};
    assert_int_equal(tls_context_create(&context, &options, &error), 0);
    return context;
}

static int setup(void **state)
{
    (void)state;
    uint64_t now_ms = os_wall_clock_ms();
    memset(&world, 0, sizeof world);
    assert_int_equal(tls_authority_create(&world.authority, cluster, now_ms, NULL), 0);
    world.first = make_node(&world.authority, 1, now_ms, 0);
    world.second = make_node(&world.authority, 2, now_ms, 0);
    world.server_context = make_context(&world.authority, &world.first);
    world.client_context = make_context(&world.authority, &world.second);
    return 0;
}

static void end_deinit(struct end *end)
{
    tls_session_destroy(end->session);
    buffer_deinit(&end->outgoing);
    buffer_deinit(&end->plain);
    *end = (struct end){0};
}

static int teardown(void **state)
{
    (void)state;
    end_deinit(&world.server);
    end_deinit(&world.client);
    tls_context_destroy(world.server_context);
    tls_context_destroy(world.client_context);
    tls_pair_deinit(&world.authority);
    tls_pair_deinit(&world.first);
    tls_pair_deinit(&world.second);
    return 0;
}

static void replace_context(struct tls_context **place, struct tls_context *context)
{
    tls_context_destroy(*place);
    *place = context;
}

/* Carry what `source` has to send to `target`. */
static bool carry(struct end *source, struct end *target)
{
    if (source->outgoing.size_bytes == 0) {
        return false;
    }
    size_t count = source->outgoing.size_bytes;
    if (world.step_bytes != 0 && world.step_bytes < count) {
        count = world.step_bytes;
    }
    if (target->status == 0) {
        target->status =
            tls_session_receive(target->session, bytes_make(source->outgoing.data, count),
                                &target->plain, &target->outgoing, &target->error);
        assert_int_equal(target->status, target->error.code);
        assert_int_equal(target->status != 0,
                         tls_session_state(target->session) == TLS_STATE_FAILED);
    }
    buffer_consume(&source->outgoing, count);
    return true;
}

static void pump(void)
{
    bool has_moved = true;
    while (has_moved) {
        has_moved = carry(&world.client, &world.server);
        has_moved = carry(&world.server, &world.client) || has_moved;
    }
}

static void connect_ends(struct tls_session_options server, uint32_t expected_node_id)
{
    server.side = TLS_SIDE_SERVER;
    struct tls_session_options client = {.side = TLS_SIDE_CLIENT,
                                         .expected_node_id = expected_node_id};
    end_deinit(&world.server);
    end_deinit(&world.client);
    world.server.session = tls_session_create(world.server_context, &server);
    world.client.session = tls_session_create(world.client_context, &client);
    tls_session_start(world.client.session, &world.client.outgoing);
    pump();
}

static void send_text(struct end *end, struct bytes text)
{
    assert_int_equal(tls_session_send(end->session, text, &end->outgoing, NULL), 0);
}

static bool is_open(void)
{
    return tls_session_state(world.server.session) == TLS_STATE_OPEN &&
           tls_session_state(world.client.session) == TLS_STATE_OPEN;
}

/* Did the server learn nothing, and let nothing through? TLS 1.3 lets a client believe that it is
 * connected until the server's answer to its certificate arrives. */
static void assert_refused(const struct end *end, int status, const char *reason)
{
    assert_int_equal(end->status, status);
    if (strstr(end->error.message, reason) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", reason, end->error.message);
    }
    assert_int_equal(tls_session_state(world.server.session), TLS_STATE_FAILED);
    assert_null(tls_session_peer(world.server.session));
    assert_int_equal(world.server.plain.size_bytes, 0);
}

/* ---- What works ------------------------------------------------------------------------------ */

/* Claim: two nodes of a cluster know each other after the handshake and read what the other wrote,
 * however the network cuts it. */
static void test_handshake(void **state)
{
    (void)state;
    for (world.step_bytes = 0; world.step_bytes < 3; world.step_bytes++) {
        connect_ends((struct tls_session_options){0}, 1);
        assert_true(is_open());
        assert_int_equal(tls_session_peer(world.server.session)->node_id, 2);
        assert_int_equal(tls_session_peer(world.client.session)->node_id, 1);
        assert_string_equal(tls_session_peer(world.client.session)->cluster, cluster);
        send_text(&world.client, BYTES("hello"));
        send_text(&world.server, BYTES("good "));
        send_text(&world.server, BYTES("evening"));
        pump();
        assert_true(bytes_equal(buffer_bytes(&world.server.plain), BYTES("hello")));
        assert_true(bytes_equal(buffer_bytes(&world.client.plain), BYTES("good evening")));
    }
}

/* Claim: megabytes arrive unchanged; what they grow to is bounded as promised. */
static void test_large(void **state)
{
    (void)state;
    enum { SIZE_BYTES = 3 * 1024 * 1024 + 17 };
    struct random random;
    struct buffer sent = {0};
    random_init(&random, 1);
    for (size_t i = 0; i < SIZE_BYTES; i += 8) {
        uint64_t word = random_next(&random);
        buffer_append(&sent, bytes_make(&word, SIZE_BYTES - i < 8 ? SIZE_BYTES - i : 8));
    }
    connect_ends((struct tls_session_options){0}, 0);
    send_text(&world.client, buffer_bytes(&sent));
    assert_true(world.client.outgoing.size_bytes > SIZE_BYTES);
    assert_true(world.client.outgoing.size_bytes <= tls_sealed_size_bytes_max(SIZE_BYTES));
    world.step_bytes = 64 * 1024;
    pump();
    assert_true(bytes_equal(buffer_bytes(&world.server.plain), buffer_bytes(&sent)));
    buffer_deinit(&sent);
}

/* Claim: no ticket is sent with which a session could be resumed: after the handshake the server has
 * nothing to say. */
static void test_no_tickets(void **state)
{
    (void)state;
    struct tls_session_options server = {.side = TLS_SIDE_SERVER};
    struct tls_session_options client = {.side = TLS_SIDE_CLIENT};
    world.server.session = tls_session_create(world.server_context, &server);
    world.client.session = tls_session_create(world.client_context, &client);
    tls_session_start(world.client.session, &world.client.outgoing);
    (void)carry(&world.client, &world.server);
    (void)carry(&world.server, &world.client);
    (void)carry(&world.client, &world.server);
    assert_true(is_open());
    assert_int_equal(world.server.outgoing.size_bytes, 0);
}

/* Claim: keys are changed on the way, each side for itself, and nobody notices. */
static void test_change_of_keys(void **state)
{
    (void)state;
    enum { MESSAGE_BYTES = 5, SEALED_BYTES = 27, TURNS = 100 };
    uint32_t longer_count = 0;
    connect_ends((struct tls_session_options){0}, 0);
    tls__session_limit_records(world.client.session, 10);
    for (uint32_t i = 0; i < TURNS; i++) {
        send_text(&world.client, BYTES("hello"));
        longer_count += world.client.outgoing.size_bytes > SEALED_BYTES;
        send_text(&world.server, BYTES("world"));
        assert_int_equal(world.server.outgoing.size_bytes, SEALED_BYTES);
        pump();
    }
    assert_int_equal(longer_count, TURNS / 10 - 1);
    assert_int_equal(world.server.plain.size_bytes, TURNS * MESSAGE_BYTES);
    assert_int_equal(world.client.plain.size_bytes, TURNS * MESSAGE_BYTES);
    struct bytes last = bytes_make(world.server.plain.data + (TURNS - 1) * MESSAGE_BYTES, 5);
    assert_true(bytes_equal(last, BYTES("hello")));
}

/* Claim: errors that others left behind on this thread are not the session's, whether it has all it needs or
 * waits for more. */
static void test_errors_of_others(void **state)
{
    (void)state;
    connect_ends((struct tls_session_options){0}, 0);
    for (world.step_bytes = 0; world.step_bytes < 2; world.step_bytes++) {
        send_text(&world.client, BYTES("hello"));
        bool has_moved = true;
        while (has_moved) {
            ERR_raise(ERR_LIB_USER, ERR_R_INTERNAL_ERROR);
            has_moved = carry(&world.client, &world.server);
        }
        ERR_raise(ERR_LIB_USER, ERR_R_INTERNAL_ERROR);
        send_text(&world.server, BYTES("world"));
        pump();
        assert_true(is_open());
    }
    assert_true(bytes_equal(buffer_bytes(&world.server.plain), BYTES("hellohello")));
    assert_true(bytes_equal(buffer_bytes(&world.client.plain), BYTES("worldworld")));
    ERR_clear_error();
}

/* Claim: who finished is told apart from who vanished, and can still be written to. */
static void test_finish(void **state)
{
    (void)state;
    connect_ends((struct tls_session_options){0}, 0);
    tls_session_finish(world.client.session, &world.client.outgoing);
    pump();
    assert_int_equal(tls_session_state(world.server.session), TLS_STATE_ENDED);
    send_text(&world.server, BYTES("last words"));
    pump();
    assert_true(bytes_equal(buffer_bytes(&world.client.plain), BYTES("last words")));
}

/* ---- Who is refused -------------------------------------------------------------------------- */

/* Claim: a certificate of another authority is refused by both sides, even if it names our cluster
 * and node. */
static void test_wrong_authority(void **state)
{
    (void)state;
    uint64_t now_ms = os_wall_clock_ms();
    struct tls_pair other = {0};
    assert_int_equal(tls_authority_create(&other, cluster, now_ms, NULL), 0);
    struct tls_pair false_node = make_node(&other, 1, now_ms, 0);
    replace_context(&world.server_context, make_context(&other, &false_node));
    connect_ends((struct tls_session_options){0}, 1);
    assert_refused(&world.client, -EACCES, "certificate");
    assert_int_equal(world.server.status, -EACCES); /* It was told by an alert. */
    replace_context(&world.server_context, make_context(&world.authority, &world.first));
    replace_context(&world.client_context, make_context(&other, &false_node));
    connect_ends((struct tls_session_options){0}, 0);
    assert_int_equal(world.client.status, -EACCES);
    tls_pair_deinit(&false_node);
    tls_pair_deinit(&other);
}

/* Claim: a client that trusts the server, but whose certificate is foreign, learns nothing: here it
 * trusts anybody by pinning and shows none. */
static void test_no_certificate(void **state)
{
    (void)state;
    struct tls_digest fingerprint;
    assert_int_equal(
        tls_fingerprint(&fingerprint, buffer_bytes(&world.authority.certificate), NULL), 0);
    replace_context(&world.client_context, tls_context_create_pinned(&fingerprint));
    connect_ends((struct tls_session_options){0}, 0);
    assert_refused(&world.server, -EACCES, "no certificate");
    assert_refused(&world.client, -EACCES, "refused us");
}

/* Claim: a server that admits strangers lets one in without an identity, and nodes with theirs; a
 * foreign certificate is still refused there. */
static void test_stranger(void **state)
{
    (void)state;
    struct tls_session_options admitting = {.admits_strangers = true};
    connect_ends(admitting, 1);
    assert_true(is_open());
    assert_int_equal(tls_session_peer(world.server.session)->node_id, 2);
    struct tls_digest fingerprint;
    assert_int_equal(
        tls_fingerprint(&fingerprint, buffer_bytes(&world.authority.certificate), NULL), 0);
    replace_context(&world.client_context, tls_context_create_pinned(&fingerprint));
    connect_ends(admitting, 1);
    assert_true(is_open());
    assert_null(tls_session_peer(world.server.session));
    assert_int_equal(tls_session_peer(world.client.session)->node_id, 1);
    send_text(&world.client, BYTES("let me in"));
    pump();
    assert_true(bytes_equal(buffer_bytes(&world.server.plain), BYTES("let me in")));
}

/* Claim: a pin fits exactly one authority: not another one of the same name, and not the server's
 * own certificate. */
static void test_pin(void **state)
{
    (void)state;
    struct tls_pair other = {0};
    assert_int_equal(tls_authority_create(&other, cluster, os_wall_clock_ms(), NULL), 0);
    const struct tls_pair *pins[] = {&other, &world.first};
    for (size_t i = 0; i < 2; i++) {
        struct tls_digest fingerprint;
        assert_int_equal(tls_fingerprint(&fingerprint, buffer_bytes(&pins[i]->certificate), NULL),
                         0);
        replace_context(&world.client_context, tls_context_create_pinned(&fingerprint));
        connect_ends((struct tls_session_options){.admits_strangers = true}, 0);
        assert_refused(&world.client, -EACCES, i == 0 ? "fingerprint" : "refused");
    }
    tls_pair_deinit(&other);
}

/* Let the client meet a server of another program's making, which shows what it likes; returns the
 * client's status. */
static int meet_server(const struct tls_pair *pair, X509 *certificate, X509 *authority)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = tls__parse_key(buffer_bytes(&pair->key));
    assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    assert_int_equal(SSL_CTX_add1_chain_cert(context, authority), 1);
    SSL *server = SSL_new(context);
    SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(server);
    struct tls_session_options options = {.side = TLS_SIDE_CLIENT};
    end_deinit(&world.client);
    world.client.session = tls_session_create(world.client_context, &options);
    tls_session_start(world.client.session, &world.client.outgoing);
    assert_true(BIO_write(SSL_get_rbio(server), world.client.outgoing.data,
                          (int)world.client.outgoing.size_bytes) > 0);
    assert_int_equal(SSL_do_handshake(server), -1); /* It waits for the client's answer. */
    char *flight = NULL;
    long size_bytes = BIO_get_mem_data(SSL_get_wbio(server), &flight);
    assert_true(size_bytes > 1000);
    int status =
        tls_session_receive(world.client.session, bytes_make(flight, (size_t)size_bytes),
                            &world.client.plain, &world.client.outgoing, &world.client.error);
    assert_int_equal(status == 0, tls_session_peer(world.client.session) != NULL);
    SSL_free(server);
    SSL_CTX_free(context);
    EVP_PKEY_free(key);
    return status;
}

/* Claim: a server that shows somebody else's certificate authority beside its own certificate does
 * not pass for one of that authority. */
static void test_pin_with_borrowed_authority(void **state)
{
    (void)state;
    uint64_t now_ms = os_wall_clock_ms();
    struct tls_digest fingerprint;
    assert_int_equal(
        tls_fingerprint(&fingerprint, buffer_bytes(&world.authority.certificate), NULL), 0);
    replace_context(&world.client_context, tls_context_create_pinned(&fingerprint));
    struct tls_pair other = {0};
    assert_int_equal(tls_authority_create(&other, cluster, now_ms, NULL), 0);
    struct tls_pair false_node = make_node(&other, 1, now_ms, 0);
    X509 *certificate = tls__parse_certificate(buffer_bytes(&false_node.certificate));
    X509 *own = tls__parse_certificate(buffer_bytes(&world.first.certificate));
    X509 *borrowed = tls__parse_certificate(buffer_bytes(&world.authority.certificate));
    assert_int_equal(meet_server(&world.first, own, borrowed), 0);
    assert_int_equal(meet_server(&false_node, certificate, borrowed), -EACCES);
    X509_free(certificate);
    X509_free(own);
    X509_free(borrowed);
    tls_pair_deinit(&false_node);
    tls_pair_deinit(&other);
}

/* A certificate as the authority would never make it, but properly signed. */
static X509 *sign_oddly(X509 *authority, const char *name, const char *usage)
{
    X509 *made = tls__parse_certificate(buffer_bytes(&world.first.certificate));
    EVP_PKEY *key = tls__parse_key(buffer_bytes(&world.authority.key));
    const int kinds[] = {NID_subject_alt_name, NID_ext_key_usage};
    const char *const values[] = {name, usage};
    for (uint32_t i = 0; i < 2; i++) {
        int place = X509_get_ext_by_NID(made, kinds[i], -1);
        X509_EXTENSION_free(X509_delete_ext(made, place));
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, kinds[i], values[i]);
        assert_int_equal(X509_add_ext(made, extension, -1), 1);
        X509_EXTENSION_free(extension);
    }
    assert_int_equal(X509_set_issuer_name(made, X509_get_subject_name(authority)), 1);
    assert_true(X509_sign(made, key, EVP_sha256()) > 0);
    EVP_PKEY_free(key);
    return made;
}

/* Claim: even of our own authority only the certificate of a node of our cluster, made for both
 * sides of TLS, is believed. */
static void test_odd_certificates(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *usage;
        const char *reason; /* NULL: it is good. */
    } cases[] = {
        {"URI:tutti://00112233445566778899aabbccddeeff/node/1", "serverAuth,clientAuth", NULL},
        {"URI:tutti://00112233445566778899aabbccddeeff/node/1", "clientAuth", "purpose"},
        {"URI:tutti://00112233445566778899aabbccddeeff/authority", "serverAuth,clientAuth",
         "not the certificate of a node"},
        {"URI:tutti://ffff/node/1", "serverAuth,clientAuth", "of another cluster, ffff"},
        {"URI:tutti://00112233445566778899aabbccddeeff0/node/1", "serverAuth", "another cluster"},
        {"DNS:example.org", "serverAuth,clientAuth", "not the certificate of a node"},
    };
    X509 *authority = tls__parse_certificate(buffer_bytes(&world.authority.certificate));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        X509 *certificate = sign_oddly(authority, cases[i].name, cases[i].usage);
        int status = meet_server(&world.first, certificate, authority);
        assert_int_equal(status, cases[i].reason == NULL ? 0 : -EACCES);
        assert_true(cases[i].reason == NULL ||
                    strstr(world.client.error.message, cases[i].reason) != NULL);
        X509_free(certificate);
    }
    X509_free(authority);
}

/* Claim: the right cluster but the wrong node is refused by whoever meant another. */
static void test_wrong_node(void **state)
{
    (void)state;
    connect_ends((struct tls_session_options){0}, 3);
    assert_refused(&world.client, -EACCES, "of node 1, and not of node 3");
}

/* Claim: a certificate that has expired, or is of the future, is refused, whosever it is. */
static void test_times(void **state)
{
    (void)state;
    uint64_t now_ms = os_wall_clock_ms();
    struct tls_pair old = {0};
    assert_int_equal(tls_authority_create(&old, cluster, now_ms - 200 * TLS_DAY_MS, NULL), 0);
    struct tls_pair good = make_node(&old, 2, now_ms, 0);
    struct tls_pair expired = make_node(&old, 1, now_ms - 100 * TLS_DAY_MS, 0);
    struct tls_pair early = make_node(&old, 1, now_ms + 2 * TLS_DAY_MS, 0);
    const struct tls_pair *bad[] = {&expired, &early};
    const char *const reasons[] = {"expired", "not yet valid"};
    for (size_t i = 0; i < 2; i++) {
        replace_context(&world.server_context, make_context(&old, bad[i]));
        replace_context(&world.client_context, make_context(&old, &good));
        connect_ends((struct tls_session_options){0}, 0);
        assert_refused(&world.client, -EACCES, reasons[i]);
        replace_context(&world.server_context, make_context(&old, &good));
        replace_context(&world.client_context, make_context(&old, bad[i]));
        connect_ends((struct tls_session_options){0}, 0);
        assert_refused(&world.server, -EACCES, reasons[i]);
        assert_refused(&world.client, -EACCES, "refused us");
    }
    tls_pair_deinit(&early);
    tls_pair_deinit(&expired);
    tls_pair_deinit(&good);
    tls_pair_deinit(&old);
}

/* Claim: the authority's own certificate, or one without its key, makes no context. */
static void test_bad_contexts(void **state)
{
    (void)state;
    struct tls_context *context = NULL;
    struct tls_pair mixed = {.certificate = world.first.certificate, .key = world.second.key};
    const struct tls_pair *bad[] = {&world.authority, &mixed};
    for (size_t i = 0; i < 2; i++) {
        struct tls_context_options options = {
            .authority = buffer_bytes(&world.authority.certificate), .pair = bad[i]};
        assert_int_equal(tls_context_create(&context, &options, NULL), -EACCES);
        assert_null(context);
    }
}

/* ---- What the network may bring -------------------------------------------------------------- */

/* Claim: what is not TLS is told apart at once, and answered with an alert at most. */
static void test_garbage(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",   "*1\r\n$4\r\nPING\r\n",
        "\x16\x03\x01\x00\x05hello and more",  "\x17\x03\x03\x00\x09 data before a handshake",
        "\x80\x0e\x01\x03\x01 as SSL 2 began",
    };
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        struct tls_session_options options = {.side = TLS_SIDE_SERVER, .admits_strangers = true};
        world.server.session = tls_session_create(world.server_context, &options);
        buffer_append(&world.client.outgoing,
                      bytes_make(garbage[i], i < 2 ? strlen(garbage[i]) : 20));
        (void)carry(&world.client, &world.server);
        assert_int_equal(world.server.status, ERROR_PROTOCOL);
        assert_true(world.server.outgoing.size_bytes < 16);
        end_deinit(&world.server);
    }
}

/* Claim: a changed byte of what was encrypted ends the session and lets nothing through. */
static void test_changed_byte(void **state)
{
    (void)state;
    for (size_t place = 0; place < 27; place++) {
        connect_ends((struct tls_session_options){0}, 0);
        send_text(&world.client, BYTES("hello"));
        assert_int_equal(world.client.outgoing.size_bytes, 27);
        world.client.outgoing.data[place] ^= 1;
        (void)carry(&world.client, &world.server);
        if (place != 3 && place != 4) { /* A longer record is waited for. */
            assert_int_equal(world.server.status, ERROR_PROTOCOL);
        }
        assert_int_equal(world.server.plain.size_bytes, 0);
    }
}

/* Claim: TLS 1.2 is not spoken. */
static void test_old_version(void **state)
{
    (void)state;
    SSL_CTX *old_context = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_set_max_proto_version(old_context, TLS1_2_VERSION), 1);
    SSL *old = SSL_new(old_context);
    SSL_set_bio(old, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(old);
    assert_int_equal(SSL_do_handshake(old), -1);
    char *hello = NULL;
    long size_bytes = BIO_get_mem_data(SSL_get_wbio(old), &hello);
    buffer_append(&world.client.outgoing, bytes_make(hello, (size_t)size_bytes));
    struct tls_session_options options = {.side = TLS_SIDE_SERVER, .admits_strangers = true};
    world.server.session = tls_session_create(world.server_context, &options);
    (void)carry(&world.client, &world.server);
    assert_int_equal(world.server.status, ERROR_PROTOCOL);
    assert_string_equal(world.server.error.message, "tls: unsupported protocol");
    SSL_free(old);
    SSL_CTX_free(old_context);
}

/* ---- Renewal --------------------------------------------------------------------------------- */

/* Claim: a renewed certificate is shown in new sessions while old ones go on, and a certificate of
 * another node is no renewal. */
static void test_reload(void **state)
{
    (void)state;
    uint64_t now_ms = os_wall_clock_ms();
    connect_ends((struct tls_session_options){0}, 1);
    uint64_t before_ms = tls_session_peer(world.client.session)->valid_until_ms;
    struct tls_pair renewed = make_node(&world.authority, 1, now_ms, 200 * TLS_DAY_MS);
    struct tls_context_options options = {.authority = buffer_bytes(&world.authority.certificate),
                                          .pair = &renewed};
    assert_int_equal(tls_context_reload(world.server_context, &options, NULL), 0);
    assert_true(tls_context_identity(world.server_context)->valid_until_ms > before_ms);
    send_text(&world.client, BYTES("still here"));
    pump();
    assert_true(bytes_equal(buffer_bytes(&world.server.plain), BYTES("still here")));
    connect_ends((struct tls_session_options){0}, 1);
    assert_true(tls_session_peer(world.client.session)->valid_until_ms > before_ms);
    options.pair = &world.second;
    assert_int_equal(tls_context_reload(world.server_context, &options, NULL), -EINVAL);
    connect_ends((struct tls_session_options){0}, 1);
    assert_true(is_open());
    tls_pair_deinit(&renewed);
}

/* Claim: a session outlives its context. */
static void test_session_outlives_context(void **state)
{
    (void)state;
    struct tls_session_options server = {.side = TLS_SIDE_SERVER};
    struct tls_session_options client = {.side = TLS_SIDE_CLIENT};
    world.server.session = tls_session_create(world.server_context, &server);
    world.client.session = tls_session_create(world.client_context, &client);
    replace_context(&world.server_context, NULL);
    replace_context(&world.client_context, NULL);
    tls_session_start(world.client.session, &world.client.outgoing);
    pump();
    assert_true(is_open());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_handshake),
        TEST(test_large),
        TEST(test_no_tickets),
        TEST(test_change_of_keys),
        TEST(test_errors_of_others),
        TEST(test_finish),
        TEST(test_wrong_authority),
        TEST(test_no_certificate),
        TEST(test_stranger),
        TEST(test_pin),
        TEST(test_pin_with_borrowed_authority),
        TEST(test_odd_certificates),
        TEST(test_wrong_node),
        TEST(test_times),
        TEST(test_bad_contexts),
        TEST(test_garbage),
        TEST(test_changed_byte),
        TEST(test_old_version),
        TEST(test_reload),
        TEST(test_session_outlives_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
