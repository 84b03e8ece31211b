/* SPDX-License-Identifier: Apache-2.0 */
/* Pairs of a key and its certificate: whether they are usable, and their files. */
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert/assert.h"
#include "driver/os/os.h"
#include "driver/tls/tls_internal.h"

void tls_pair_deinit(struct tls_pair *pair)
{
    tls_wipe_buffer(&pair->key);
    buffer_deinit(&pair->certificate);
    *pair = (struct tls_pair){0};
}

/* ---- Verifying ------------------------------------------------------------------------------- */

/* Is the certificate signed by one of the authorities, and valid then? */
static int verify_chain(const struct tls__material *material, uint64_t at_ms, struct error *error)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    ASSERT(store != NULL);
    ASSERT(context != NULL);
    ASSERT(X509_STORE_CTX_init(context, store, material->certificate, NULL) == 1);
    X509_STORE_CTX_set0_trusted_stack(context, material->authorities);
    if (at_ms != 0) {
        X509_STORE_CTX_set_time(context, 0, (time_t)(at_ms / 1000));
    } else {
        X509_STORE_CTX_set_flags(context, X509_V_FLAG_NO_CHECK_TIME);
    }
    int status = 0;
    if (X509_verify_cert(context) != 1) {
        int reason = X509_STORE_CTX_get_error(context);
        status =
            error_say(error, -EACCES, "certificate: %s", X509_verify_cert_error_string(reason));
    }
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    ERR_clear_error();
    return status;
}

static int check_authorities(const struct tls__material *material, struct error *error)
{
    for (int i = 0; i < sk_X509_num(material->authorities); i++) {
        struct tls_identity authority;
        if (!tls__read_identity(&authority, sk_X509_value(material->authorities, i)) ||
            authority.node_id != 0) {
            return error_say(error, ERROR_PROTOCOL, "not the certificate of an authority");
        }
        if (strcmp(authority.cluster, material->identity.cluster) != 0) {
            return error_say(error, -EACCES,
                             "the certificate is of cluster %s, the authority of %s",
                             material->identity.cluster, authority.cluster);
        }
    }
    return 0;
}

static int check(const struct tls__material *material, uint64_t at_ms, struct error *error)
{
    if (X509_check_private_key(material->certificate, material->key) != 1) {
        ERR_clear_error();
        return error_say(error, -EACCES, "the key does not belong to the certificate");
    }
    int status = verify_chain(material, at_ms, error);
    return status != 0 ? status : check_authorities(material, error);
}

int tls__material_init(struct tls__material *material, const struct tls_pair *pair,
                       struct bytes authority, uint64_t at_ms, struct error *error)
{
    struct tls__material read = {
        .certificate = tls__parse_certificate(buffer_bytes(&pair->certificate)),
        .key = tls__parse_key(buffer_bytes(&pair->key)),
        .authorities = tls__parse_certificates(authority),
    };
    int status = 0;
    if (read.key == NULL) {
        status = error_say(error, ERROR_PROTOCOL, "not a private key");
    } else if (read.certificate == NULL || read.authorities == NULL ||
               !tls__read_identity(&read.identity, read.certificate)) {
        status = error_say(error, ERROR_PROTOCOL, "not a certificate of a node or an authority");
    } else {
        status = check(&read, at_ms, error);
    }
    if (status != 0) {
        tls__material_deinit(&read);
        return status;
    }
    *material = read;
    return 0;
}

void tls__material_deinit(struct tls__material *material)
{
    X509_free(material->certificate);
    EVP_PKEY_free(material->key);
    sk_X509_pop_free(material->authorities, X509_free);
    *material = (struct tls__material){0};
}

