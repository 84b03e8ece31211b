/* SPDX-License-Identifier: Apache-2.0 */
/* checksum: CRC-32C (Castagnoli), as in iSCSI, computed by ISA-L. Layer: base. */
#ifndef BASE_CHECKSUM_CHECKSUM_H
#define BASE_CHECKSUM_CHECKSUM_H

#include <stdint.h>

#include "base/bytes/bytes.h"

/* The CRC-32C of `bytes`, continuing from `before` (0 to begin): checksum_crc32c(checksum_crc32c(0,
 * a), b) is that of a followed by b. Of no bytes it is `before`. */
uint32_t checksum_crc32c(uint32_t before, struct bytes bytes);

#endif
