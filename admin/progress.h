/* progress.h - how far a command is, as one line on standard error that is drawn anew; nothing where that is no
 * terminal.
 *
 * A store_progress_fn (db/store.h): give progress_draw with a struct progress to store_backup and store_fsck. */
#ifndef TG_ADMIN_PROGRESS_H
#define TG_ADMIN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;
    int64_t next; /* monotonic: not drawn again before */
    int last;     /* what was drawn, in thousandths */
};

void progress_init(struct progress *p);
void progress_draw(void *progress, const char *what, int permille);
void progress_clear(struct progress *p); /* before anything else is printed */

#endif
