/* SPDX-License-Identifier: Apache-2.0 */
/* glob: the patterns of Redis (KEYS, SCAN MATCH, CONFIG GET). Layer: base.
 *
 *   *        any bytes, none too
 *   ?        any one byte
 *   [a-z_]   one byte of these; a range may be written backwards
 *   [^a-z]   one byte that is none of these
 *   \x       x itself, in a class too
 *
 * Patterns work on bytes, not on characters, and every pattern is valid, read as Redis 7 reads it:
 * a class that nothing closes ends with the pattern, `[]` matches nothing, `[^]` matches any byte,
 * a backslash at the very end stands for itself.
 *
 * Matching takes at most pattern length times text length steps and no memory, whatever the
 * pattern. */
#ifndef BASE_GLOB_GLOB_H
#define BASE_GLOB_GLOB_H

#include <stdbool.h>

#include "base/bytes/bytes.h"

/* Does the whole of `text` match? With `is_ignoring_case`, ASCII letters match in either case. */
bool glob_matches(struct bytes pattern, struct bytes text, bool is_ignoring_case);

/* Does `pattern` match every text ("*")? A cheap test before a walk over many texts. */
bool glob_matches_all(struct bytes pattern);

#endif
