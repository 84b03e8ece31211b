/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory/memory.h"
#include "driver/os/os.h"
#include "driver/tls/tls.h"

static const char cluster[] = "00112233445566778899aabbccddeeff";
static const uint64_t now_ms = 1750000000000; /* June 2025. */

static struct tls_pair make_authority(const char *name, uint64_t made_ms)
{
    struct tls_pair authority = {0};
    struct error error = {0};
    assert_int_equal(tls_authority_create(&authority, name, made_ms, &error), 0);
    return authority;
}

static struct tls_pair make_node(const struct tls_pair *authority, uint32_t node_id,
                                 uint64_t made_ms, uint64_t validity_ms)
{
    struct tls_pair pair = {0};
    struct buffer request = {0};
    struct error error = {0};
    assert_int_equal(tls_request_create(&pair.key, &request, &error), 0);
    struct tls_sign_options options = {.authority = authority,
                                       .request = buffer_bytes(&request),
                                       .node_id = node_id,
                                       .now_ms = made_ms,
                                       .validity_ms = validity_ms};
    assert_int_equal(tls_request_sign(&pair.certificate, &options, &error), 0);
    buffer_deinit(&request);
    return pair;
}

static struct tls_identity read_identity(const struct tls_pair *pair)
{
    struct tls_identity identity;
    assert_int_equal(tls_certificate_read(&identity, buffer_bytes(&pair->certificate), NULL), 0);
    return identity;
}

/* Claim: an authority names its cluster, is trusted by itself, and lasts for decades, from a day
 * before it was made. */
static void test_authority(void **state)
{
    (void)state;
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct tls_identity identity = read_identity(&authority);
    assert_string_equal(identity.cluster, cluster);
    assert_int_equal(identity.node_id, 0);
    assert_int_equal(identity.valid_from_ms, now_ms - TLS_BACKDATED_MS);
    assert_int_equal(identity.valid_until_ms, now_ms + TLS_AUTHORITY_VALIDITY_MS);
    struct bytes trusted = buffer_bytes(&authority.certificate);
    assert_int_equal(tls_pair_verify(&authority, trusted, now_ms, NULL), 0);
    assert_non_null(memmem(authority.key.data, authority.key.size_bytes, "BEGIN PRIVATE KEY", 17));
    assert_null(memmem(trusted.data, trusted.size_bytes, "PRIVATE", 7));
    tls_pair_deinit(&authority);
}

/* Claim: only what may stand in a certificate is a cluster's name. */
static void test_cluster_names(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "ABC",
        "xyz",
        "ab/cd",
        "ab cd",
        "ab,DNS:example.org",
        "00000000000000000000000000000000000000000000000000000000000000000", /* 65 digits. */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tls_pair authority = {0};
        assert_int_equal(tls_authority_create(&authority, bad[i], now_ms, NULL), -EINVAL);
        assert_int_equal(authority.key.size_bytes, 0);
    }
    const char longest[] = "0000000000000000000000000000000000000000000000000000000000000000";
    struct tls_pair authority = make_authority(longest, now_ms);
    struct tls_pair node = make_node(&authority, UINT32_MAX, now_ms, 0);
    assert_string_equal(read_identity(&node).cluster, longest);
    assert_int_equal(read_identity(&node).node_id, UINT32_MAX);
    tls_pair_deinit(&node);
    tls_pair_deinit(&authority);
}

/* Claim: a signed request is a certificate that names cluster and node, belongs to the key, and is
 * good under its authority, in its time, and under no other. */
