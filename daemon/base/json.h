/* json.h - reading small documents into a tree (json-c behind it) with errors that name the parameter.
 *
 * json_read refuses what json-c would let pass: bad UTF-8, anything outside RFC 8259, more than LIMIT_JSON_DEPTH
 * levels, duplicate keys anywhere (a billing gateway must never price one n and buy another). Integers outside int64
 * are kept with their digits and refused by json_get_int. Lone surrogates (\ud800) are allowed, as the upstream decides
 * on them; a \u0000 inside a string that we must use as a C string is refused by the getter.
 *
 * The getters treat an explicit null as absent. `present` may be NULL. Messages follow OpenAI's:
 *   Invalid type for 'n': expected an integer, but got a string instead.   (INVALID_TYPE)
 *   Missing required parameter: 'prompt'.                                  (MISSING_PARAMETER)
 *   Unknown parameter: 'x'.                                                (UNKNOWN_PARAMETER) */
#ifndef TG_BASE_JSON_H
#define TG_BASE_JSON_H

#include <json-c/json.h>

#include "err.h"

/* Parses <text> (a whole document). On success *out is owned by the caller (json_object_put). Bad text: BAD_JSON with
 * OpenAI's "We could not parse the JSON body of your request. ..." ; a duplicate key: DUPLICATE_PARAMETER naming it.
 * A top level that is not an object: BAD_REQUEST "Invalid type for the request body: expected an object...". */
TG_MUSTCHECK enum err_code json_read(struct slice text, struct json_object **out, struct err *err);

/* True (and *value) when <name> is there and not null. */
bool json_find(struct json_object *obj, const char *name, struct json_object **value);

/* A string of at most <cap>-1 bytes copied into <out> with its NUL; absent: empty. STRING_TOO_LONG past that. */
TG_MUSTCHECK enum err_code json_get_text(struct json_object *obj, const char *name, bool required, char *out,
                                         size_t cap, bool *present, struct err *err);

/* A string borrowed from the tree. */
TG_MUSTCHECK enum err_code json_get_slice(struct json_object *obj, const char *name, bool required, struct slice *out,
                                          bool *present, struct err *err);

/* An integer (JSON number without fraction or exponent) in [min, max]. */
TG_MUSTCHECK enum err_code json_get_int(struct json_object *obj, const char *name, int64_t min, int64_t max,
                                        int64_t *out, bool *present, struct err *err);

TG_MUSTCHECK enum err_code json_get_bool(struct json_object *obj, const char *name, bool *out, bool *present,
                                         struct err *err);

/* A decimal string as money_parse reads it ("25.00"); a JSON number is INVALID_TYPE. */
TG_MUSTCHECK enum err_code json_get_money(struct json_object *obj, const char *name, int digits, bool required,
                                          int64_t *out, bool *present, struct err *err);

/* UNKNOWN_PARAMETER naming the first member that is not in <names> (NULL-terminated). */
TG_MUSTCHECK enum err_code json_only(struct json_object *obj, const char *const *names, struct err *err);

/* What a value is, in words of an error message: "a string", "an integer", "a decimal number", "a boolean", "an array",
 * "an object", "null". */
const char *json_kind(struct json_object *value);

#endif
