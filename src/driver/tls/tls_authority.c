/* SPDX-License-Identifier: Apache-2.0 */
/* Making keys, requests and certificates. docs/formats/tls.md has what stands in each. */
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/assert/assert.h"
#include "driver/os/os.h"
#include "driver/tls/tls_internal.h"

enum {
    SERIAL_SIZE_BYTES = 16, /* RFC 5280 §4.1.2.2 allows 20. */
    URI_SIZE = 128,
    KEY_PEM_SIZE_BYTES = 4096, /* Room for a key, so that none is copied when a buffer grows. */
};

_Static_assert(URI_SIZE > sizeof "URI:tutti:///node/4294967295" + TLS_CLUSTER_TEXT_SIZE,
               "the longest name must fit");

/* What a certificate says, and who signs it. */
struct description {
    const char *cluster;
    uint32_t node_id;     /* 0: the authority. */
    EVP_PKEY *public_key; /* Of the subject. */
    X509 *issuer;         /* NULL: itself. */
    EVP_PKEY *issuer_key;
    uint64_t valid_from_ms;
    uint64_t valid_until_ms;
};

/* ---- Fields ---------------------------------------------------------------------------------- */

static bool set_serial(X509 *certificate)
{
    uint8_t random[SERIAL_SIZE_BYTES];
    os_random_fill(random, sizeof random);
    random[0] = (uint8_t)((random[0] & 0x7f) | 0x40); /* Positive, and of one length. */
    BIGNUM *number = BN_bin2bn(random, sizeof random, NULL);
    bool is_set =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return is_set;
}

static bool add_name(X509_NAME *name, const char *field, const char *text)
{
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC, (const unsigned char *)text, -1,
                                      -1, 0) == 1;
}

static bool set_names(X509 *certificate, const struct description *description)
{
    char common[URI_SIZE] = "authority";
    if (description->node_id != 0) {
        (void)snprintf(common, sizeof common, "%u", description->node_id);
    }
    X509_NAME *subject = X509_get_subject_name(certificate);
    if (!add_name(subject, "O", description->cluster) || !add_name(subject, "CN", common)) {
        return false;
    }
    X509 *issuer = description->issuer != NULL ? description->issuer : certificate;
    return X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1;
}

static bool set_times(X509 *certificate, const struct description *description)
{
    return ASN1_TIME_set(X509_getm_notBefore(certificate),
                         (time_t)(description->valid_from_ms / 1000)) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate),
                         (time_t)(description->valid_until_ms / 1000)) != NULL;
}

static bool add_extension(X509 *certificate, X509 *issuer, int name, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, name, value);
    bool is_added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool add_extensions(X509 *certificate, const struct description *description)
{
    char uri[URI_SIZE];
    X509 *issuer = description->issuer != NULL ? description->issuer : certificate;
    if (description->node_id == 0) {
        (void)snprintf(uri, sizeof uri, "URI:tutti://%s/authority", description->cluster);
        return add_extension(certificate, issuer, NID_basic_constraints,
                             "critical,CA:TRUE,pathlen:0") &&
               add_extension(certificate, issuer, NID_key_usage, "critical,keyCertSign,cRLSign") &&
               add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
               add_extension(certificate, issuer, NID_subject_alt_name, uri);
    }
    (void)snprintf(uri, sizeof uri, "URI:tutti://%s/node/%u", description->cluster,
                   description->node_id);
    return add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth") &&
           add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always") &&
           add_extension(certificate, issuer, NID_subject_alt_name, uri);
}

/* Give a signed certificate, or NULL. */
static X509 *make_certificate(const struct description *description)
{
    X509 *certificate = X509_new();
    ASSERT(certificate != NULL);
    bool is_made = X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
                   set_names(certificate, description) && set_times(certificate, description) &&
                   X509_set_pubkey(certificate, description->public_key) == 1 &&
                   add_extensions(certificate, description) &&
                   X509_sign(certificate, description->issuer_key, EVP_sha256()) > 0;
    if (!is_made) {
        X509_free(certificate);
        return NULL;
    }
    return certificate;
}

/* ---- PEM ------------------------------------------------------------------------------------- */

enum object_kind { OBJECT_KEY, OBJECT_REQUEST, OBJECT_CERTIFICATE };

/* Append an object as PEM. OpenSSL wipes the memory of its own copy. */
static bool append_pem(struct buffer *pem, enum object_kind kind, void *object)
{
    BIO *bio = BIO_new(BIO_s_mem());
    ASSERT(bio != NULL);
    int status = 0;
    switch (kind) {
    case OBJECT_KEY:
        status = PEM_write_bio_PrivateKey(bio, object, NULL, NULL, 0, NULL, NULL);
        break;
    case OBJECT_REQUEST:
        status = PEM_write_bio_X509_REQ(bio, object);
        break;
    case OBJECT_CERTIFICATE:
        status = PEM_write_bio_X509(bio, object);
        break;
    }
    char *text = NULL;
    long size_bytes = BIO_get_mem_data(bio, &text);
    if (status == 1 && size_bytes > 0) {
        buffer_reserve(pem, KEY_PEM_SIZE_BYTES);
        buffer_append(pem, bytes_make(text, (size_t)size_bytes));
    }
    BIO_free(bio);
    return status == 1 && size_bytes > 0;
}

/* ---- The authority --------------------------------------------------------------------------- */

static bool is_cluster(const char *cluster)
{
    size_t size = strlen(cluster);
    return size > 0 && size < TLS_CLUSTER_TEXT_SIZE && strspn(cluster, "0123456789abcdef") == size;
}

