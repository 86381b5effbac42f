/* test_images_form.c - edits and variations that come as forms: what is read, what is refused with which words, and the
 * form that goes on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/images/form.h"
#include "lib_request.h"

static const char png[] = "\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR\0\0\x04\0\0\0\x02\x58\x08\x06\0\0\0"; /* 1024 x 600 */
#define PICTURE ((struct slice){png, sizeof(png) - 1})

static int start(void **state)
{
    (void)state;
    model_init();
    return 0;
}

/* A form of fields "name=value" and of pictures "+name", in the order of the text, apart by '&'. */
static struct buf write_form(const char *parts)
{
    struct slice rest = slice_from(parts), part, name, value;
    struct buf form;
    char text[2][256];

    lib_form_init(&form);
    while (rest.len > 0) {
        (void)slice_cut(rest, '&', &part, &rest);
        if (slice_cut(part, '=', &name, &value)) {
            assert_true(slice_copy(name, text[0], sizeof(text[0])) && slice_copy(value, text[1], sizeof(text[1])));
            lib_form_field(&form, text[0], text[1]);
        } else {
            assert_true(slice_copy((struct slice){part.p + 1, part.len - 1}, text[0], sizeof(text[0])));
            lib_form_file(&form, text[0], "a.png", "image/png", PICTURE);
        }
    }
    lib_form_end(&form);
    return form;
}

static struct image_request read_form(enum image_operation operation, const char *parts)
{
    struct buf form = write_form(parts);
    struct image_request r = lib_request_good(operation, LIB_FORM_TYPE, buf_slice(&form));

    buf_dispose(&form);
    return r;
}

static struct image_request read_edit(const char *parts)
{
    return read_form(OPERATION_EDITS, parts);
}

static void check_refused(enum image_operation operation, const char *parts, enum err_code code, const char *param,
                          const char *message)
{
    struct buf form = write_form(parts);

    lib_request_refused(operation, LIB_FORM_TYPE, buf_slice(&form), code, param, message);
    buf_dispose(&form);
}

static void check_edit(const char *parts, enum err_code code, const char *param, const char *message)
{
    check_refused(OPERATION_EDITS, parts, code, param, message);
}

static void test_fields(void **state)
{
    struct image_request r =
        read_edit("+image[]&prompt=a cat&+image[]&model=gpt-image-1&n=3&size=1536x1024&quality=high&stream=true&"
                  "partial_images=2&input_fidelity=high&background=opaque&seed=9&extra[]=1&extra[]=2&+mask");

    (void)state;
    assert_int_equal(r.operation, OPERATION_EDITS);
    assert_int_equal(r.spec.operation, OPERATION_EDITS);
    assert_string_equal(r.spec.model, "gpt-image-1");
    assert_non_null(r.spec.card);
    assert_int_equal(r.spec.n, 3);
    assert_string_equal(r.spec.size, "1536x1024");
    assert_string_equal(r.spec.quality, "high");
    assert_int_equal(r.spec.partial_images, 2);
    assert_int_equal(r.spec.prompt_bytes, 5);
    assert_true(r.spec.high_fidelity);
    assert_true(r.stream);
    assert_true(r.model_given);
    assert_false(r.model_absent);
    assert_int_equal(r.spec.n_inputs, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(r.spec.inputs[i].w, 1024);
        assert_int_equal(r.spec.inputs[i].h, 600);
    }
    assert_string_equal(r.boundary, "xYzZY");

    r = read_edit("prompt=&stream=false&input_fidelity=low&+image");
    assert_string_equal(r.spec.model, "dall-e-2");
    assert_int_equal(r.spec.n, 1);
    assert_false(r.stream || r.spec.high_fidelity || r.model_given);
    assert_true(r.model_absent);
    assert_int_equal(r.spec.n_inputs, 1);
}

