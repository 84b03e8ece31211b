/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of hashes. */
#include "service/kv/kv_internal.h"

const struct kv__table kv__hash_table = {NULL, 0};
