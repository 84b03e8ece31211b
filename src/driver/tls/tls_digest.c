/* SPDX-License-Identifier: Apache-2.0 */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/assert/assert.h"
#include "driver/tls/tls.h"

struct tls_digest tls_sha256(const struct bytes *pieces, uint32_t piece_count)
{
    struct tls_digest digest;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    ASSERT(context != NULL);
    ASSERT(EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
    for (uint32_t i = 0; i < piece_count; i++) {
        ASSERT(EVP_DigestUpdate(context, pieces[i].data, pieces[i].size_bytes) == 1);
    }
    ASSERT(EVP_DigestFinal_ex(context, digest.bytes, NULL) == 1);
    EVP_MD_CTX_free(context);
    return digest;
}

struct tls_digest tls_hmac_sha256(struct bytes key, struct bytes text)
{
    struct tls_digest digest;
    unsigned size_bytes = sizeof digest.bytes;
    const void *secret = key.size_bytes > 0 ? (const void *)key.data : "";
    ASSERT(key.size_bytes <= INT32_MAX);
    ASSERT(HMAC(EVP_sha256(), secret, (int)key.size_bytes, text.data, text.size_bytes, digest.bytes,
                &size_bytes) != NULL);
    ASSERT(size_bytes == sizeof digest.bytes);
    return digest;
}

char *tls_digest_format(const struct tls_digest *digest, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (uint32_t i = 0; i < TLS_DIGEST_SIZE_BYTES; i++) {
        text[2 * i] = digits[digest->bytes[i] >> 4];
        text[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    text[2 * TLS_DIGEST_SIZE_BYTES] = '\0';
    return text;
}

bool tls_is_equal(struct bytes left, struct bytes right)
{
    return left.size_bytes == right.size_bytes &&
           (left.size_bytes == 0 || CRYPTO_memcmp(left.data, right.data, left.size_bytes) == 0);
}

void tls_wipe(void *secret, size_t size_bytes)
{
    if (size_bytes > 0) {
        OPENSSL_cleanse(secret, size_bytes);
    }
}

void tls_wipe_buffer(struct buffer *secret)
{
    tls_wipe(secret->data, secret->capacity_bytes);
    buffer_deinit(secret);
    *secret = (struct buffer){0};
}
