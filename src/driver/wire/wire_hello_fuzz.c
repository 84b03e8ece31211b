/* SPDX-License-Identifier: Apache-2.0 */
/* HELLO and REFUSAL from outside: are they read without harm, and does what was read say the same
 * when it is written and read again? */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert/assert.h"
#include "driver/wire/wire_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~') {
            return false;
        }
    }
    return true;
}

static void check_hello(struct bytes input)
{
    struct wire__hello hello;
    struct wire__hello again;
    struct buffer message = {0};
    if (!wire__hello_decode(input, &hello)) {
        return;
    }
    ASSERT(is_printable(hello.cluster));
    ASSERT(is_printable(hello.software));
    ASSERT(hello.version_min <= hello.version_max);
    ASSERT(wire__version_of(&hello, &hello) == hello.version_max);
    wire__hello_encode(&message, &hello);
    ASSERT(wire__hello_decode(buffer_bytes(&message), &again));
    ASSERT(strcmp(again.cluster, hello.cluster) == 0);
    ASSERT(strcmp(again.software, hello.software) == 0);
    ASSERT(again.node_id == hello.node_id);
    ASSERT(again.boot_id == hello.boot_id);
    ASSERT(again.version_min == hello.version_min);
    ASSERT(again.version_max == hello.version_max);
    buffer_deinit(&message);
}

static void check_refusal(struct bytes input)
{
    struct wire__refusal refusal;
    struct wire__refusal again;
    struct buffer message = {0};
    if (!wire__refusal_decode(input, &refusal)) {
        return;
    }
    ASSERT(is_printable(refusal.text));
    wire__refusal_encode(&message, &refusal);
    ASSERT(wire__refusal_decode(buffer_bytes(&message), &again));
    ASSERT(again.reason == refusal.reason);
    ASSERT(strcmp(again.text, refusal.text) == 0);
    buffer_deinit(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    check_hello(bytes_make(data, size_bytes));
    check_refusal(bytes_make(data, size_bytes));
    return 0;
}
