/* SPDX-License-Identifier: Apache-2.0 */
/* reply: typed answers written as RESP2 or RESP3. Layer: base.
 *
 * Services answer in the types of RESP3 (the Redis serialization protocol, version 3); a client
 * that speaks RESP2 gets each of them as the older type that Redis 7 gives it. Every function
 * appends to the buffer; nothing can fail. An aggregate announces its length first and is followed
 * by exactly that many replies. A `struct reply` is a small value; it borrows the buffer.
 *
 * An answer may be limited, because a short request can have an answer that no memory would hold. What
 * would go beyond the limit is not appended, nor is anything after it but errors: the answer is then none,
 * and whoever set the limit replaces it. */
#ifndef BASE_REPLY_REPLY_H
#define BASE_REPLY_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"

struct reply_limit {
    size_t size_bytes_max; /* Of all that the buffer has. */
    bool is_exceeded;
};

struct reply {
    struct buffer *target;
    uint8_t protocol;          /* 2 or 3. */
    struct reply_limit *limit; /* NULL: none. */
};

/* "+text". `text` has no line breaks. */
void reply_status(const struct reply *reply, const char *text);
void reply_ok(const struct reply *reply);

/* "-text", formatted; begins with the code that clients match ("ERR …", "WRONGTYPE …"). Line breaks
 * in the text become spaces. There is always room for it. */
void reply_error(const struct reply *reply, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void reply_integer(const struct reply *reply, int64_t value);
void reply_bulk(const struct reply *reply, struct bytes bytes);
void reply_bulk_text(const struct reply *reply, const char *text);
void reply_bulk_integer(const struct reply *reply, int64_t value);

/* "nothing there": a null bulk string in RESP2. */
void reply_null(const struct reply *reply);
/* "no array", such as EXEC aborted by WATCH: a null array in RESP2. */
void reply_null_array(const struct reply *reply);

/* A bulk string in RESP2. */
void reply_double(const struct reply *reply, double value);
/* The integers 1 and 0 in RESP2. */
void reply_boolean(const struct reply *reply, bool value);
/* A bulk string in RESP2; `format` has three letters ("txt"). */
void reply_verbatim(const struct reply *reply, const char *format, struct bytes bytes);

void reply_array(const struct reply *reply, uint64_t count);
/* `pair_count` keys, each followed by its value; a flat array in RESP2. */
void reply_map(const struct reply *reply, uint64_t pair_count);
/* An array in RESP2. */
void reply_set(const struct reply *reply, uint64_t count);

#endif