static void test_node(void **state)
{
    (void)state;
    struct error error = {0};
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct tls_pair other = make_authority(cluster, now_ms);
    struct tls_pair node = make_node(&authority, 7, now_ms, 0);
    struct tls_identity identity = read_identity(&node);
    assert_string_equal(identity.cluster, cluster);
    assert_int_equal(identity.node_id, 7);
    assert_int_equal(identity.valid_from_ms, now_ms - TLS_BACKDATED_MS);
    assert_int_equal(identity.valid_until_ms, now_ms + TLS_NODE_VALIDITY_MS);
    struct bytes trusted = buffer_bytes(&authority.certificate);
    assert_int_equal(tls_pair_verify(&node, trusted, now_ms, &error), 0);
    assert_int_equal(tls_pair_verify(&node, trusted, identity.valid_until_ms + 1000, &error),
                     -EACCES);
    assert_non_null(strstr(error.message, "expired"));
    assert_int_equal(tls_pair_verify(&node, trusted, identity.valid_from_ms - 1000, &error),
                     -EACCES);
    assert_non_null(strstr(error.message, "not yet valid"));
    assert_int_equal(tls_pair_verify(&node, buffer_bytes(&other.certificate), now_ms, &error),
                     -EACCES);
    struct tls_pair mixed = {.key = other.key, .certificate = node.certificate};
    assert_int_equal(tls_pair_verify(&mixed, trusted, now_ms, &error), -EACCES);
    assert_non_null(strstr(error.message, "key"));
    mixed = (struct tls_pair){.key = node.certificate, .certificate = node.certificate};
    assert_int_equal(tls_pair_verify(&mixed, trusted, now_ms, &error), ERROR_PROTOCOL);
    tls_pair_deinit(&node);
    tls_pair_deinit(&other);
    tls_pair_deinit(&authority);
}

/* Claim: a bundle of authorities verifies what either of them signed, and one of a foreign cluster
 * is not taken into it. */
static void test_bundle(void **state)
{
    (void)state;
    struct tls_pair old = make_authority(cluster, now_ms);
    struct tls_pair young = make_authority(cluster, now_ms);
    struct tls_pair foreign = make_authority("ff", now_ms);
    struct tls_pair node = make_node(&young, 7, now_ms, 0);
    struct buffer bundle = {0};
    buffer_append(&bundle, buffer_bytes(&old.certificate));
    buffer_append(&bundle, buffer_bytes(&young.certificate));
    assert_int_equal(tls_pair_verify(&node, buffer_bytes(&bundle), now_ms, NULL), 0);
    buffer_append(&bundle, buffer_bytes(&foreign.certificate));
    assert_int_equal(tls_pair_verify(&node, buffer_bytes(&bundle), now_ms, NULL), -EACCES);
    buffer_deinit(&bundle);
    tls_pair_deinit(&node);
    tls_pair_deinit(&foreign);
    tls_pair_deinit(&young);
    tls_pair_deinit(&old);
}

/* Claim: a node's certificate does not outlive the authority that signed it, and an expired
 * authority signs nothing. */
static void test_end_of_authority(void **state)
{
    (void)state;
    struct tls_pair authority = make_authority(cluster, now_ms);
    uint64_t end_ms = now_ms + TLS_AUTHORITY_VALIDITY_MS;
    struct tls_pair node = make_node(&authority, 7, end_ms - TLS_DAY_MS, 0);
    assert_int_equal(read_identity(&node).valid_until_ms, end_ms);
    struct buffer key = {0};
    struct buffer request = {0};
    struct buffer certificate = {0};
    assert_int_equal(tls_request_create(&key, &request, NULL), 0);
    struct tls_sign_options options = {.authority = &authority,
                                       .request = buffer_bytes(&request),
                                       .node_id = 8,
                                       .now_ms = end_ms + 1000};
    assert_int_equal(tls_request_sign(&certificate, &options, NULL), -EINVAL);
    assert_int_equal(certificate.size_bytes, 0);
    options.authority = &node;
    options.now_ms = now_ms;
    assert_int_equal(tls_request_sign(&certificate, &options, NULL), -EINVAL);
    buffer_deinit(&key);
    buffer_deinit(&request);
    tls_pair_deinit(&node);
    tls_pair_deinit(&authority);
}

/* ---- Requests from outside ------------------------------------------------------------------- */