static void test_variation(void **state)
{
    struct image_request r = read_form(OPERATION_VARIATIONS, "+image&n=2&response_format=url&size=256x256&user=me");

    (void)state;
    assert_int_equal(r.spec.operation, OPERATION_VARIATIONS);
    assert_string_equal(r.spec.model, "dall-e-2");
    assert_int_equal(r.spec.n, 2);
    assert_int_equal(r.spec.prompt_bytes, 0);
    assert_int_equal(r.spec.n_inputs, 1);
    assert_int_equal(read_form(OPERATION_VARIATIONS, "+image[]&prompt=four").spec.prompt_bytes, 4);
    check_refused(OPERATION_VARIATIONS, "+image[]&+image[]", ERR_INVALID_VALUE, "image",
                  "Invalid 'image': array too long. Expected an array with maximum length 1, but got an array with "
                  "length 2 instead.");
    check_refused(OPERATION_VARIATIONS, "n=1", ERR_MISSING_PARAMETER, "image", "Missing required parameter: 'image'.");
    check_refused(OPERATION_VARIATIONS, "+image&n=11", ERR_INTEGER_ABOVE_MAX, "n", NULL);
}

static void test_images_refused(void **state)
{
    static const char second[] = "Duplicate parameter: 'image'. You provided multiple values for this parameter, "
                                 "whereas only one is allowed. If you are trying to provide a list of values, use the "
                                 "array syntax instead e.g. 'image[]=<value>'.";

    (void)state;
    check_edit("prompt=x", ERR_MISSING_PARAMETER, "image", "Missing required parameter: 'image'.");
    check_edit("prompt=x&+mask", ERR_MISSING_PARAMETER, "image", NULL);
    check_edit("+image&prompt=x&+image", ERR_DUPLICATE_PARAMETER, "image", second);
    check_edit("+image&prompt=x&+image[]", ERR_DUPLICATE_PARAMETER, "image", second);
    check_edit("+image[]&prompt=x&+image", ERR_DUPLICATE_PARAMETER, "image", second);
    check_edit("+image&+mask&+mask", ERR_DUPLICATE_PARAMETER, "mask", NULL);
    check_edit("image=x", ERR_INVALID_TYPE, "image",
               "Invalid type for 'image': expected one of an array of files or file, but got a string instead.");
    check_edit("image[]=x", ERR_INVALID_TYPE, "image", NULL);
    check_edit("+image&mask=x", ERR_INVALID_TYPE, "mask",
               "Invalid type for 'mask': expected a file, but got a string instead.");
    check_edit("+image&markup=x", ERR_INVALID_TYPE, "markup", NULL);
    check_edit("+image[0]&prompt=x", ERR_UNKNOWN_PARAMETER, "image[0]", "Unknown parameter: 'image[0]'.");
    check_edit("+Image&prompt=x", ERR_UNKNOWN_PARAMETER, "Image", NULL);
    check_edit("+image&+mask[]&prompt=x", ERR_UNKNOWN_PARAMETER, "mask[]", NULL);
}

static void test_counts(void **state)
{
    struct buf form;

    (void)state;
    lib_form_init(&form);
    lib_form_field(&form, "prompt", "x");
    lib_form_file(&form, "mask", "m", "image/png", PICTURE);
    for (int i = 0; i < LIMIT_INPUT_IMAGES; i++)
        lib_form_file(&form, "image[]", "a", "image/png", PICTURE);
    lib_form_end(&form);
    assert_int_equal(lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form)).spec.n_inputs, 17);
    form.len -= strlen("--xYzZY--\r\n");
    lib_form_file(&form, "markup", "m", "image/png", PICTURE);
    lib_form_end(&form);
    lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), ERR_INVALID_VALUE, "markup",
                        "Too many files. Expected at most 16 images and a mask.");
    form.len -= strlen("--xYzZY--\r\n");
    buf_clear(&form);
    for (int i = 0; i <= LIMIT_INPUT_IMAGES; i++)
        lib_form_file(&form, "image[]", "a", "image/png", PICTURE);
    lib_form_end(&form);
    lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), ERR_INVALID_VALUE, "image",
                        "Invalid 'image': array too long. Expected an array with maximum length 16, but got an array "
                        "with length 17 instead.");
    buf_dispose(&form);
}

/* Any file may be a picture to some upstream, and is held for as one. */
static void test_other_files(void **state)
{
    struct image_request r = read_edit("+image&prompt=x&+markup&+reference&+more[]&+more[]");

    (void)state;
    assert_int_equal(r.spec.n_inputs, 5);
    check_edit("+image&+reference&+reference", ERR_DUPLICATE_PARAMETER, "reference", NULL);
}

