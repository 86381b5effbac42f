/* log.h - structured log on standard error: one line an event.
 *
 * JSON objects ({"ts","level","event","msg",...fields}), with a <N> priority prefix under journald; readable text when
 * standard error is a terminal. Any thread; a line is one write(2). Secrets have no field type, and text values that
 * look like a key are masked. */
#ifndef TG_BASE_LOG_H
#define TG_BASE_LOG_H

#include "conf.h"
#include "id.h"

enum log_event {
#define EVENT(name, level, text) LOG_##name,
#include "events.def"
#undef EVENT
    LOG_EVENT_COUNT
};

enum log_field_kind { LOG_TEXT = 0, LOG_INT, LOG_ID, LOG_NANO, LOG_TIME_US };

struct log_field {
    const char *name;
    enum log_field_kind kind;
    struct slice text;  /* LOG_TEXT */
    int64_t number;     /* LOG_INT, LOG_NANO (written as a decimal string), LOG_TIME_US (written as <name>_ms with 3
                           decimals) */
    const char *prefix; /* LOG_ID */
    struct id id;
};

#define LOG_F_STR(n, s) ((struct log_field){.name = (n), .kind = LOG_TEXT, .text = slice_from(s)})
#define LOG_F_SLICE(n, s) ((struct log_field){.name = (n), .kind = LOG_TEXT, .text = (s)})
#define LOG_F_INT(n, v) ((struct log_field){.name = (n), .kind = LOG_INT, .number = (v)})
#define LOG_F_NANO(n, v) ((struct log_field){.name = (n), .kind = LOG_NANO, .number = (v)})
#define LOG_F_TIME(n, v) ((struct log_field){.name = (n), .kind = LOG_TIME_US, .number = (v)})
#define LOG_F_ID(n, p, v) ((struct log_field){.name = (n), .kind = LOG_ID, .prefix = (p), .id = (v)})

void log_init(enum conf_level least);
void log_set_level(enum conf_level least);
bool log_enabled(enum log_event event); /* so that costly fields need not be made */
void log_write(enum log_event event, const struct log_field *fields, size_t n);

#define LOG(event, ...)                                                                                                \
    do {                                                                                                               \
        if (log_enabled(event)) {                                                                                      \
            const struct log_field log_fields_[] = {__VA_ARGS__};                                                      \
            log_write(event, log_fields_, sizeof(log_fields_) / sizeof(log_fields_[0]));                               \
        }                                                                                                              \
    } while (0)

#endif
