/* SPDX-License-Identifier: Apache-2.0 */
/* json: JSON text, written from values and read into them. Layer: driver.
 *
 * Strict: text that is not valid UTF-8 is written with question marks for all that is not ASCII; what
 * is read must be one whole value, with no key twice. Objects keep the order in which keys were set. A
 * value belongs to one thread; a child belongs to its parent. Running out of memory is fatal. */
#ifndef DRIVER_JSON_JSON_H
#define DRIVER_JSON_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes/bytes.h"
#include "base/error/error.h"

struct json;

struct json *json_object_create(void);
struct json *json_array_create(void);

/* Only for a value without a parent; NULL is allowed. */
void json_destroy(struct json *json);

/* Set a key of an object; a value that was there is replaced. json_set() takes `child`. */
void json_set(struct json *object, const char *key, struct json *child);
void json_set_text(struct json *object, const char *key, const char *text);
void json_set_unsigned(struct json *object, const char *key, uint64_t value);
/* Written as null when it is not finite: JSON has no such numbers. */
void json_set_real(struct json *object, const char *key, double value);
void json_set_boolean(struct json *object, const char *key, bool value);

/* Takes `child`. */
void json_append(struct json *array, struct json *child);
void json_append_text(struct json *array, const char *text);
void json_append_unsigned(struct json *array, uint64_t value);

/* Append the text of a value, without line breaks. */
void json_write(const struct json *json, struct buffer *text);

/* An array of very many items is better written item by item: as a value it would take ten times the memory of
 * its text, in a million pieces. Append an item to the text of those before it. */
void json_write_item(const struct json *item, struct buffer *items);
/* As json_write() of an object, with an array of those items under one more key. */
void json_write_with(const struct json *object, const char *key, struct bytes items,
                     struct buffer *text);

/* Give the value that the text is. Errors: ERROR_PROTOCOL, with line and column. */
MUST_USE int json_parse(struct json **json, struct bytes text, struct error *error);

/* The value of a key or an index; borrowed from its parent. NULL when there is none, or `json` is
 * NULL or of another kind, so that questions can be chained. */
const struct json *json_get(const struct json *object, const char *key);
const struct json *json_at(const struct json *array, size_t index);

/* Is it an object? False for NULL. */
bool json_is_keyed(const struct json *json);

/* What a value is; the fallback when it is NULL or of another kind. The text is borrowed. */
const char *json_text(const struct json *json, const char *fallback);
double json_number(const struct json *json, double fallback);
/* The same of a whole number from 0 to UINT32_MAX. */
uint32_t json_whole(const struct json *json, uint32_t fallback);
bool json_flag(const struct json *json, bool fallback);

#endif