int tls_pair_verify(const struct tls_pair *pair, struct bytes authority, uint64_t now_ms,
                    struct error *error)
{
    struct tls__material material;
    int status = tls__material_init(&material, pair, authority, now_ms, error);
    if (status == 0) {
        tls__material_deinit(&material);
    }
    return status;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static int save(struct bytes public, struct bytes key, const char *path, struct error *error)
{
    struct buffer both = {0};
    buffer_reserve(&both, public.size_bytes + key.size_bytes);
    buffer_append(&both, public);
    buffer_append(&both, key);
    int status = os_file_write(path, buffer_bytes(&both), error);
    tls_wipe_buffer(&both);
    return status;
}

int tls_pair_save(const struct tls_pair *pair, const char *path, struct error *error)
{
    return save(buffer_bytes(&pair->certificate), buffer_bytes(&pair->key), path, error);
}

int tls_request_save(struct bytes key, struct bytes request, const char *path, struct error *error)
{
    return save(request, key, path, error);
}

static int check_permissions(const char *path, struct error *error)
{
    struct stat information;
    if (stat(path, &information) != 0) {
        return error_set(error, -errno, "open %s", path);
    }
    if ((information.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return error_say(error, -EACCES,
                         "%s holds a private key, and others may open it: if nobody has, run "
                         "chmod 600 %s",
                         path, path);
    }
    return 0;
}

/* Cut the text where the private key begins. */
static bool cut(struct bytes both, struct bytes *public, struct bytes *key)
{
    static const char begin[] = "-----BEGIN PRIVATE KEY-----";
    const uint8_t *place =
        both.size_bytes > 0 ? memmem(both.data, both.size_bytes, begin, sizeof begin - 1) : NULL;
    if (place == NULL) {
        return false;
    }
    size_t size_bytes = (size_t)(place - both.data);
    *public = bytes_make(both.data, size_bytes);
    *key = bytes_make(place, both.size_bytes - size_bytes);
    return true;
}

static bool is_pair(struct bytes certificate, struct bytes key)
{
    X509 *parsed = tls__parse_certificate(certificate);
    EVP_PKEY *parsed_key = tls__parse_key(key);
    bool is_good =
        parsed != NULL && parsed_key != NULL && X509_check_private_key(parsed, parsed_key) == 1;
    X509_free(parsed);
    EVP_PKEY_free(parsed_key);
    ERR_clear_error();
    return is_good;
}

static bool is_request_of(struct bytes request, struct bytes key)
{
    X509_REQ *parsed = tls__parse_request(request);
    EVP_PKEY *parsed_key = tls__parse_key(key);
    bool is_good =
        parsed != NULL && parsed_key != NULL && X509_REQ_check_private_key(parsed, parsed_key) == 1;
    X509_REQ_free(parsed);
    EVP_PKEY_free(parsed_key);
    ERR_clear_error();
    return is_good;
}

static int load(struct buffer *both, const char *path, struct error *error)
{
    int status = check_permissions(path, error);
    return status == 0 ? os_file_read(path, TLS_PEM_SIZE_BYTES_MAX, both, error) : status;
}

int tls_pair_load(struct tls_pair *pair, const char *path, struct error *error)
{
    ASSERT(pair->key.size_bytes == 0);
    ASSERT(pair->certificate.size_bytes == 0);
    struct buffer both = {0};
    struct bytes certificate;
    struct bytes key;
    int status = load(&both, path, error);
    if (status == 0 &&
        (!cut(buffer_bytes(&both), &certificate, &key) || !is_pair(certificate, key))) {
        status =
            error_say(error, ERROR_CORRUPT, "%s is damaged: not a key with its certificate", path);
    }
    if (status == 0) {
        buffer_append(&pair->certificate, certificate);
        buffer_append(&pair->key, key);
    }
    tls_wipe_buffer(&both);
    return status;
}

int tls_request_load(struct buffer *key, struct buffer *request, const char *path,
                     struct error *error)
{
    struct buffer both = {0};
    struct bytes read_request;
    struct bytes read_key;
    int status = load(&both, path, error);
    if (status == 0 && (!cut(buffer_bytes(&both), &read_request, &read_key) ||
                        !is_request_of(read_request, read_key))) {
        status = error_say(error, ERROR_CORRUPT,
                           "%s is damaged: not a key with the request for its certificate", path);
    }
    if (status == 0) {
        buffer_append(request, read_request);
        buffer_append(key, read_key);
    }
    tls_wipe_buffer(&both);
    return status;
}

int tls_certificate_save(struct bytes certificate, const char *path, struct error *error)
{
    return os_file_write(path, certificate, error);
}

int tls_certificate_load(struct buffer *certificate, const char *path, struct error *error)
{
    struct buffer read = {0};
    int status = os_file_read(path, TLS_PEM_SIZE_BYTES_MAX, &read, error);
    if (status == 0) {
        STACK_OF(X509) *parsed = tls__parse_certificates(buffer_bytes(&read));
        if (parsed == NULL) {
            status = error_say(error, ERROR_CORRUPT, "%s is damaged: not a certificate", path);
        } else {
            buffer_append(certificate, buffer_bytes(&read));
            sk_X509_pop_free(parsed, X509_free);
        }
    }
    buffer_deinit(&read);
    return status;
}