static int sign(const struct tls_pair *authority, struct bytes request, struct error *error)
{
    struct buffer certificate = {0};
    struct tls_sign_options options = {
        .authority = authority, .request = request, .node_id = 7, .now_ms = now_ms};
    int status = tls_request_sign(&certificate, &options, error);
    assert_int_equal(status == 0, certificate.size_bytes > 0);
    buffer_deinit(&certificate);
    return status;
}

static struct buffer request_of_key(EVP_PKEY *key, EVP_PKEY *signing_key)
{
    struct buffer pem = {0};
    X509_REQ *request = X509_REQ_new();
    assert_int_equal(X509_REQ_set_pubkey(request, key), 1);
    assert_true(X509_REQ_sign(request, signing_key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509_REQ(bio, request), 1);
    char *text = NULL;
    long size_bytes = BIO_get_mem_data(bio, &text);
    buffer_append(&pem, bytes_make(text, (size_t)size_bytes));
    BIO_free(bio);
    X509_REQ_free(request);
    return pem;
}

/* Claim: a request with another kind of key, or not signed with its own, is refused, whatever it
 * is. */
static void test_bad_requests(void **state)
{
    (void)state;
    struct error error = {0};
    struct tls_pair authority = make_authority(cluster, now_ms);
    EVP_PKEY *good = EVP_EC_gen("P-256");
    EVP_PKEY *also_good = EVP_EC_gen("P-256");
    EVP_PKEY *larger = EVP_EC_gen("P-384");
    EVP_PKEY *rsa = EVP_RSA_gen(1024);
    struct {
        EVP_PKEY *key;
        EVP_PKEY *signing_key;
        const char *reason; /* NULL: it is good. */
    } cases[] = {
        {good, good, NULL},
        {good, also_good, "not signed with its key"},
        {larger, larger, "P-256"},
        {rsa, rsa, "P-256"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer pem = request_of_key(cases[i].key, cases[i].signing_key);
        int status = sign(&authority, buffer_bytes(&pem), &error);
        assert_int_equal(status, cases[i].reason == NULL ? 0 : ERROR_PROTOCOL);
        assert_true(cases[i].reason == NULL || strstr(error.message, cases[i].reason) != NULL);
        buffer_deinit(&pem);
    }
    assert_int_equal(sign(&authority, (struct bytes){0}, &error), ERROR_PROTOCOL);
    assert_int_equal(sign(&authority, BYTES("-----BEGIN CERTIFICATE REQUEST-----\n"), &error),
                     ERROR_PROTOCOL);
    assert_int_equal(sign(&authority, buffer_bytes(&authority.certificate), &error),
                     ERROR_PROTOCOL);
    EVP_PKEY_free(good);
    EVP_PKEY_free(also_good);
    EVP_PKEY_free(larger);
    EVP_PKEY_free(rsa);
    tls_pair_deinit(&authority);
}

/* Claim: what other programs made is read strictly: one name, of our form, or it is not ours; and a
 * curve that is written out instead of named is not signed. */
static void test_foreign_texts(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int read_status;
        int sign_status;
        uint32_t node_id;
    } cases[] = {
        {"node", 0, ERROR_PROTOCOL, 3},
        {"authority", 0, ERROR_PROTOCOL, 0},
        {"two_names", ERROR_PROTOCOL, ERROR_PROTOCOL, 0},
        {"leading_zero", ERROR_PROTOCOL, ERROR_PROTOCOL, 0},
        {"too_large", ERROR_PROTOCOL, ERROR_PROTOCOL, 0},
        {"begin_only", ERROR_PROTOCOL, ERROR_PROTOCOL, 0},
        {"request", ERROR_PROTOCOL, 0, 0},
        {"explicit_curve", ERROR_PROTOCOL, ERROR_PROTOCOL, 0},
        {"rsa_request", ERROR_PROTOCOL, ERROR_PROTOCOL, 0},
    };
    struct tls_pair authority = make_authority(cluster, now_ms);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char file[128];
        struct buffer text = {0};
        struct tls_identity identity = {0};
        (void)snprintf(file, sizeof file, "tests/fuzz/tls_certificate/%s", cases[i].name);
        assert_int_equal(os_file_read(file, TLS_PEM_SIZE_BYTES_MAX, &text, NULL), 0);
        assert_int_equal(tls_certificate_read(&identity, buffer_bytes(&text), NULL),
                         cases[i].read_status);
        assert_int_equal(identity.node_id, cases[i].node_id);
        assert_string_equal(identity.cluster, cases[i].read_status == 0 ? "c0ffee" : "");
        assert_int_equal(sign(&authority, buffer_bytes(&text), NULL), cases[i].sign_status);
        buffer_deinit(&text);
    }
    tls_pair_deinit(&authority);
}

