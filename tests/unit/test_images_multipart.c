/* test_images_multipart.c - what forms are split into, at every cut of the bytes, and which are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/images/multipart.h"

enum { LOG_MAX = 64 * 1024 };

/* What was told, as text: "[name|filename|type]content;". */
struct log {
    struct slice body;
    struct buf text;
    uint64_t at; /* offset behind the last content */
    uint64_t start;
    bool started;
    size_t content; /* where in the text the content begins */
};

static enum err_code log_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    struct log *l = ctx;

    (void)err;
    buf_append_char(&l->text, '[');
    buf_append_slice(&l->text, part->name);
    if (part->has_filename) {
        buf_append_char(&l->text, '|');
        buf_append_slice(&l->text, part->filename);
    }
    if (part->type.len > 0) {
        buf_append_char(&l->text, '|');
        buf_append_slice(&l->text, part->type);
    }
    buf_append_char(&l->text, ']');
    l->started = false;
    l->content = l->text.len;
    return ERR_OK;
}

static enum err_code log_data(void *ctx, struct slice bytes, uint64_t offset, struct err *err)
{
    struct log *l = ctx;

    (void)err;
    assert_true(bytes.len > 0);
    if (l->started)
        assert_int_equal(offset, l->at);
    else
        l->start = offset;
    l->started = true;
    l->at = offset + bytes.len;
    buf_append_slice(&l->text, bytes);
    return ERR_OK;
}

static enum err_code log_end(void *ctx, uint64_t offset, struct err *err)
{
    struct log *l = ctx;

    if (l->started)
        assert_int_equal(offset, l->at);
    else
        l->start = offset;
    /* the offsets are those of the content, and a delimiter follows */
    assert_int_equal(offset - l->start, l->text.len - l->content);
    if (offset > l->start)
        assert_memory_equal(l->body.p + l->start, l->text.p + l->content, offset - l->start);
    assert_memory_equal(l->body.p + offset, "\r\n--", 4);
    buf_append_char(&l->text, ';');
    return l->text.len >= 4 && memcmp(l->text.p, "[no]", 4) == 0
               ? err_set(err, ERR_INVALID_VALUE, "no", "the owner says no")
               : ERR_OK;
}

static enum err_code feed_copy(struct multipart *m, const char *p, size_t n, struct err *err)
{
    char *copy = mem_alloc(n > 0 ? n : 1);
    enum err_code code;

    memcpy(copy, p, n);
    code = multipart_feed(m, (struct slice){copy, n}, err);
    free(copy);
    return code;
}

/* <first> bytes, then pieces of <piece>. */
static enum err_code split(const char *boundary, struct slice body, size_t first, size_t piece, struct buf *out,
                           uint64_t *first_at, struct err *err)
{
    struct log l = {.body = body};
    const struct multipart_callbacks callbacks = {&l, log_begin, log_data, log_end};
    struct multipart *m = multipart_create(boundary, &callbacks);
    enum err_code code;

    buf_init(&l.text, LOG_MAX);
    code = feed_copy(m, body.p, first, err);
    for (size_t at = first; at < body.len && code == ERR_OK; at += piece)
        code = feed_copy(m, body.p + at, piece < body.len - at ? piece : body.len - at, err);
    if (code == ERR_OK)
        code = multipart_finish(m, err);
    *first_at = multipart_first(m);
    multipart_destroy(m);
    buf_append_char(&l.text, '\0');
    *out = l.text;
    return code;
}

static void check_everywhere(const char *boundary, struct slice body, enum err_code code, const char *told,
                             const char *message)
{
    for (size_t cut = 0; cut <= body.len + 1; cut++) {
        size_t first = cut <= body.len ? cut : 0, piece = cut <= body.len ? body.len + 1 : 1;
        struct err err = {.message = ""};
        struct buf out;
        uint64_t at;
        enum err_code got = split(boundary, body, first, piece, &out, &at, &err);

        if (got != code || (told != NULL && strcmp(out.p, told) != 0) ||
            (message != NULL && strstr(err.message, message) == NULL))
            fail_msg("cut at %zu: %s '%s'\n got  %s\n want %s", first, err_name(got), err.message, out.p,
                     told != NULL ? told : message);
        buf_dispose(&out);
    }
}

