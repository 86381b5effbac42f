/* lib_request.h - bodies read as calls, whole and at every split; forms written for that. */
#ifndef TG_UNIT_LIB_REQUEST_H
#define TG_UNIT_LIB_REQUEST_H

#include "daemon/images/request.h"

#define LIB_FORM_TYPE "multipart/form-data; boundary=xYzZY"
#define LIB_JSON_TYPE "application/json"

/* Reads in pieces of <piece> bytes, each in memory of its own size. */
enum err_code lib_request_read(enum image_operation operation, const char *type, struct slice body, size_t piece,
                               struct image_request *out, struct err *err);

/* The test fails unless the body is read, and to the same call, in one piece, in two pieces cut anywhere (short bodies)
 * and in pieces of 1 and of 7. */
struct image_request lib_request_good(enum image_operation operation, const char *type, struct slice body);

/* The test fails unless it is refused with these, at every split; <message> NULL: any. */
void lib_request_refused(enum image_operation operation, const char *type, struct slice body, enum err_code code,
                         const char *param, const char *message);

/* The body with the model renamed as image_request_patch says; NUL-terminated. */
struct buf lib_request_patch(const struct image_request *req, struct slice body, const char *model);

/* A form with the boundary of LIB_FORM_TYPE; begin with an empty buffer. */
void lib_form_init(struct buf *form);
void lib_form_field(struct buf *form, const char *name, const char *value);
void lib_form_file(struct buf *form, const char *name, const char *filename, const char *type, struct slice content);
void lib_form_end(struct buf *form);

#endif
