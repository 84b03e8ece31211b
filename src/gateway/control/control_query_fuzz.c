/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: any query is an object that is written as JSON and read again, or is refused. */
#include "base/assert/assert.h"
#include "gateway/control/control_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct error error = {0};
    struct buffer text = {0};
    struct json *object = control__parse_query(bytes_make(data, size_bytes), &error);
    if (object == NULL) {
        ASSERT(error.code == -EINVAL);
        return 0;
    }
    struct json *again = NULL;
    json_write(object, &text);
    ASSERT(json_parse(&again, buffer_bytes(&text), &error) == 0);
    ASSERT(json_is_keyed(again));
    json_destroy(again);
    json_destroy(object);
    buffer_deinit(&text);
    return 0;
}
