/* SPDX-License-Identifier: Apache-2.0 */
/* http, for the files of this folder only. */
#ifndef DRIVER_HTTP_HTTP_INTERNAL_H
#define DRIVER_HTTP_HTTP_INTERNAL_H

#include "driver/http/http.h"

enum http__outcome {
    HTTP__INCOMPLETE, /* More bytes are needed. */
    HTTP__READY,      /* A request that may be answered. */
    HTTP__REFUSED,    /* Answer with `status` and close. */
};

struct http__parsed {
    struct http_request request; /* READY; borrows from the input. */
    size_t size_bytes;           /* READY: of the input, from its start. */
    bool is_kept_alive;          /* READY */
    int status;                  /* REFUSED */
    const char *reason;          /* REFUSED: a literal. */
};

/* Look for one request at the start of `input`, with a body of at most `body_size_bytes_max` (0:
 * without, and no POST). */
enum http__outcome http__parse_with_body(struct bytes input, size_t body_size_bytes_max,
                                         struct http__parsed *parsed);

static inline enum http__outcome http__parse_request(struct bytes input,
                                                     struct http__parsed *parsed)
{
    return http__parse_with_body(input, 0, parsed);
}

#endif