static void test_unknown_sizes(void **state)
{
    struct image_request r;
    struct buf form;

    (void)state;
    lib_form_init(&form);
    lib_form_field(&form, "prompt", "x");
    lib_form_file(&form, "image[]", "a.png", "image/png", SLICE("no picture at all"));
    lib_form_file(&form, "image[]", "", "application/octet-stream", SLICE("\xFF\xD8"));
    lib_form_file(&form, "image[]", "../../etc/passwd", "text/plain", PICTURE);
    lib_form_end(&form);
    r = lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form));
    assert_int_equal(r.spec.n_inputs, 3);
    assert_int_equal(r.spec.inputs[0].w, 0);
    assert_int_equal(r.spec.inputs[1].w, 0);
    assert_int_equal(r.spec.inputs[2].w, 1024);
    buf_clear(&form);
    lib_form_field(&form, "prompt", "x");
    lib_form_file(&form, "image", "a.png", "image/png", SLICE(""));
    lib_form_end(&form);
    lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), ERR_BAD_REQUEST, "image",
                        "Invalid image file or mode for image 1, please check your image file. The file is empty.");
    buf_dispose(&form);
}

/* Reads a form with a file of <size> bytes, the model before or behind it. */
static enum err_code read_large(const char *name, const char *model, bool model_first, size_t size, struct err *err)
{
    char *content = mem_zalloc(size);
    struct image_request r;
    struct buf form;
    enum err_code code;

    lib_form_init(&form);
    if (model_first && model != NULL)
        lib_form_field(&form, "model", model);
    if (strcmp(name, "mask") == 0)
        lib_form_file(&form, "image", "i", "image/png", PICTURE);
    lib_form_file(&form, name, "a", "image/png", (struct slice){content, size});
    if (!model_first && model != NULL)
        lib_form_field(&form, "model", model);
    lib_form_field(&form, "prompt", "x");
    lib_form_end(&form);
    code = lib_request_read(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), 65536, &r, err);
    free(content);
    buf_dispose(&form);
    return code;
}

static void test_file_sizes(void **state)
{
    static const char *const names[] = {"image", "image[]", "mask"};
    struct err err;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const char *param = i == 2 ? "mask" : "image";

        for (int first = 0; first < 2; first++) {
            assert_int_equal(read_large(names[i], "dall-e-2", first, FORM_DALLE2_FILE, &err), ERR_OK);
            assert_int_equal(read_large(names[i], "dall-e-2", first, FORM_DALLE2_FILE + 1, &err), ERR_BAD_REQUEST);
            assert_string_equal(err.message, "Uploaded image must be a PNG and less than 4 MB.");
            assert_string_equal(err.param, param);
            assert_int_equal(read_large(names[i], "gpt-image-1", first, FORM_DALLE2_FILE + 1, &err), ERR_OK);
        }
        assert_int_equal(read_large(names[i], NULL, false, FORM_DALLE2_FILE + 1, &err), ERR_BAD_REQUEST);
    }
    assert_int_equal(read_large("image", "gpt-image-1", true, FORM_FILE, &err), ERR_OK);
    assert_int_equal(read_large("image", "gpt-image-1", false, FORM_FILE + 1, &err), ERR_TOO_LARGE);
    assert_string_equal(err.message, "Invalid file 'image': too large. Expected a file of at most 52428800 bytes.");
    assert_string_equal(err.param, "image");
}

/* What is too large is refused as soon as that is certain. */
static void test_refused_early(void **state)
{
    static const char *const models[] = {"dall-e-2", "gpt-image-1"};
    static const size_t limits[] = {FORM_DALLE2_FILE, FORM_FILE};
    char *block = mem_zalloc(65536);

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct image_reader *r;
        struct err err;
        struct buf form;
        size_t fed = 0;

        lib_form_init(&form);
        lib_form_field(&form, "model", models[i]);
        lib_form_file(&form, "image", "a", "image/png", SLICE(""));
        assert_int_equal(image_reader_create(OPERATION_EDITS, SLICE(LIB_FORM_TYPE), &r, &err), ERR_OK);
        assert_int_equal(image_reader_feed(r, (struct slice){form.p, form.len - 2}, &err), ERR_OK);
        while (image_reader_feed(r, (struct slice){block, 65536}, &err) == ERR_OK)
            fed += 65536;
        assert_int_equal(fed, limits[i]);
        image_reader_destroy(r);
        buf_dispose(&form);
    }
    free(block);
}

