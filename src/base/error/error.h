/* SPDX-License-Identifier: Apache-2.0 */
/* error: the codes that functions return, and a message for the person who reads it. Layer: base.
 *
 * An `int` status is 0 or a negative code. System codes are `-errno` (libuv's are the same on
 * Linux); ours start at -10000 in ERROR_TABLE. A code stands in the table only if some caller
 * branches on it.
 *
 * A `struct error` is a value on the caller's stack: no lock, no malloc, no thread-local text. The
 * lowest layer that knows the reason calls error_set(); a layer that knows more calls error_wrap();
 * the top logs it once. Every function here accepts a NULL error and then only returns the code. */
#ifndef BASE_ERROR_ERROR_H
#define BASE_ERROR_ERROR_H

#include <errno.h>

/* The return value must be looked at. */
#define MUST_USE __attribute__((warn_unused_result))

#define ERROR_TABLE(X)                                                           \
    X(ERROR_CORRUPT, -10000, "stored bytes are damaged")                         \
    X(ERROR_INCOMPLETE, -10001, "the answer needs a disk read")                  \
    X(ERROR_NEWER_FORMAT, -10002, "written by a newer version")                  \
    X(ERROR_NOT_LEADER, -10003, "not the leader of this shard")                  \
    X(ERROR_EXPIRED_SEEN, -10004, "an expired key must be removed first")        \
    X(ERROR_PROTOCOL, -10005, "the peer broke the protocol")                     \
    X(ERROR_STOPPED, -10006, "stopped")                                          \
    X(ERROR_OUTCOME_UNKNOWN, -10007, "whether the write took effect is unknown") \
    X(ERROR_LOCKED, -10008, "a transaction holds the key")                       \
    X(ERROR_MOVED, -10009, "the shard has other slots now")

enum error_code {
#define ERROR_ENUMERATOR(name, value, text) name = value,
    ERROR_TABLE(ERROR_ENUMERATOR)
#undef ERROR_ENUMERATOR
};

#define ERROR_MESSAGE_SIZE 252

/* Opaque by convention: read it through `code` and `message` only. */
struct error {
    int code; /* 0 or the code of the last error_set(). */
    char message[ERROR_MESSAGE_SIZE];
};

/* Describe a failure: `code` (negative) and a formatted reason; the text of the code is appended
 * ("open /d/7: No such file or directory"). Returns `code`, so that callers write
 * `return error_set(…)`. Longer messages are cut at the end. */
int error_set(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like error_set(), for a reason that needs no text of the code after it. */
int error_say(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put context before the message that a lower layer set ("segment 7: bad checksum"). `code` becomes
 * the error's code. Returns `code`. */
int error_wrap(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The text of a code of either kind; never NULL. */
const char *error_text(int code);

#endif
