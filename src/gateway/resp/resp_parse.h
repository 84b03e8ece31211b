/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of requests in the Redis protocol: bytes in, commands out. Folder-private.
 *
 * Pure: no I/O, no clock; memory only for the scratch arrays of `struct resp_arguments`, which one
 * thread shares among all its parsers. A parser is what a connection keeps between two reads: some
 * numbers. It never looks twice at a byte that it has passed, except that a command that came in
 * pieces is walked once more, header by header, when its last byte is there; so the cost is linear
 * in the bytes, whatever the pieces.
 *
 * Texts of errors and the order of checks are Redis 7.2's (networking.c); clients match on them. */
#ifndef GATEWAY_RESP_RESP_PARSE_H
#define GATEWAY_RESP_RESP_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"

/* Longest line: an inline request, or the digits of a length. */
#define RESP_LINE_SIZE_BYTES_MAX (64 * 1024)
/* Longest bulk that is understood at all. */
#define RESP_BULK_SIZE_BYTES_MAX (512ull * 1024 * 1024)
#define RESP_ARGUMENT_COUNT_MAX (1024 * 1024)
/* Before authentication. */
#define RESP_STRANGER_BULK_SIZE_BYTES_MAX 16384
#define RESP_STRANGER_ARGUMENT_COUNT_MAX 10

enum resp_outcome {
    RESP_OUTCOME_MORE,      /* The command is not complete. */
    RESP_OUTCOME_COMMAND,   /* A command is in the arguments. */
    RESP_OUTCOME_NOTHING,   /* An empty line or an empty array: no command, no answer. */
    RESP_OUTCOME_OVERSIZED, /* A command above the limits was read and thrown away. */
    RESP_OUTCOME_BROKEN, /* Not the protocol; `error` says why. Nothing after it can be trusted. */
};

struct resp_limits {
    uint64_t value_size_bytes_max;   /* A longer bulk is thrown away, with its command. */
    uint64_t request_size_bytes_max; /* All bulks of a command together: likewise. */
    bool is_stranger;                /* Not authenticated. */
};

/* What came out. The items point into the input, or (inline requests) into `unescaped`; they are
 * valid until the input goes or the next resp__parse() with the same scratch. All zeros is
 * empty. */
struct resp_arguments {
    struct bytes *items;
    uint32_t count;
    uint32_t capacity;
    struct buffer unescaped;
};
void resp__arguments_deinit(struct resp_arguments *arguments);

enum resp_expected {
    RESP_EXPECTED_START, /* All zeros. */
    RESP_EXPECTED_INLINE,
    RESP_EXPECTED_COUNT,
    RESP_EXPECTED_BULK_SIZE,
    RESP_EXPECTED_BULK,
};

/* All zeros is the start of a command. Positions count from the start of the input that is passed
 * next, which begins where the last call's `*consumed` ended. */
struct resp_parser {
    uint64_t position;        /* Everything before is understood. */
    uint64_t scanned_bytes;   /* After `position`, known to hold no line end. */
    uint64_t bulk_size_bytes; /* Of the bulk expected, without its line end. */
    uint64_t request_size_bytes;
    uint64_t largest_size_bytes; /* Longest bulk of the command so far. */
    uint32_t argument_count;     /* Announced. */
    uint32_t argument_index;     /* The next one. */
    uint8_t expected;            /* enum resp_expected */
    bool is_resumed;    /* The arguments of earlier calls are lost: walk again at the end. */
    bool is_discarding; /* Above the limits: nothing is kept. */
};

#define RESP_ERROR_TEXT_SIZE 64

/* Go on with a command. `*consumed`: how many bytes the caller drops from the front of `input`;
 * after MORE the rest must be at the front of the next input. After COMMAND, NOTHING and OVERSIZED
 * the parser is at the start of the next command; after OVERSIZED `parser->largest_size_bytes` and
 * `request_size_bytes` are still those of the command. `error` has RESP_ERROR_TEXT_SIZE bytes. */
enum resp_outcome resp__parse(struct resp_parser *parser, const struct resp_limits *limits,
                              struct bytes input, struct resp_arguments *arguments,
                              size_t *consumed, char *error);

/* How many bytes, counted from the front of the next input, the bulk that is being read needs (with
 * its line end); 0 when none is or nothing is kept. For reading it straight to its place. */
uint64_t resp__parser_wanted_bytes(const struct resp_parser *parser);

/* Cut a line into arguments: spaces separate; "…" with \n \r \t \b \a \xHH \" \\ and '…' with \'
 * quote; a closing quote must be followed by a space or the end. False: unbalanced quotes. */
bool resp__split_line(struct bytes line, struct resp_arguments *arguments);

/* The length of the one reply at the front of `bytes`, with all its parts; 0 when it is not whole.
 * For taking apart the answer of a transaction. */
size_t resp__reply_size(struct bytes bytes);

#endif