static void test_numbers_refused(void **state)
{
    static const char *const no_integers[] = {"2abc", " 2",  "2 ", "+2",           "02",   "-0",   "0x2",
                                              "1.0",  "1e0", "",   "\xEF\xBC\x92", "true", "null", "-"};
    char parts[128];

    (void)state;
    for (size_t i = 0; i < sizeof(no_integers) / sizeof(no_integers[0]); i++) {
        (void)snprintf(parts, sizeof(parts), "+image&prompt=x&n=%s", no_integers[i]);
        check_edit(parts, ERR_INVALID_TYPE, "n",
                   "Invalid type for 'n': expected an integer, but got a string instead.");
        (void)snprintf(parts, sizeof(parts), "+image&prompt=x&partial_images=%s", no_integers[i]);
        check_edit(parts, ERR_INVALID_TYPE, "partial_images", NULL);
    }
    check_edit("+image&prompt=x&n=0", ERR_INTEGER_BELOW_MIN, "n",
               "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.");
    check_edit("+image&prompt=x&n=-1", ERR_INTEGER_BELOW_MIN, "n", NULL);
    check_edit(
        "+image&prompt=x&n=-9223372036854775809", ERR_INTEGER_BELOW_MIN, "n",
        "Invalid 'n': integer below minimum value. Expected a value >= 1, but got -9223372036854775809 instead.");
    check_edit("+image&prompt=x&n=11", ERR_INTEGER_ABOVE_MAX, "n", NULL);
    check_edit(
        "+image&prompt=x&n=18446744073709551617", ERR_INTEGER_ABOVE_MAX, "n",
        "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 18446744073709551617 instead.");
    check_edit("+image&prompt=x&n=9223372036854775808", ERR_INTEGER_ABOVE_MAX, "n", NULL);
    check_edit("+image&prompt=x&model=dall-e-3&n=2", ERR_BAD_REQUEST, "", "You must provide n=1 for this model.");
    check_edit("+image&prompt=x&partial_images=4", ERR_INTEGER_ABOVE_MAX, "partial_images", NULL);
    check_edit("+image&prompt=x&partial_images=-1", ERR_INTEGER_BELOW_MIN, "partial_images", NULL);
    assert_int_equal(read_edit("+image&prompt=x&partial_images=0&n=10").spec.n, 10);
    assert_int_equal(read_edit("+image&prompt=x&model=gpt-image-1&partial_images=3").spec.partial_images, 3);
}

static void test_fields_refused(void **state)
{
    (void)state;
    check_edit("+image&prompt=x&stream=True", ERR_INVALID_TYPE, "stream",
               "Invalid type for 'stream': expected a boolean, but got a string instead.");
    check_edit("+image&prompt=x&stream=1", ERR_INVALID_TYPE, "stream", NULL);
    check_edit("+image", ERR_MISSING_PARAMETER, "prompt", "Missing required parameter: 'prompt'.");
    check_edit("+image&prompt=x&prompt=y", ERR_DUPLICATE_PARAMETER, "prompt", NULL);
    check_edit("+image&prompt=x&n=1&n=1", ERR_DUPLICATE_PARAMETER, "n", NULL);
    check_edit("+image&prompt=x&seed=1&seed=2", ERR_DUPLICATE_PARAMETER, "seed", NULL);
    check_edit("+image&prompt=x&N=10", ERR_UNKNOWN_PARAMETER, "N", "Unknown parameter: 'N'.");
    check_edit("+image&prompt=x&n[]=10", ERR_UNKNOWN_PARAMETER, "n[]", NULL);
    check_edit("+image&prompt=x&n =10", ERR_UNKNOWN_PARAMETER, "n ", NULL);
    check_edit("+image&prompt=x&Input_Fidelity=high", ERR_UNKNOWN_PARAMETER, "Input_Fidelity", NULL);
    check_edit("+image&prompt=x&model=", ERR_STRING_TOO_SHORT, "model", NULL);
    check_edit("+image&prompt=x&model=gpt-image-1&size=", ERR_INVALID_VALUE, "size", NULL);
    check_edit("+image&prompt=x&model=gpt-image-1&size=512x512", ERR_INVALID_VALUE, "size",
               "Invalid value: '512x512'. Supported values are: '1024x1024', '1024x1536', '1536x1024', and 'auto'.");
    check_edit("+image&prompt=x&input_fidelity=High", ERR_INVALID_VALUE, "input_fidelity",
               "Invalid value: 'High'. Supported values are: 'low' and 'high'.");
    check_edit("+image&prompt=x&input_fidelity=", ERR_INVALID_VALUE, "input_fidelity", NULL);
    check_edit("+image&prompt=\xFF", ERR_BAD_REQUEST, "prompt", "Invalid 'prompt': the field must be UTF-8.");
    check_edit("+image&prompt=x&size=\xC3", ERR_BAD_REQUEST, "size", NULL);
    check_edit("+image&prompt=x&_charset_=utf-16", ERR_BAD_REQUEST, "_charset_", NULL);
    (void)read_edit("+image&prompt=x&_charset_=UTF-8&unknown=\xFF");
}

