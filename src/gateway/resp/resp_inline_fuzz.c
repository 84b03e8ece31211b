/* SPDX-License-Identifier: Apache-2.0 */
/* Cutting any line into arguments stays within it and invents no bytes. */
#include "base/assert/assert.h"
#include "gateway/resp/resp_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resp_arguments arguments;
    size_t total = 0;
    if (resp__split_line(bytes_make(data, size), &arguments)) {
        for (uint32_t i = 0; i < arguments.count; i++) {
            struct bytes item = arguments.items[i];
            ASSERT(item.data >= arguments.unescaped.data);
            ASSERT(item.data + item.size_bytes <=
                   arguments.unescaped.data + arguments.unescaped.size_bytes);
            total += item.size_bytes;
        }
    } else {
        ASSERT(arguments.count == 0);
    }
    ASSERT(total <= size);
    (void)resp__reply_size(bytes_make(data, size));
    return 0;
}
