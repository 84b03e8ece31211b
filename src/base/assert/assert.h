/* SPDX-License-Identifier: Apache-2.0 */
/* assert: stop at once when the program contradicts itself. Layer: base.
 *
 * ASSERT is always compiled in: a stopped replica is repaired by its peers, a wrong one infects
 * them. It is for programmer errors only; bytes from disk, network or users are validated, never
 * asserted. When it fires, the recent trace records of this thread are printed (see base/trace),
 * then abort(). ASSERT_SLOW costs more than it may in production: it runs in builds with
 * TUTTI_SLOW_CHECKS. */
#ifndef BASE_ASSERT_ASSERT_H
#define BASE_ASSERT_ASSERT_H

#include <stdbool.h>

/* Print the claim that failed and the trace, then abort. */
_Noreturn void assert_fail(const char *claim, const char *file, int line);

/* Print a message for a person and abort: for conditions outside the program that leave no way on,
 * such as memory running out. */
_Noreturn void assert_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define ASSERT(claim)                                \
    do {                                             \
        if (__builtin_expect(!(claim), 0)) {         \
            assert_fail(#claim, __FILE__, __LINE__); \
        }                                            \
    } while (0)

/* Implication: where `condition` holds, `claim` must. */
#define ASSERT_IF(condition, claim) ASSERT(!(condition) || (claim))

#ifdef TUTTI_SLOW_CHECKS
#define ASSERT_SLOW(claim) ASSERT(claim)
#else
#define ASSERT_SLOW(claim)   \
    do {                     \
        (void)sizeof(claim); \
    } while (0)
#endif

#endif
