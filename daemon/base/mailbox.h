/* mailbox.h - how a thread is told something: the only way between threads.
 *
 * A mail is embedded in whatever travels; the sender gives it away with mailbox_post and the receiver's thread runs
 * mail->deliver exactly once. Receivers embed a `struct mailbox` (an h2o loop wakes its event loop, a test's
 * mailbox its condition variable). Many mails posted as one chain cost one wake-up. */
#ifndef TG_BASE_MAILBOX_H
#define TG_BASE_MAILBOX_H

#include <stdbool.h>

struct mail {
    struct mail *next;                  /* owned by the mailbox between post and delivery */
    void (*deliver)(struct mail *mail); /* runs on the receiver's thread */
    /* It may wait for other work, and be passed by mail that may not: one commit ends many calls at once, and what else
     * has to be passed on must not wait for all of them. */
    bool patient;
};

struct mailbox {
    /* Takes a chain (linked by next, NULL-terminated), first delivered first. Any thread; never blocks for long. */
    void (*post)(struct mailbox *box, struct mail *chain);
};

static inline void mailbox_post(struct mailbox *box, struct mail *chain)
{
    box->post(box, chain);
}

#endif