static void check_told(const char *boundary, const char *body, const char *told)
{
    check_everywhere(boundary, slice_from(body), ERR_OK, told, NULL);
}

static void check_refused(const char *boundary, const char *body, const char *message)
{
    check_everywhere(boundary, slice_from(body), ERR_BAD_REQUEST, NULL, message);
}

#define HEAD(name) "Content-Disposition: form-data; name=\"" name "\"\r\n\r\n"

static void test_parts(void **state)
{
    (void)state;
    check_told("b", "--b\r\n" HEAD("n") "2\r\n--b--\r\n", "[n]2;");
    check_told("b", "--b\r\n" HEAD("n") "2\r\n--b\r\n" HEAD("m") "\r\n--b--", "[n]2;[m];");
    check_told("b", "--b--", "");
    check_told("b", "pre\r\nam--b\r\n --b\r\n\r\n--b\r\n" HEAD("n") "2\r\n--b--\r\nepi\r\n--c\nlogue", "[n]2;");
    check_told("b", "\r\n--b\r\n" HEAD("n") "2\r\n--b--", "[n]2;");
    check_told("b c", "--b c\r\n" HEAD("n") "\r\n\r\n--b c--", "[n]\r\n;");
}

static void test_heads(void **state)
{
    (void)state;
    check_told(
        "b", "--b\r\ncontent-TYPE:image/png\r\nX-Other: a\tb\r\nCONTENT-disposition:FORM-DATA;NAME=n\r\n\r\n2\r\n--b--",
        "[n|image/png]2;");
    check_told("b",
               "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"we%22ird \xC3\xA4;.png\"\r\n"
               "Content-Transfer-Encoding: binary\r\n\r\n2\r\n--b--",
               "[image|we%22ird \xC3\xA4;.png]2;");
    check_told("b",
               "--b\r\nContent-Disposition: form-data; filename=\"../../etc/passwd\" ; name=image;\r\n\r\n\r\n--b--",
               "[image|../../etc/passwd];");
    check_told("b", "--b\r\nContent-Disposition: form-data; name=\"a\\\"b\\\\c%22\"; filename=\"\"\r\n\r\n\r\n--b--",
               "[a\"b\\c\"|];");
    check_told("b", "--b\r\nContent-Disposition: form-data; name=x; filename*=UTF-8''a.png\r\n\r\n\r\n--b--", "[x|];");
    check_told("b", "--b\r\nContent-Disposition: form-data; name=x; filename=\"q\\\"q\"\r\n\r\n\r\n--b--",
               "[x|q\\\"q];");
}

static void test_content(void **state)
{
    (void)state;
    check_told("bound", "--bound\r\n" HEAD("f") "a\r\n--boun\r\n-bound\r\r\n--boune--bound\n\n\r\n\r\n--bound--",
               "[f]a\r\n--boun\r\n-bound\r\r\n--boune--bound\n\n\r\n;");
    check_told("bound", "--bound\r\n" HEAD("f") "\r\r\n--bound--", "[f]\r;");
    check_told("bound", "--bound\r\n" HEAD("f") "--boun\n--boun\r\n--bound--", "[f]--boun\n--boun;");
    check_everywhere("b", SLICE("--b\r\n" HEAD("f") "\0\xFF\r\n-\0-b\r\n--b--"), ERR_OK, "[f]", NULL);
}

/* Whatever another reader might take for a delimiter is none of a content's business. */
static void test_lookalike_delimiters(void **state)
{
    (void)state;
    check_refused("b", "--b\r\n" HEAD("f") "a\r\n--bX\r\n--b--", "goes on");
    check_refused("b", "--b\r\n" HEAD("f") "a\r\n--b \r\n" HEAD("n") "9\r\n--b--", "goes on");
    check_refused("b", "--b\r\n" HEAD("f") "a\r\n--b\n" HEAD("n") "9\r\n--b--", "goes on");
    check_refused("b", "--b\r\n" HEAD("f") "a\r\n--b-\r\n--b--", "goes on");
    check_refused("b", "--b\r\n" HEAD("f") "a\r\n--b\r-\r\n--b--", "goes on");
    check_refused("b", "--b\r\n" HEAD("f") "a\n--b\n" HEAD("n") "9\r\n--b--", "does not begin behind a CR LF");
    check_refused("b", "--b\r\n" HEAD("f") "\n--b\r\n" HEAD("n") "9\r\n--b--", "does not begin behind a CR LF");
    check_refused("b", "--b\r\n" HEAD("f") "--b--", "does not begin behind a CR LF");
    check_refused("b", "x\n--b\r\n" HEAD("f") "\r\n--b--", "does not begin behind a CR LF");
    check_refused("b", "--b\r\n" HEAD("f") "\r\n--b--\r\n--b\r\n" HEAD("n") "9\r\n--b--", "behind the last one");
    check_refused("b", "--b\n" HEAD("f") "\n--b--\n", "goes on");
}

