/* lib_sandbox.h - a real sandbox on a free port, and a client of raw sockets for it.
 *
 * Each question goes over a connection of its own; the answer is read until its end, or until it stays silent. */
#ifndef TG_TESTS_LIB_SANDBOX_H
#define TG_TESTS_LIB_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

/* 0, as cmocka's set-up functions return. */
int sandbox_up(void **state);
int sandbox_down(void **state);

/* The last answer. */
struct said {
    int status;                     /* 0: none came */
    bool whole;                     /* it came to its end by its own framing */
    bool silent;                    /* the connection stayed open and silent */
    char *head;                     /* with a NUL, lower case */
    char *body;                     /* unchunked, with a NUL */
    size_t len;                     /* of the body */
    int64_t first_after, all_after; /* microseconds since the question left */
};
extern struct said said;

/* The next question takes so many milliseconds without a byte for silence: before the first one, and after. Others wait
 * for long. */
void ask_patience(int first, int then);

void ask(const char *method, const char *path, const char *type, const void *body, size_t len);
void ask_json(const char *path, const char *json);

/* The same in steps, for bodies that no memory should hold: the head; bytes, as often as it takes; the answer. */
int ask_begin(const char *method, const char *path, const char *type, size_t len);
bool ask_bytes(int fd, const void *bytes, size_t len); /* false: the other side has closed */
void ask_end(int fd);

/* A part of a form. */
struct part {
    const char *name;
    const char *text;     /* NULL: the file below */
    const char *filename; /* NULL: none */
    const char *type;     /* NULL: none */
    const void *bytes;
    size_t len;
};
void ask_form(const char *path, const struct part *parts, size_t n);

/* A header of the last answer, up to its line's end, or NULL. */
const char *said_header(const char *name, char out[256]);

/* The last answer as JSON, until the next question; and a member of it by its path ("data.0.b64_json"), or NULL. */
struct json_object *said_member(const char *path);
const char *said_text(const char *path); /* "" when absent */
int64_t said_number(const char *path);   /* -1 when absent */

/* It was this refusal; NULL stands for JSON null. */
void said_refusal(int status, const char *code, const char *param, const char *message_part);

/* A picture that the sandbox makes, as a file of a form: "256x256", "png". Its bytes live until the next call with the
 * same <slot> (0..3). */
struct part file_part(const char *name, const char *type, const char *size, const char *format, int64_t bytes,
                      int slot);

/* base64, decoded; the caller frees. */
char *decode64(const char *text, size_t len, size_t *out_len);

#endif
