/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that no client sends. */
#include "service/kv/kv_internal.h"

static const struct kv__entry entries[] = {
    {{"transaction",
      KV_OPCODE_TRANSACTION,
      -2,
      KV_FLAG_WRITE | KV_FLAG_INTERNAL,
      KV_FAMILY_TRANSACTION,
      {0, 0, 0},
      "",
      "What EXEC becomes.",
      "7.0.0",
      "that of the queued commands"},
     kv__execute_transaction,
     kv__prefetch_transaction},
    {{"versions",
      KV_OPCODE_VERSIONS,
      -2,
      KV_FLAG_READ | KV_FLAG_INTERNAL,
      KV_FAMILY_TRANSACTION,
      {1, -1, 1},
      "key [key ...]",
      "What WATCH becomes.",
      "7.0.0",
      "O(N) for N keys"},
     kv__execute_versions,
     NULL},
    {{"expiresweep",
      KV_OPCODE_EXPIRE_SWEEP,
      3,
      KV_FLAG_WRITE | KV_FLAG_INTERNAL,
      KV_FAMILY_KEY,
      {0, 0, 0},
      "slot count",
      "Removes expired keys of a slot.",
      "7.0.0",
      "O(N) for N keys"},
     kv__execute_sweep,
     NULL},
};

const struct kv__table kv__internal_table = {entries, sizeof entries / sizeof entries[0]};