/* Claim: no changed byte of a request makes a certificate of another key, and none crashes. */
static void test_changed_requests(void **state)
{
    (void)state;
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct buffer key = {0};
    struct buffer request = {0};
    assert_int_equal(tls_request_create(&key, &request, NULL), 0);
    int accepted_count = 0;
    for (size_t i = 0; i < request.size_bytes; i++) {
        request.data[i] ^= 4;
        accepted_count += sign(&authority, buffer_bytes(&request), NULL) == 0;
        request.data[i] ^= 4;
    }
    /* What is left out of the signature are the armour's spaces and the like. */
    assert_true(accepted_count < 8);
    buffer_deinit(&key);
    buffer_deinit(&request);
    tls_pair_deinit(&authority);
}

/* Claim: an encrypted key is refused; nobody asks the terminal for a password. */
static void test_encrypted_key(void **state)
{
    (void)state;
    struct tls_pair authority = make_authority(cluster, now_ms);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    unsigned char password[] = "secret";
    assert_int_equal(
        PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_256_cbc(), (char *)password, 6, NULL, NULL),
        1);
    char *text = NULL;
    long size_bytes = BIO_get_mem_data(bio, &text);
    struct tls_pair locked = {.certificate = authority.certificate};
    buffer_append(&locked.key, bytes_make(text, (size_t)size_bytes));
    assert_int_equal(tls_pair_verify(&locked, buffer_bytes(&authority.certificate), now_ms, NULL),
                     ERROR_PROTOCOL);
    buffer_deinit(&locked.key);
    BIO_free(bio);
    EVP_PKEY_free(key);
    tls_pair_deinit(&authority);
}

/* ---- Times and fingerprints ------------------------------------------------------------------ */

/* Claim: renewal is due when two thirds of the life from its making have passed. */
static void test_renewal(void **state)
{
    (void)state;
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct tls_pair node = make_node(&authority, 7, now_ms, 90 * TLS_DAY_MS);
    struct tls_identity identity = read_identity(&node);
    assert_int_equal(tls_renewal_due_ms(&identity), now_ms + 60 * TLS_DAY_MS);
    identity.valid_until_ms = identity.valid_from_ms + 1000;
    assert_int_equal(tls_renewal_due_ms(&identity), identity.valid_until_ms);
    tls_pair_deinit(&node);
    tls_pair_deinit(&authority);
}

/* Claim: it is also due while the certificate is not valid yet, to the millisecond. */
static void test_renewal_of_what_is_not_valid_yet(void **state)
{
    (void)state;
    const struct tls_identity identity = {.valid_from_ms = now_ms,
                                          .valid_until_ms = now_ms + 91 * TLS_DAY_MS};
    assert_true(tls_is_renewal_due(&identity, 0));
    assert_true(tls_is_renewal_due(&identity, now_ms - 1));
    assert_false(tls_is_renewal_due(&identity, now_ms));
    uint64_t due_ms = now_ms + TLS_BACKDATED_MS + 60 * TLS_DAY_MS;
    assert_false(tls_is_renewal_due(&identity, due_ms - 1));
    assert_true(tls_is_renewal_due(&identity, due_ms));
}

/* Claim: the fingerprint is the SHA-256 of the certificate's DER form, as other programs show it,
 * and only the first certificate counts. */