static void test_cut_short(void **state)
{
    static const char body[] = "--b\r\n" HEAD("f") "aa\r\n--b--";

    (void)state;
    for (size_t n = 0; n < sizeof(body) - 1; n++)
        check_everywhere("b", (struct slice){body, n}, ERR_BAD_REQUEST, NULL, "ends before its last delimiter");
}

static void check_head(const char *lines, const char *message)
{
    char body[512];

    (void)snprintf(body, sizeof(body), "--b\r\n%s\r\n\r\nx\r\n--b--", lines);
    check_refused("b", body, message);
}

static void test_heads_refused(void **state)
{
    (void)state;
    check_refused("b", "--b\r\n\r\nx\r\n--b--", "no name");
    check_head("Content-Type: text/plain", "no name");
    check_head("Content-Disposition: form-data; filename=a", "no name");
    check_head("Content-Disposition: form-data; name=a; name=b", "two names");
    check_head("Content-Disposition: form-data; name=a\r\nContent-disposition: form-data; name=b",
               "two Content-Dispositions");
    check_head("Content-Disposition: form-data; name=a; filename=b; filename=c", "two file names");
    check_head("Content-Disposition: form-data; name*=utf-8''n", "name*");
    check_head("Content-Disposition: form-data; name=a; name*0=n", "name*");
    check_head("Content-Disposition: attachment; name=a", "not form-data");
    check_head("Content-Disposition: form-data; name=\"\"", "a part's name");
    check_head("Content-Disposition: form-data; name=\"\\n\"", "a part's name");
    check_head("Content-Disposition: form-data; name=\"%6e\"", "a part's name");
    check_head("Content-Disposition: form-data; name=\"\xFF\"", "a part's name");
    check_head("Content-Disposition: form-data; name=\"a", "cannot be read");
    check_head("Content-Disposition: form-data; name=\"a\"b", "cannot be read");
    check_head("Content-Disposition: form-data; name=a b", "cannot be read");
    check_head("Content-Disposition: form-data; name", "cannot be read");
    check_head("Content-Disposition: form-data; name=a; filename=\"\\\"; name=n; x=\"", "cannot be read");
    check_head("Content-Disposition : form-data; name=a", "is none");
    check_head("Content-Disposition: form-data;\r\n name=a", "is none");
    check_head("no colon", "is none");
    check_head("Content-Disposition: form-data; name=a\nX: y", "does not end with CR LF");
    check_head("Content-Disposition: form-data; name=a\rX: y", "control character");
    check_head("Content-Disposition: form-data; name=a\x01", "control character");
    check_head("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64", "Transfer-Encoding");
    check_head("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: 7bit\r\n"
               "Content-Transfer-Encoding: 7bit",
               "two Content-Transfer-Encodings");
    check_head("Content-Disposition: form-data; name=a\r\nContent-Type: a/b\r\nContent-Type: c/d", "two Content-Types");
    check_head("Content-Disposition: form-data; name=a\r\nContent-Type: multipart/related; boundary=c", "a multipart");
}

/* A form whose first part has a name and a file name of these lengths. */
static enum err_code read_lengths(int name, int filename, int extra, struct err *err)
{
    char *body = mem_alloc(32 * 1024);
    struct buf out;
    uint64_t at;
    enum err_code code;
    int n = snprintf(body, 32 * 1024,
                     "--b\r\nX: %0*d\r\nContent-Disposition: form-data; name=%0*d; filename=%0*d\r\n\r\n\r\n--b--",
                     extra, 0, name, 0, filename, 0);

