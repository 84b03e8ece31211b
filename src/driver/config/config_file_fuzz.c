/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any bytes as a configuration file are either read or refused with a place. */
#include <string.h>

#include "base/assert/assert.h"
#include "driver/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    /* Names of hosts would be looked up: slow, and not what is tested. */
    struct config_option options[CONFIG_OPTION_COUNT_MAX];
    struct config_table table = config_start_table;
    for (uint32_t i = 0; i < table.option_count; i++) {
        options[i] = config_start_table.options[i];
        if (options[i].parse == config_parse_address) {
            options[i].parse = config_parse_text;
            options[i].offset = offsetof(struct config_start, requirepass);
        }
    }
    table.options = options;
    struct config_start before = {.reactors = 77};
    struct config_start target = before;
    struct error error = {0};
    int status =
        config_load_text(&table, "fuzz.conf", bytes_make(data, size_bytes), &target, &error);
    if (status != 0) {
        ASSERT(status == -EINVAL);
        ASSERT(strncmp(error.message, "fuzz.conf:", 10) == 0); /* C3 */
        ASSERT(memcmp(&before, &target, sizeof target) == 0);  /* C3 */
    } else {
        ASSERT(target.memory == 0 || target.memory >= CONFIG_MEMORY_SIZE_BYTES_MIN);
        ASSERT(target.flush == CONFIG_FLUSH_ALWAYS || target.flush == CONFIG_FLUSH_EVERYSEC);
        ASSERT(target.pipeline_order == CONFIG_ORDER_SHARD ||
               target.pipeline_order == CONFIG_ORDER_CONNECTION);
    }
    return 0;
}
