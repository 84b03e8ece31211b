/* SPDX-License-Identifier: Apache-2.0 */
/* token: what a person carries from one machine to the next so that it may join. Layer: core.
 *
 * A join token holds the fingerprint of the cluster's authority, by which the joining node knows
 * that it speaks to the right cluster before it says anything, and a secret, by which the cluster
 * knows that the node was invited. The cluster itself keeps only the SHA-256 of the secret.
 *
 *   tutti1-<base32 of: version, fingerprint, secret, checksum>
 *
 * (docs/formats/system.md). Letters may be of either case; it has no character that a shell or a
 * URL treats in its own way. The checksum finds what was lost or changed on the way. Pure functions;
 * any thread. Whoever held a secret overwrites it. */
#ifndef CORE_TOKEN_TOKEN_H
#define CORE_TOKEN_TOKEN_H

#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

#define TOKEN_FINGERPRINT_SIZE_BYTES 32
#define TOKEN_SECRET_SIZE_BYTES 16
/* Of the text, with its terminator. */
#define TOKEN_TEXT_SIZE 93

struct token {
    uint8_t fingerprint[TOKEN_FINGERPRINT_SIZE_BYTES]; /* SHA-256 of the authority's certificate. */
    uint8_t secret[TOKEN_SECRET_SIZE_BYTES];
};

/* Write the text of a token to `text` of TOKEN_TEXT_SIZE bytes; returns `text`. */
char *token_encode(const struct token *token, char *text);

/* Read a token; blanks around it are passed over. The message never repeats it. Errors: -EINVAL:
 * this is not a join token; ERROR_CORRUPT: it is damaged; ERROR_NEWER_FORMAT. */
MUST_USE int token_decode(struct token *token, struct bytes text, struct error *error);

#endif