static void test_fingerprint(void **state)
{
    (void)state;
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct tls_pair other = make_authority(cluster, now_ms);
    struct buffer der = {0};
    BIO *bio = BIO_new_mem_buf(authority.certificate.data, (int)authority.certificate.size_bytes);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    unsigned char *encoded = NULL;
    int size_bytes = i2d_X509(certificate, &encoded);
    assert_true(size_bytes > 0);
    struct bytes whole = bytes_make(encoded, (size_t)size_bytes);
    struct tls_digest expected = tls_sha256(&whole, 1);
    struct tls_digest fingerprint;
    buffer_append(&authority.certificate, buffer_bytes(&other.certificate));
    assert_int_equal(tls_fingerprint(&fingerprint, buffer_bytes(&authority.certificate), NULL), 0);
    assert_memory_equal(&fingerprint, &expected, sizeof expected);
    assert_int_equal(tls_fingerprint(&fingerprint, BYTES("nonsense"), NULL), ERROR_PROTOCOL);
    OPENSSL_free(encoded);
    X509_free(certificate);
    BIO_free(bio);
    buffer_deinit(&der);
    tls_pair_deinit(&other);
    tls_pair_deinit(&authority);
}

/* Claim: digests are those of FIPS 180-2 and RFC 4231, whatever the pieces; equality looks at all
 * bytes. */
