/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate or a request from outside: is it read without harm, and signed only if it says what
 * it must? */
#include <stddef.h>
#include <stdint.h>

#include "base/assert/assert.h"
#include "driver/tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    static const uint64_t now_ms = 1750000000000;
    static struct tls_pair authority;
    struct bytes input = bytes_make(data, size_bytes);
    struct tls_identity identity;
    struct buffer certificate = {0};
    if (authority.key.size_bytes == 0) {
        ASSERT(tls_authority_create(&authority, "c0ffee", now_ms, NULL) == 0);
    }
    if (tls_certificate_read(&identity, input, NULL) == 0) {
        ASSERT(identity.cluster[0] != '\0');
        (void)tls_renewal_due_ms(&identity);
    }
    struct tls_sign_options options = {
        .authority = &authority, .request = input, .node_id = 3, .now_ms = now_ms};
    if (tls_request_sign(&certificate, &options, NULL) == 0) {
        ASSERT(tls_certificate_read(&identity, buffer_bytes(&certificate), NULL) == 0);
        ASSERT(identity.node_id == 3);
    }
    buffer_deinit(&certificate);
    return 0;
}