/* A scalar as a file: some readers take its text, some do not. */
static void test_fields_as_files(void **state)
{
    (void)state;
    check_edit("+image&prompt=x&+n", ERR_INVALID_TYPE, "n",
               "Invalid type for 'n': expected an integer, but got a file instead.");
    check_edit("+image&+prompt", ERR_INVALID_TYPE, "prompt",
               "Invalid type for 'prompt': expected a string, but got a file instead.");
    check_edit("+image&prompt=x&+stream", ERR_INVALID_TYPE, "stream", NULL);
}

static void check_raw(const char *head, enum err_code code, const char *param)
{
    struct buf form;

    lib_form_init(&form);
    lib_form_file(&form, "image", "a", "image/png", PICTURE);
    buf_printf(&form, "--xYzZY\r\n%s\r\n\r\n1\r\n", head);
    lib_form_field(&form, "user", "x");
    lib_form_end(&form);
    if (code == ERR_OK)
        (void)lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form));
    else
        lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), code, param, NULL);
    buf_dispose(&form);
}

static void test_charsets(void **state)
{
    static const char head[] = "Content-Disposition: form-data; name=prompt\r\nContent-Type: text/plain";
    char text[256];

    (void)state;
    check_raw(head, ERR_OK, NULL);
    (void)snprintf(text, sizeof(text), "%s; charset=UTF-8", head);
    check_raw(text, ERR_OK, NULL);
    (void)snprintf(text, sizeof(text), "%s; charset=\"us-ascii\"", head);
    check_raw(text, ERR_OK, NULL);
    (void)snprintf(text, sizeof(text), "%s; charset=utf-16", head);
    check_raw(text, ERR_BAD_REQUEST, "prompt");
    (void)snprintf(text, sizeof(text), "%s; charset", head);
    check_raw(text, ERR_BAD_REQUEST, "prompt");
    check_raw("Content-Disposition: form-data; name=user\r\nContent-Type: text/plain; charset=utf-16",
              ERR_DUPLICATE_PARAMETER, "user");
}

static void test_field_bytes(void **state)
{
    size_t room = LIMIT_FORM_FIELD - 7;
    char *text = mem_zalloc(room + 2);
    struct buf form;

    (void)state;
    memset(text, 'x', room + 1);
    lib_form_init(&form);
    for (int over = 0; over < 2; over++) {
        struct slice value = {text, room + (size_t)over};

        buf_clear(&form);
        lib_form_field(&form, "prompt", "1234567");
        buf_append_str(&form, "--xYzZY\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\n");
        buf_append_slice(&form, value);
        buf_append_str(&form, "\r\n");
        lib_form_file(&form, "image", "a", "image/png", PICTURE);
        lib_form_end(&form);
        if (over)
            lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), ERR_TOO_LARGE, "",
                                "The fields of the form are larger than 524288 bytes together.");
        else
            (void)lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form));
    }
    buf_clear(&form);
    buf_append_str(&form, "--xYzZY\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n");
    buf_append(&form, text, 32001);
    buf_append_str(&form, "\r\n");
    lib_form_field(&form, "model", "gpt-image-1");
    lib_form_file(&form, "image", "a", "image/png", PICTURE);
    lib_form_end(&form);
    lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), ERR_STRING_TOO_LONG, "prompt", NULL);
    buf_dispose(&form);
    free(text);
}

