/* SPDX-License-Identifier: Apache-2.0 */
/* Claim: any text is decoded or refused; what is decoded is written back as the same token. */
#include "base/assert/assert.h"
#include "core/token/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct token token;
    struct token again;
    struct error error = {0};
    char text[TOKEN_TEXT_SIZE];
    if (token_decode(&token, bytes_make(data, size_bytes), &error) != 0) {
        ASSERT(error.code != 0);
        return 0;
    }
    token_encode(&token, text);
    ASSERT(token_decode(&again, bytes_of_text(text), NULL) == 0);
    ASSERT(memcmp(&token, &again, sizeof token) == 0);
    return 0;
}