static uint64_t backdated(uint64_t now_ms)
{
    return now_ms > TLS_BACKDATED_MS ? now_ms - TLS_BACKDATED_MS : 0;
}

int tls_authority_create(struct tls_pair *pair, const char *cluster, uint64_t now_ms,
                         struct error *error)
{
    ASSERT(pair->key.size_bytes == 0);
    ASSERT(pair->certificate.size_bytes == 0);
    if (!is_cluster(cluster)) {
        return error_set(error, -EINVAL, "cluster \"%s\" is not 1 to 64 hexadecimal digits",
                         cluster);
    }
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct description description = {.cluster = cluster,
                                      .public_key = key,
                                      .issuer_key = key,
                                      .valid_from_ms = backdated(now_ms),
                                      .valid_until_ms = now_ms + TLS_AUTHORITY_VALIDITY_MS};
    X509 *certificate = key != NULL ? make_certificate(&description) : NULL;
    int status = 0;
    if (certificate == NULL || !append_pem(&pair->key, OBJECT_KEY, key) ||
        !append_pem(&pair->certificate, OBJECT_CERTIFICATE, certificate)) {
        tls_pair_deinit(pair);
        status = tls__fail(error, -EIO, "make the cluster's authority");
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return status;
}

/* ---- Requests -------------------------------------------------------------------------------- */

int tls_request_create(struct buffer *key, struct buffer *request, struct error *error)
{
    EVP_PKEY *made_key = EVP_EC_gen("P-256");
    X509_REQ *made = X509_REQ_new();
    ASSERT(made != NULL);
    bool is_made = made_key != NULL && add_name(X509_REQ_get_subject_name(made), "CN", "node") &&
                   X509_REQ_set_pubkey(made, made_key) == 1 &&
                   X509_REQ_sign(made, made_key, EVP_sha256()) > 0;
    size_t key_before_bytes = key->size_bytes;
    size_t request_before_bytes = request->size_bytes;
    int status = 0;
    if (!is_made || !append_pem(key, OBJECT_KEY, made_key) ||
        !append_pem(request, OBJECT_REQUEST, made)) {
        key->size_bytes = key_before_bytes;
        request->size_bytes = request_before_bytes;
        status = tls__fail(error, -EIO, "make a key and a request for its certificate");
    }
    X509_REQ_free(made);
    EVP_PKEY_free(made_key);
    return status;
}

X509_REQ *tls__parse_request(struct bytes pem)
{
    if (pem.size_bytes == 0 || pem.size_bytes > TLS_PEM_SIZE_BYTES_MAX) {
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size_bytes);
    ASSERT(bio != NULL);
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, tls__no_password, NULL);
    BIO_free(bio);
    ERR_clear_error();
    return request;
}

/* P-256 by its name: a curve of somebody's own making would be a way to cheat. */
static bool is_good_key(const EVP_PKEY *key)
{
    char group[32] = {0};
    int is_explicit = 1;
    return EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
           strcmp(group, "prime256v1") == 0 &&
           EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                                  &is_explicit) == 1 &&
           is_explicit == 0;
}

static int check_request(X509_REQ *request, struct error *error)
{
    EVP_PKEY *key = request != NULL ? X509_REQ_get0_pubkey(request) : NULL;
    const char *wrong = NULL;
    if (request == NULL || key == NULL) {
        wrong = "not a request for a certificate";
    } else if (!is_good_key(key)) {
        wrong = "the request's key is not of the curve P-256";
    } else if (X509_REQ_verify(request, key) != 1) {
        wrong = "the request is not signed with its key";
    }
    ERR_clear_error();
    return wrong == NULL ? 0 : error_say(error, ERROR_PROTOCOL, "%s", wrong);
}

static int sign_checked(struct buffer *certificate, const struct tls__material *authority,
                        const struct tls_sign_options *options, X509_REQ *request,
                        struct error *error)
{
    uint64_t validity_ms = options->validity_ms != 0 ? options->validity_ms : TLS_NODE_VALIDITY_MS;
    uint64_t longest_ms = authority->identity.valid_until_ms - options->now_ms;
    struct description description = {
        .cluster = authority->identity.cluster,
        .node_id = options->node_id,
        .public_key = X509_REQ_get0_pubkey(request),
        .issuer = authority->certificate,
        .issuer_key = authority->key,
        .valid_from_ms = backdated(options->now_ms),
        .valid_until_ms = options->now_ms + (validity_ms < longest_ms ? validity_ms : longest_ms),
    };
    X509 *made = make_certificate(&description);
    int status = 0;
    if (made == NULL || !append_pem(certificate, OBJECT_CERTIFICATE, made)) {
        status = tls__fail(error, -EIO, "sign a certificate");
    }
    X509_free(made);
    return status;
}

int tls_request_sign(struct buffer *certificate, const struct tls_sign_options *options,
                     struct error *error)
{
    ASSERT(options->node_id != 0);
    struct tls__material authority;
    int status =
        tls__material_init(&authority, options->authority,
                           buffer_bytes(&options->authority->certificate), options->now_ms, error);
    if (status != 0) {
        return error_wrap(error, -EINVAL, "the cluster's authority");
    }
    X509_REQ *request = tls__parse_request(options->request);
    status = authority.identity.node_id == 0
                 ? check_request(request, error)
                 : error_say(error, -EINVAL, "the certificate of a node cannot sign others");
    if (status == 0) {
        status = sign_checked(certificate, &authority, options, request, error);
    }
    X509_REQ_free(request);
    tls__material_deinit(&authority);
    return status;
}
