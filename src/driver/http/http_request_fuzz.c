/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes are a whole request, a part of one, or refused; and where a request ends
 * does not depend on what follows it. */
#include "base/assert/assert.h"
#include "driver/http/http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct http__parsed parsed;
    struct http__parsed again;
    enum http__outcome outcome = http__parse_request(bytes_make(data, size_bytes), &parsed);
    if (outcome == HTTP__REFUSED) {
        ASSERT(parsed.status >= 400);
        ASSERT(parsed.reason != NULL);
    } else if (outcome == HTTP__READY) {
        ASSERT(parsed.size_bytes <= size_bytes);
        ASSERT(parsed.request.path.size_bytes > 0);
        ASSERT(parsed.request.path.data[0] == '/');
        outcome = http__parse_request(bytes_make(data, parsed.size_bytes), &again);
        ASSERT(outcome == HTTP__READY);
        ASSERT(again.size_bytes == parsed.size_bytes);
        ASSERT(bytes_equal(again.request.path, parsed.request.path));
        outcome = http__parse_request(bytes_make(data, parsed.size_bytes - 1), &again);
        ASSERT(outcome == HTTP__INCOMPLETE);
    } else {
        ASSERT(size_bytes < HTTP_REQUEST_SIZE_BYTES_MAX);
    }
    return 0;
}