    code = split("b", (struct slice){body, (size_t)n}, 0, (size_t)n, &out, &at, err);
    buf_dispose(&out);
    free(body);
    return code;
}

static void test_limits(void **state)
{
    const int lines = (int)strlen("X: \r\nContent-Disposition: form-data; name=n; filename=f\r\n\r\n") - 2;
    struct buf body, out;
    struct err err;
    uint64_t at;

    (void)state;
    assert_int_equal(read_lengths(LIMIT_PART_NAME - 1, LIMIT_FILE_NAME, 1, &err), ERR_OK);
    assert_int_equal(read_lengths(LIMIT_PART_NAME, 1, 1, &err), ERR_BAD_REQUEST);
    assert_int_equal(read_lengths(1, LIMIT_FILE_NAME + 1, 1, &err), ERR_BAD_REQUEST);
    assert_int_equal(read_lengths(1, 1, LIMIT_PART_HEAD - lines - 2, &err), ERR_OK);
    assert_int_equal(read_lengths(1, 1, LIMIT_PART_HEAD - lines - 1, &err), ERR_BAD_REQUEST);
    assert_non_null(strstr(err.message, "too long"));
    buf_init(&body, LOG_MAX);
    for (int i = 0; i <= LIMIT_PARTS; i++) {
        struct slice so_far = {body.p, body.len};

        if (i == LIMIT_PARTS) { /* as many as may be */
            buf_append_str(&body, "--b--");
            so_far = buf_slice(&body);
            assert_int_equal(split("b", so_far, 0, so_far.len, &out, &at, &err), ERR_OK);
            buf_dispose(&out);
            body.len -= 5;
        }
        buf_append_str(&body, "--b\r\n" HEAD("n") "\r\n");
    }
    buf_append_str(&body, "--b--");
    assert_int_equal(split("b", buf_slice(&body), 0, body.len, &out, &at, &err), ERR_BAD_REQUEST);
    assert_non_null(strstr(err.message, "more than 64 parts"));
    buf_dispose(&out);
    buf_dispose(&body);
}

#define MIXED                                                                                                          \
    "--out\r\nContent-Disposition: form-data; name=\"image[]\"\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n"
#define FILE_HEAD(name) "Content-Disposition: attachment; filename=\"" name "\"\r\nContent-Type: image/png\r\n\r\n"

static void test_mixed(void **state)
{
    (void)state;
    check_told("out",
               MIXED "--in\r\n" FILE_HEAD("a") "A\r\n--ou\r\n--in\r\n" FILE_HEAD(
                   "b") "\r\n--in--\r\n\r\n--out\r\n" HEAD("n") "2\r\n--out--",
               "[image[]|a|image/png]A\r\n--ou;[image[]|b|image/png];[n]2;");
    check_refused("out", MIXED "--in\r\n" FILE_HEAD("a") "A\r\n--out--", "ends before its last delimiter");
    check_refused("out", MIXED "A\r\n--out--", "ends before its last delimiter");
    check_refused("out", MIXED "--in\r\n" HEAD("n") "A\r\n--in--\r\n--out--", "not attachment");
    check_refused("out",
                  MIXED "--in\r\nContent-Disposition: attachment; name=n; filename=a\r\n\r\nA\r\n--in--\r\n--out--",
                  "a name of its own");
    check_refused("out", MIXED "--in\r\nContent-Disposition: attachment\r\n\r\nA\r\n--in--\r\n--out--", "no file name");
    check_refused("out", MIXED "--in\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\nA\r\n--in--\r\n--out--",
                  "a multipart");
    check_refused("out",
                  "--out\r\nContent-Disposition: form-data; name=i\r\nContent-Type: multipart/mixed\r\n\r\n\r\n--out--",
                  "no boundary");
    check_refused("out", MIXED "--in\r\n" FILE_HEAD("a") "A\r\n--outer\r\n--in--\r\n--out--",
                  "ends before its last delimiter");
}

