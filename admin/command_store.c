/* command_store.c - commands that work on the store: migrate and fsck. They start no thread and serve nobody. */
#include <inttypes.h>

#include "commands.h"
#include "daemon/base/log.h"
#include "progress.h"
#include "render.h"

enum { REPORT = 1024 * 1024 };

int command_migrate(int argc, char **argv)
{
    struct arguments arguments;
    struct conf *conf;
    struct err err;
    int applied = 0;
    enum err_code code;

    if (!arguments_read(argc, argv, "c", 0, &arguments))
        return COMMAND_USAGE;
    if (arguments.config == NULL)
        return command_misuse(argv[0], "which configuration? -c FILE is missing");
    conf = command_conf(&arguments);
    if (conf == NULL)
        return COMMAND_FAILED;
    log_init(LEVEL_WARN);
    code = store_migrate(conf->store_url, &applied, &err);
    if (code != ERR_OK)
        fprintf(stderr, "tallygate migrate: %s\n", err.message);
    else if (applied > 0)
        printf("%s: %d migration%s applied\n", conf->store_url, applied, applied == 1 ? "" : "s");
    else
        printf("%s: up to date\n", conf->store_url);
    conf_destroy(conf);
    return code == ERR_OK ? COMMAND_DONE : COMMAND_FAILED;
}

/* ---- fsck ---- */

/* What fsck tells, and where it goes. */
struct telling {
    struct progress progress;
    struct buf *lines; /* JSON; NULL: as text */
};

static void tell_progress(void *ctx, const char *what, int permille)
{
    struct telling *t = ctx;

    progress_draw(&t->progress, what, permille);
}

static void print_line(const char *invariant, bool ok, int64_t checked, const char *detail)
{
    if (ok)
        printf("ok   %s (%" PRId64 " checked)\n", invariant, checked);
    else
        printf("FAIL %s: %s\n", invariant, detail != NULL ? detail : "violated");
}

static void render_line(struct buf *out, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    render_open(out, NULL, '{');
    render_text(out, "name", slice_from(invariant));
    render_bool(out, "ok", ok);
    render_int(out, "checked", checked);
    render_text_or_null(out, "detail", ok ? NULL : detail);
    render_close(out, '}');
}

static void tell_line(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    struct telling *t = ctx;

    if (t->lines != NULL) {
        render_line(t->lines, invariant, ok, checked, detail);
        return;
    }
    progress_clear(&t->progress);
    print_line(invariant, ok, checked, detail);
    if (t->progress.terminal)
        (void)fflush(stdout); /* it may be the same terminal */
}

static int fsck(const char *url, struct buf *lines, struct err *err)
{
    struct telling t = {.lines = lines};
    int violated;

    progress_init(&t.progress);
    violated = store_fsck(url, tell_line, tell_progress, &t, err);
    progress_clear(&t.progress);
    return violated;
}

/* {"ok", "violated", "invariants": [...]}; could not look: {"ok": false, "error"}. */
static int fsck_json(const char *url, struct err *err)
{
    struct buf lines, out;
    int violated;

    buf_init(&lines, REPORT);
    buf_init(&out, 2 * REPORT);
    render_open(&lines, NULL, '[');
    violated = fsck(url, &lines, err);
    render_close(&lines, ']');
    buf_append_char(&lines, '\0');
    render_open(&out, NULL, '{');
    render_bool(&out, "ok", violated == 0);
    if (violated < 0) {
        render_text(&out, "error", slice_from(err->message));
    } else {
        render_int(&out, "violated", violated);
        render_json(&out, "invariants", lines.p, "[]");
    }
    render_close(&out, '}');
    printf("%.*s\n", (int)out.len, out.p);
    buf_dispose(&lines);
    buf_dispose(&out);
    return violated;
}

int command_fsck(int argc, char **argv)
{
    struct arguments arguments;
    struct conf *conf;
    struct err err;
    int violated;

    if (!arguments_read(argc, argv, "cj", 0, &arguments))
        return COMMAND_USAGE;
    if (arguments.config == NULL)
        return command_misuse(argv[0], "which configuration? -c FILE is missing");
    conf = command_conf(&arguments);
    if (conf == NULL)
        return COMMAND_USAGE; /* could not look */
    log_init(LEVEL_WARN);
    violated = arguments.json ? fsck_json(conf->store_url, &err) : fsck(conf->store_url, NULL, &err);
    if (violated < 0)
        fprintf(stderr, "tallygate fsck: could not look: %s\n", err.message);
    conf_destroy(conf);
    if (fflush(stdout) != 0 || violated < 0)
        return COMMAND_USAGE;
    return violated == 0 ? COMMAND_DONE : COMMAND_FAILED;
}
