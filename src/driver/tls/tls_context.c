/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/memory/memory.h"
#include "driver/tls/tls_internal.h"

enum {
    /* Of what a peer shows before we know it: two certificates of ours are about 1,200 bytes. */
    CERTIFICATES_SIZE_BYTES_MAX = 16 * 1024,
    CHAIN_DEPTH_MAX = 2,
};

/* Fast on every processor with AES instructions; the others for who has none or must. */
static const char suites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char groups[] = "X25519:P-256";
static const char signatures[] = "ECDSA+SHA256";

struct tls_context {
    SSL_CTX *openssl;
    struct tls__trust trust;
    struct tls_identity identity; /* Of us; not in a pinned context. */
};

SSL_CTX *tls__context_openssl(const struct tls_context *context)
{
    return context->openssl;
}

const struct tls__trust *tls__context_trust(const struct tls_context *context)
{
    return &context->trust;
}

/* What holds for every session. */
static SSL_CTX *make_openssl(void)
{
    SSL_CTX *made = SSL_CTX_new(TLS_method());
    ASSERT(made != NULL);
    ASSERT(SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) == 1); /* I1. */
    ASSERT(SSL_CTX_set_max_proto_version(made, TLS1_3_VERSION) == 1);
    ASSERT(SSL_CTX_set_ciphersuites(made, suites) == 1);
    ASSERT(SSL_CTX_set1_groups_list(made, groups) == 1);
    ASSERT(SSL_CTX_set1_sigalgs_list(made, signatures) == 1);
    ASSERT(SSL_CTX_set1_client_sigalgs_list(made, signatures) == 1);
    (void)SSL_CTX_set_options(made, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                        SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                        SSL_OP_IGNORE_UNEXPECTED_EOF);
    ASSERT(SSL_CTX_set_num_tickets(made, 0) == 1);
    (void)SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(made, SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_cert_list(made, CERTIFICATES_SIZE_BYTES_MAX);
    SSL_CTX_set_verify_depth(made, CHAIN_DEPTH_MAX);
    SSL_CTX_set_cert_verify_callback(made, tls__session_verify, NULL);
    return made;
}

/* Our certificate is shown together with its authority's, whose fingerprint a joiner looks for. */
static bool use_material(SSL_CTX *openssl, const struct tls__material *material)
{
    if (SSL_CTX_use_certificate(openssl, material->certificate) != 1 ||
        SSL_CTX_use_PrivateKey(openssl, material->key) != 1) {
        return false;
    }
    X509_STORE *store = SSL_CTX_get_cert_store(openssl);
    for (int i = 0; i < sk_X509_num(material->authorities); i++) {
        X509 *authority = sk_X509_value(material->authorities, i);
        if (X509_STORE_add_cert(store, authority) != 1) {
            return false;
        }
        if (X509_check_issued(authority, material->certificate) == X509_V_OK &&
            SSL_CTX_add1_chain_cert(openssl, authority) != 1) {
            return false;
        }
    }
    return true;
}

static int make_context(struct tls_context *made, const struct tls_context_options *options,
                        struct error *error)
{
    struct tls__material material;
    int status = tls__material_init(&material, options->pair, options->authority, 0, error);
    if (status != 0) {
        return status;
    }
    SSL_CTX *openssl = make_openssl();
    if (material.identity.node_id == 0) {
        status = error_say(error, -EACCES, "not the certificate of a node");
    } else if (!use_material(openssl, &material)) {
        status = tls__fail(error, -EIO, "use the node's certificate");
    }
    if (status == 0) {
        *made = (struct tls_context){.openssl = openssl, .identity = material.identity};
        memcpy(made->trust.cluster, material.identity.cluster, sizeof made->trust.cluster);
    } else {
        SSL_CTX_free(openssl);
    }
    tls__material_deinit(&material);
    return status;
}

int tls_context_create(struct tls_context **context, const struct tls_context_options *options,
                       struct error *error)
{
    struct tls_context made;
    int status = make_context(&made, options, error);
    if (status != 0) {
        return status;
    }
    *context = memory_allocate(sizeof made);
    **context = made;
    return 0;
}

struct tls_context *tls_context_create_pinned(const struct tls_digest *fingerprint)
{
    struct tls_context *context = memory_allocate_zeroed(1, sizeof *context);
    context->openssl = make_openssl();
    context->trust.is_pinned = true;
    context->trust.fingerprint = *fingerprint;
    return context;
}

int tls_context_reload(struct tls_context *context, const struct tls_context_options *options,
                       struct error *error)
{
    ASSERT(!context->trust.is_pinned);
    struct tls_context made;
    int status = make_context(&made, options, error);
    if (status != 0) {
        return status;
    }
    if (strcmp(made.identity.cluster, context->identity.cluster) != 0 ||
        made.identity.node_id != context->identity.node_id) {
        SSL_CTX_free(made.openssl);
        return error_say(error, -EINVAL,
                         "the certificate is of node %u of cluster %s, and not of node %u of %s",
                         made.identity.node_id, made.identity.cluster, context->identity.node_id,
                         context->identity.cluster);
    }
    SSL_CTX_free(context->openssl); /* Sessions hold it as long as they need it. */
    *context = made;
    return 0;
}

const struct tls_identity *tls_context_identity(const struct tls_context *context)
{
    return context->trust.is_pinned ? NULL : &context->identity;
}

void tls_context_destroy(struct tls_context *context)
{
    if (context != NULL) {
        SSL_CTX_free(context->openssl);
        memory_free(context);
    }
}