static void test_digests(void **state)
{
    (void)state;
    char text[TLS_DIGEST_TEXT_SIZE];
    struct bytes pieces[] = {BYTES("a"), BYTES(""), BYTES("bc")};
    struct tls_digest digest = tls_sha256(pieces, 3);
    assert_string_equal(tls_digest_format(&digest, text),
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest = tls_sha256(NULL, 0);
    assert_string_equal(tls_digest_format(&digest, text),
                        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest = tls_hmac_sha256(BYTES("Jefe"), BYTES("what do ya want for nothing?"));
    assert_string_equal(tls_digest_format(&digest, text),
                        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    assert_true(tls_is_equal(BYTES("secret"), BYTES("secret")));
    assert_false(tls_is_equal(BYTES("secret"), BYTES("secreT")));
    assert_false(tls_is_equal(BYTES("secret"), BYTES("secre")));
    assert_true(tls_is_equal((struct bytes){0}, BYTES("")));
}

/* ---- Files ----------------------------------------------------------------------------------- */

static char directory[64];
static char path[128];

static int make_directory(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/tutti-tls-XXXXXX");
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/node.pem", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    (void)unlink(path);
    assert_int_equal(rmdir(directory), 0); /* Nothing else was left in it. */
    return 0;
}

/* Claim: a key and its request come back from their file byte by byte, as who was asked before knows them; the
 * file is readable by nobody else, and refused if it is, or if the two are not of each other. */
static void test_request_file(void **state)
{
    (void)state;
    struct error error = {0};
    struct buffer keys[2] = {0};
    struct buffer requests[2] = {0};
    struct buffer key = {0};
    struct buffer request = {0};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(tls_request_create(&keys[i], &requests[i], &error), 0);
    }
    assert_int_equal(tls_request_load(&key, &request, path, &error), -ENOENT);
    assert_int_equal(
        tls_request_save(buffer_bytes(&keys[0]), buffer_bytes(&requests[0]), path, &error), 0);
    struct stat information;
    assert_int_equal(stat(path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0600);
    assert_int_equal(tls_request_load(&key, &request, path, &error), 0);
    assert_true(bytes_equal(buffer_bytes(&key), buffer_bytes(&keys[0])));
    assert_true(bytes_equal(buffer_bytes(&request), buffer_bytes(&requests[0])));
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(tls_request_load(&key, &request, path, &error), -EACCES);
    assert_int_equal(
        tls_request_save(buffer_bytes(&keys[0]), buffer_bytes(&requests[1]), path, &error), 0);
    assert_int_equal(tls_request_load(&key, &request, path, &error), ERROR_CORRUPT);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(os_file_write(path, buffer_bytes(&keys[0]), &error), 0);
    assert_int_equal(tls_request_load(&key, &request, path, &error), ERROR_CORRUPT);
    assert_true(bytes_equal(buffer_bytes(&key), buffer_bytes(&keys[0])));
    for (size_t i = 0; i < 2; i++) {
        buffer_deinit(&keys[i]);
        buffer_deinit(&requests[i]);
    }
    buffer_deinit(&key);
    buffer_deinit(&request);
}

/* Claim: a pair comes back from its file as it was; the file is readable by nobody else, and
 * refused if it is. */
static void test_pair_file(void **state)
{
    (void)state;
    struct error error = {0};
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct tls_pair node = make_node(&authority, 7, now_ms, 0);
    struct tls_pair read = {0};
    assert_int_equal(tls_pair_load(&read, path, &error), -ENOENT);
    assert_int_equal(tls_pair_save(&authority, path, &error), 0);
    assert_int_equal(tls_pair_save(&node, path, &error), 0);
    struct stat information;
    assert_int_equal(stat(path, &information), 0);
    assert_int_equal(information.st_mode & 0777, 0600);
    assert_int_equal(tls_pair_load(&read, path, &error), 0);
    assert_true(bytes_equal(buffer_bytes(&read.key), buffer_bytes(&node.key)));
    assert_true(bytes_equal(buffer_bytes(&read.certificate), buffer_bytes(&node.certificate)));
    tls_pair_deinit(&read);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(tls_pair_load(&read, path, &error), -EACCES);
    assert_non_null(strstr(error.message, "chmod 600"));
    tls_pair_deinit(&node);
    tls_pair_deinit(&authority);
}

/* Claim: a file with a key of another certificate, cut short, or of something else, is damaged. */
static void test_damaged_files(void **state)
{
    (void)state;
    struct error error = {0};
    struct tls_pair authority = make_authority(cluster, now_ms);
    struct tls_pair node = make_node(&authority, 7, now_ms, 0);
    struct tls_pair mixed = {.key = authority.key, .certificate = node.certificate};
    struct tls_pair read = {0};
    assert_int_equal(tls_pair_save(&mixed, path, &error), 0);
    assert_int_equal(tls_pair_load(&read, path, &error), ERROR_CORRUPT);
    struct bytes half = bytes_make(node.certificate.data, node.certificate.size_bytes / 2);
    struct bytes bad[] = {half, buffer_bytes(&node.certificate), buffer_bytes(&node.key),
                          BYTES("-----BEGIN PRIVATE KEY-----"), BYTES("")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(os_file_write(path, bad[i], &error), 0);
        assert_int_equal(tls_pair_load(&read, path, &error), ERROR_CORRUPT);
        assert_null(read.key.data);
    }
    struct buffer certificate = {0};
    assert_int_equal(tls_certificate_save(half, path, &error), 0);
    assert_int_equal(tls_certificate_load(&certificate, path, &error), ERROR_CORRUPT);
    assert_int_equal(tls_certificate_save(buffer_bytes(&node.certificate), path, &error), 0);
    assert_int_equal(tls_certificate_load(&certificate, path, &error), 0);
    assert_true(bytes_equal(buffer_bytes(&certificate), buffer_bytes(&node.certificate)));
    buffer_deinit(&certificate);
    tls_pair_deinit(&node);
    tls_pair_deinit(&authority);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_authority),
        cmocka_unit_test(test_cluster_names),
        cmocka_unit_test(test_node),
        cmocka_unit_test(test_bundle),
        cmocka_unit_test(test_end_of_authority),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_foreign_texts),
        cmocka_unit_test(test_changed_requests),
        cmocka_unit_test(test_encrypted_key),
        cmocka_unit_test(test_renewal),
        cmocka_unit_test(test_renewal_of_what_is_not_valid_yet),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_digests),
        cmocka_unit_test_setup_teardown(test_request_file, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_pair_file, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_damaged_files, make_directory, remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