/* curl -F "image[]=@a,b": one part that holds two files. */
static void test_mixed(void **state)
{
    struct image_request r;
    struct buf form;

    (void)state;
    for (int list = 0; list < 2; list++) {
        lib_form_init(&form);
        buf_printf(&form,
                   "--xYzZY\r\nContent-Disposition: form-data; name=\"image%s\"\r\n"
                   "Content-Type: multipart/mixed; boundary=in\r\n\r\n",
                   list ? "[]" : "");
        for (int i = 0; i < 2; i++) {
            buf_append_str(&form,
                           "--in\r\nContent-Disposition: attachment; filename=a\r\nContent-Type: image/png\r\n\r\n");
            buf_append_slice(&form, PICTURE);
            buf_append_str(&form, "\r\n");
        }
        buf_append_str(&form, "--in--\r\n\r\n");
        lib_form_field(&form, "prompt", "x");
        lib_form_end(&form);
        if (list) {
            r = lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form));
            assert_int_equal(r.spec.n_inputs, 2);
            assert_int_equal(r.spec.inputs[1].h, 600);
        } else {
            lib_request_refused(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&form), ERR_DUPLICATE_PARAMETER, "image",
                                NULL);
        }
        buf_dispose(&form);
    }
}

static void check_patch(const char *head, const char *before, const char *model, const char *after)
{
    struct buf body, expected, sent;
    struct image_request r;

    lib_form_init(&body);
    lib_form_init(&expected);
    buf_append_str(&body, head);
    buf_append_str(&expected, head);
    buf_append_str(&body, before);
    buf_append_str(&expected, after);
    for (int i = 0; i < 2; i++) {
        struct buf *b = i == 0 ? &body : &expected;

        lib_form_file(b, "image", "a", "image/png", PICTURE);
        lib_form_field(b, "prompt", "x");
        lib_form_end(b);
    }
    r = lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&body));
    sent = lib_request_patch(&r, buf_slice(&body), model);
    assert_int_equal(sent.len, expected.len);
    assert_memory_equal(sent.p, expected.p, sent.len);
    r = lib_request_good(OPERATION_EDITS, LIB_FORM_TYPE, buf_slice(&sent));
    assert_string_equal(r.spec.model, model);
    assert_true(r.model_given);
    buf_dispose(&body);
    buf_dispose(&expected);
    buf_dispose(&sent);
}

#define MODEL(name) "--xYzZY\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n" name "\r\n"

static void test_patch(void **state)
{
    (void)state;
    check_patch("", MODEL("dall-e-2"), "d2", MODEL("d2"));
    check_patch("pre\r\n", MODEL("dall-e-2"), "d2", MODEL("d2"));
    check_patch("", MODEL("gpt-image-1"), "gpt-image-1", MODEL("gpt-image-1"));
    check_patch("", "", "dall-e-2", MODEL("dall-e-2"));
    check_patch("preamble\r\n", "", "dall-e-2", MODEL("dall-e-2"));
    check_patch("\r\n", "", "dall-e-2", MODEL("dall-e-2"));
}

static void test_longest_patch(void **state)
{
    struct image_request r = read_edit("+image&prompt=x");
    char model[LIMIT_MODEL];
    char room[IMAGE_PATCH];
    struct image_patch patch;

    (void)state;
    memset(model, 'm', sizeof(model) - 1);
    model[sizeof(model) - 1] = '\0';
    memset(r.boundary, 'b', sizeof(r.boundary) - 1);
    assert_true(image_request_patch(&r, model, room, &patch));
    assert_int_equal(patch.start, 0);
    assert_int_equal(patch.end, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),          cmocka_unit_test(test_variation),
        cmocka_unit_test(test_images_refused),  cmocka_unit_test(test_counts),
        cmocka_unit_test(test_other_files),     cmocka_unit_test(test_unknown_sizes),
        cmocka_unit_test(test_file_sizes),      cmocka_unit_test(test_refused_early),
        cmocka_unit_test(test_numbers_refused), cmocka_unit_test(test_fields_refused),
        cmocka_unit_test(test_fields_as_files), cmocka_unit_test(test_charsets),
        cmocka_unit_test(test_field_bytes),     cmocka_unit_test(test_mixed),
        cmocka_unit_test(test_patch),           cmocka_unit_test(test_longest_patch),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
