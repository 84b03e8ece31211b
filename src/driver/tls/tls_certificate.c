/* SPDX-License-Identifier: Apache-2.0 */
/* Reading certificates and keys.
 *
 * Whom a certificate names stands in its subject alternative name, one URI:
 *
 *   tutti://CLUSTER/authority     the authority of a cluster
 *   tutti://CLUSTER/node/ID       a node; ID is decimal, without leading zeros
 *
 * The subject says the same for people and is never read. */
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "base/assert/assert.h"
#include "base/number/number.h"
#include "driver/tls/tls_internal.h"

enum { CERTIFICATES_MAX = 8, NODE_ID_DIGITS_MAX = 10 };

int tls__fail(struct error *error, int code, const char *what)
{
    unsigned long reason = ERR_get_error();
    const char *text = reason != 0 ? ERR_reason_error_string(reason) : NULL;
    ERR_clear_error();
    if (text == NULL) {
        return error_set(error, code, "%s", what);
    }
    return error_say(error, code, "%s: %s", what, text);
}

/* ---- PEM ------------------------------------------------------------------------------------- */

static BIO *open_text(struct bytes pem)
{
    if (pem.size_bytes == 0 || pem.size_bytes > TLS_PEM_SIZE_BYTES_MAX) {
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.size_bytes);
    ASSERT(bio != NULL);
    return bio;
}

int tls__no_password(char *target, int size_bytes, int is_writing, void *context)
{
    (void)target;
    (void)size_bytes;
    (void)is_writing;
    (void)context;
    return -1;
}

X509 *tls__parse_certificate(struct bytes pem)
{
    BIO *bio = open_text(pem);
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, tls__no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return certificate;
}

STACK_OF(X509) * tls__parse_certificates(struct bytes pem)
{
    BIO *bio = open_text(pem);
    if (bio == NULL) {
        return NULL;
    }
    STACK_OF(X509) *certificates = sk_X509_new_null();
    ASSERT(certificates != NULL);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, tls__no_password, NULL);
    while (certificate != NULL && sk_X509_num(certificates) < CERTIFICATES_MAX) {
        ASSERT(sk_X509_push(certificates, certificate) > 0);
        certificate = PEM_read_bio_X509(bio, NULL, tls__no_password, NULL);
    }
    bool is_whole =
        certificate == NULL && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    X509_free(certificate);
    BIO_free(bio);
    ERR_clear_error();
    if (!is_whole || sk_X509_num(certificates) == 0) {
        sk_X509_pop_free(certificates, X509_free);
        return NULL;
    }
    return certificates;
}

EVP_PKEY *tls__parse_key(struct bytes pem)
{
    BIO *bio = open_text(pem);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, tls__no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

/* ---- Identity -------------------------------------------------------------------------------- */

/* Move `rest` behind `prefix`, if it begins so. */
static bool skip(struct bytes *rest, struct bytes prefix)
{
    if (!bytes_have_prefix(*rest, prefix)) {
        return false;
    }
    *rest = bytes_make(rest->data + prefix.size_bytes, rest->size_bytes - prefix.size_bytes);
    return true;
}

static bool take_cluster(struct bytes *rest, char *cluster)
{
    size_t size_bytes = 0;
    while (size_bytes < rest->size_bytes && size_bytes < TLS_CLUSTER_TEXT_SIZE - 1 &&
           memchr("0123456789abcdef", rest->data[size_bytes], 16) != NULL) {
        cluster[size_bytes] = (char)rest->data[size_bytes];
        size_bytes++;
    }
    cluster[size_bytes] = '\0';
    *rest = bytes_make(rest->data + size_bytes, rest->size_bytes - size_bytes);
    return size_bytes > 0;
}

static bool read_node_id(struct bytes text, uint32_t *node_id)
{
    uint64_t value = 0;
    if (text.size_bytes == 0 || text.size_bytes > NODE_ID_DIGITS_MAX || text.data[0] == '0' ||
        !number_parse_unsigned(text, &value) || value > UINT32_MAX) {
        return false;
    }
    *node_id = (uint32_t)value;
    return true;
}

static bool read_uri(struct tls_identity *identity, struct bytes uri)
{
    identity->node_id = 0;
    if (!skip(&uri, BYTES("tutti://")) || !take_cluster(&uri, identity->cluster)) {
        return false;
    }
    return bytes_equal(uri, BYTES("/authority")) ||
           (skip(&uri, BYTES("/node/")) && read_node_id(uri, &identity->node_id));
}

static bool read_names(struct tls_identity *identity, X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    bool is_good = false;
    if (names != NULL && sk_GENERAL_NAME_num(names) == 1) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, 0);
        if (name->type == GEN_URI) {
            const ASN1_STRING *uri = name->d.uniformResourceIdentifier;
            is_good = read_uri(
                identity, bytes_make(ASN1_STRING_get0_data(uri), (size_t)ASN1_STRING_length(uri)));
        }
    }
    GENERAL_NAMES_free(names);
    return is_good;
}

static bool read_time(const ASN1_TIME *time, uint64_t *time_ms)
{
    struct tm parts;
    if (ASN1_TIME_to_tm(time, &parts) != 1) {
        return false;
    }
    time_t seconds = timegm(&parts);
    *time_ms = seconds > 0 ? (uint64_t)seconds * 1000 : 0;
    return true;
}

bool tls__read_identity(struct tls_identity *identity, X509 *certificate)
{
    struct tls_identity read = {0};
    bool is_good = read_names(&read, certificate) &&
                   read_time(X509_get0_notBefore(certificate), &read.valid_from_ms) &&
                   read_time(X509_get0_notAfter(certificate), &read.valid_until_ms);
    ERR_clear_error();
    if (is_good) {
        *identity = read;
    }
    return is_good;
}

int tls_certificate_read(struct tls_identity *identity, struct bytes certificate,
                         struct error *error)
{
    X509 *parsed = tls__parse_certificate(certificate);
    bool is_good = parsed != NULL && tls__read_identity(identity, parsed);
    X509_free(parsed);
    if (!is_good) {
        return error_say(error, ERROR_PROTOCOL, "not a certificate of a node or an authority");
    }
    return 0;
}

uint64_t tls_renewal_due_ms(const struct tls_identity *identity)
{
    uint64_t made_ms = identity->valid_from_ms + TLS_BACKDATED_MS;
    if (made_ms >= identity->valid_until_ms) {
        return identity->valid_until_ms; /* Made for less than nothing: due at once. */
    }
    return made_ms + (identity->valid_until_ms - made_ms) / 3 * 2;
}

bool tls_is_renewal_due(const struct tls_identity *identity, uint64_t now_ms)
{
    return now_ms < identity->valid_from_ms || now_ms >= tls_renewal_due_ms(identity);
}

/* ---- Fingerprint ----------------------------------------------------------------------------- */

struct tls_digest tls__fingerprint(const X509 *certificate)
{
    struct tls_digest fingerprint;
    unsigned size_bytes = sizeof fingerprint.bytes;
    ASSERT(X509_digest(certificate, EVP_sha256(), fingerprint.bytes, &size_bytes) == 1);
    ASSERT(size_bytes == sizeof fingerprint.bytes);
    return fingerprint;
}

int tls_fingerprint(struct tls_digest *fingerprint, struct bytes certificate, struct error *error)
{
    X509 *parsed = tls__parse_certificate(certificate);
    if (parsed == NULL) {
        return error_say(error, ERROR_PROTOCOL, "not a certificate");
    }
    *fingerprint = tls__fingerprint(parsed);
    X509_free(parsed);
    return 0;
}
