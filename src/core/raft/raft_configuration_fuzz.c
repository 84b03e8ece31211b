/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration: what is taken is valid, and comes back as the same bytes. */
#include <stddef.h>
#include <stdint.h>

#include "base/assert/assert.h"
#include "core/raft/raft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct raft_configuration configuration = {0};
    struct bytes source = bytes_make(data, size_bytes);
    if (raft_configuration_decode(&configuration, source) != 0) {
        ASSERT(configuration.voter_count == 0); /* Untouched. */
        return 0;
    }
    ASSERT(raft_configuration_is_valid(&configuration));
    struct buffer encoded = {0};
    raft_configuration_encode(&configuration, &encoded);
    ASSERT(bytes_equal(buffer_bytes(&encoded), source));
    buffer_deinit(&encoded);
    return 0;
}
