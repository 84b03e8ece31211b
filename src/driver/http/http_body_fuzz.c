/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: where bodies are taken, any bytes are a whole request, a part of one, or refused; and
 * where a request and its body end does not depend on what follows. */
#include "base/assert/assert.h"
#include "driver/http/http_internal.h"

enum { BODY_SIZE_MAX = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct http__parsed parsed;
    struct http__parsed again;
    enum http__outcome outcome =
        http__parse_with_body(bytes_make(data, size_bytes), BODY_SIZE_MAX, &parsed);
    if (outcome == HTTP__REFUSED) {
        ASSERT(parsed.status >= 400);
        ASSERT(parsed.reason != NULL);
    } else if (outcome == HTTP__READY) {
        struct bytes body = parsed.request.body;
        ASSERT(parsed.size_bytes <= size_bytes);
        ASSERT(body.size_bytes <= BODY_SIZE_MAX);
        ASSERT(body.size_bytes == 0 || parsed.request.is_post);
        ASSERT(body.data + body.size_bytes == data + parsed.size_bytes);
        outcome = http__parse_with_body(bytes_make(data, parsed.size_bytes), BODY_SIZE_MAX, &again);
        ASSERT(outcome == HTTP__READY);
        ASSERT(again.size_bytes == parsed.size_bytes);
        outcome =
            http__parse_with_body(bytes_make(data, parsed.size_bytes - 1), BODY_SIZE_MAX, &again);
        ASSERT(outcome == HTTP__INCOMPLETE);
    } else {
        ASSERT(size_bytes < HTTP_REQUEST_SIZE_BYTES_MAX + BODY_SIZE_MAX);
    }
    return 0;
}