static void test_owner_refuses(void **state)
{
    const struct multipart_callbacks none = {NULL, NULL, NULL, NULL};
    struct multipart *m = multipart_create("b", &none);
    struct err err;

    (void)state;
    check_everywhere("b", SLICE("--b\r\n" HEAD("no") "x\r\n--b\r\n" HEAD("n") "x\r\n--b--"), ERR_INVALID_VALUE,
                     "[no]x;", "the owner says no");
    assert_int_equal(multipart_feed(m, SLICE("--bad"), &err), ERR_BAD_REQUEST);
    assert_int_equal(multipart_feed(m, SLICE("\r\n"), &err), ERR_BAD_REQUEST); /* for good */
    assert_int_equal(multipart_finish(m, &err), ERR_BAD_REQUEST);
    assert_non_null(strstr(err.message, "goes on"));
    multipart_destroy(m);
    multipart_destroy(NULL);
}

static void test_first(void **state)
{
    static const char body[] = "preamble\r\n--b\r\n" HEAD("n") "2\r\n--b--";
    struct buf out;
    struct err err;
    uint64_t at;

    (void)state;
    for (size_t cut = 0; cut < sizeof(body) - 1; cut++) {
        assert_int_equal(split("b", slice_from(body), cut, sizeof(body), &out, &at, &err), ERR_OK);
        assert_int_equal(at, 10);
        buf_dispose(&out);
    }
    assert_int_equal(split("b", slice_from(body + 10), 0, sizeof(body), &out, &at, &err), ERR_OK);
    assert_int_equal(at, 0);
    buf_dispose(&out);
}

static void check_boundary(const char *type, const char *boundary, const char *message)
{
    char out[MULTIPART_BOUNDARY];
    struct err err;
    enum err_code code = multipart_boundary(slice_from(type), out, &err);

    if (boundary != NULL) {
        assert_int_equal(code, ERR_OK);
        assert_string_equal(out, boundary);
    } else {
        assert_int_equal(code, ERR_BAD_REQUEST);
        if (strstr(err.message, message) == NULL)
            fail_msg("%s: %s", type, err.message);
    }
}

static void test_boundary(void **state)
{
    static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890123456789";
    char type[256];

    (void)state;
    check_boundary("multipart/form-data; boundary=abc", "abc", NULL);
    check_boundary("multipart/form-data;charset=\"utf-8\" ; BOUNDARY=\"a b'()+_,-./:=?\"; x=y", "a b'()+_,-./:=?",
                   NULL);
    check_boundary("multipart/form-data; boundary=----WebKit/Form=", "----WebKit/Form=", NULL);
    (void)snprintf(type, sizeof(type), "x/y; boundary=%s", longest);
    check_boundary(type, longest, NULL);
    (void)snprintf(type, sizeof(type), "x/y; boundary=%s1", longest);
    check_boundary(type, NULL, "longer than 70");
    check_boundary("multipart/form-data", NULL, "no boundary");
    check_boundary("multipart/form-data; charset=utf-8", NULL, "no boundary");
    check_boundary("multipart/form-data; boundary*=utf-8''abc", NULL, "no boundary");
    check_boundary("multipart/form-data; boundary=a; boundary*0=b", NULL, "no boundary");
    check_boundary("multipart/form-data; boundary=a; boundary=a", NULL, "more than one");
    check_boundary("multipart/form-data; boundary=", NULL, "is empty");
    check_boundary("multipart/form-data; boundary=\"\"", NULL, "is empty");
    check_boundary("multipart/form-data; boundary=\"abc \"", NULL, "cannot have");
    check_boundary("multipart/form-data; boundary=a{b", NULL, "cannot have");
    check_boundary("multipart/form-data; boundary=\"a\\b\"", NULL, "cannot have");
    check_boundary("multipart/form-data; boundary=a b", NULL, "cannot be read");
    check_boundary("multipart/form-data; boundary=\"abc", NULL, "cannot be read");
    check_boundary("multipart/form-data; boundary", NULL, "cannot be read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),         cmocka_unit_test(test_heads),
        cmocka_unit_test(test_content),       cmocka_unit_test(test_lookalike_delimiters),
        cmocka_unit_test(test_cut_short),     cmocka_unit_test(test_heads_refused),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_owner_refuses), cmocka_unit_test(test_first),
        cmocka_unit_test(test_boundary),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
