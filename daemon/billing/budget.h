/* budget.h - spend limits per window: how they are written, and which window an instant is in. Pure; any thread.
 *
 * A budget is {"amount": "25.00", "window": "day"|"week"|"month"|"lifetime"|"rolling:3600s"}. Days, weeks (from Monday,
 * ISO 8601) and months are those of the tenant's time zone. A rolling window is kept in cells of a sixtieth of its
 * length, of which all that touch it count: so it never lets more through than the amount, and what was spent leaves it
 * up to one cell late. */
#ifndef TG_BILLING_BUDGET_H
#define TG_BILLING_BUDGET_H

#include "daemon/base/buf.h"
#include "daemon/base/zone.h"

enum {
    BUDGET_LIST = 8,               /* budgets of one owner */
    BUDGET_CELLS = 64,             /* cells kept of a rolling window: more than can touch it */
    BUDGET_ROLLING_PARTS = 60,     /* cells in the length of one */
    BUDGET_ROLLING_MIN = 60,       /* seconds */
    BUDGET_ROLLING_MAX = 31622400, /* 366 days */
    BUDGET_WINDOW_TEXT = 32        /* bytes of "rolling:31622400s", with its NUL */
};

#define BUDGET_AMOUNT_MAX INT64_C(1000000000000000000) /* nano: a thousand million dollars */

/* A window's kind as a number that is stored: never renumber. Above 0: rolling, so many seconds. */
enum { BUDGET_LIFETIME = 0, BUDGET_DAY = -1, BUDGET_WEEK = -2, BUDGET_MONTH = -3 };

/* Whose a budget is; stored: never renumber. */
enum budget_owner_kind { BUDGET_TENANT = 0, BUDGET_CUSTOMER, BUDGET_KEY, BUDGET_OWNERS };

struct budget {
    int64_t amount; /* nano, >= 0 */
    int64_t window; /* BUDGET_DAY.., or seconds */
};

struct budget_list {
    int n;
    struct budget of[BUDGET_LIST]; /* each window once */
};

/* A span of time, microseconds: [begin, end). A window that never ends has end INT64_MAX. */
struct budget_span {
    int64_t begin, end;
};

/* Reads the JSON text of a list (NULL, empty or null: none) that stands as <name> in a request. INVALID_TYPE,
 * INVALID_VALUE, MISSING_PARAMETER, UNKNOWN_PARAMETER, DUPLICATE_PARAMETER (a window twice, too) naming the place:
 * "budgets[1].window". Text that is no JSON: INVALID_TYPE naming the list; longer than 64 KiB: STRING_TOO_LONG. <out>
 * is touched on success only. */
TG_MUSTCHECK enum err_code budget_list_parse(const char *name, struct slice text, struct budget_list *out,
                                             struct err *err);
/* The canonical text, as it is stored and shown: amounts with nine decimals, in the order given, no blanks. */
void budget_list_format(const struct budget_list *list, struct buf *out);

const char *budget_window_format(int64_t window, char out[BUDGET_WINDOW_TEXT]); /* "month", "rolling:3600s" */

/* The cell that an instant is in: for day, week, month and lifetime the window itself ([0, INT64_MAX) for lifetime);
 * for a rolling window one of its cells, which begin at whole multiples of their length since 1970. A length that 60
 * does not divide rounds the cell up to whole microseconds. */
struct budget_span budget_cell_at(int64_t window, const struct zone *z, int64_t wall);

/* Where the cells that count at <wall> begin: budget_cell_at().begin, or, for a rolling window, the begin of the oldest
 * cell that still touches (wall - length, wall]. At most BUDGET_CELLS cells lie from there to <wall>'s. */
int64_t budget_counts_from(int64_t window, const struct zone *z, int64_t wall);

/* The earliest instant after <wall> at which something that counts now may count no more: the window's end, or for a
 * rolling window the end of the time in which its oldest counting cell counts. INT64_MAX: never. */
int64_t budget_resets_at(int64_t window, const struct zone *z, int64_t wall);

#endif
