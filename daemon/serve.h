/* serve.h - `tallygate serve`: opens the rooms, minds the signals, drains and closes. */
#ifndef TG_DAEMON_SERVE_H
#define TG_DAEMON_SERVE_H

enum serve_exit {
    SERVE_DONE = 0,   /* drained and closed */
    SERVE_FAILED = 1, /* could not start, or was told twice to stop */
    SERVE_USAGE = 2,  /* called wrongly */
    SERVE_STORE = 3   /* the store failed: nothing more could be acknowledged */
};

/* argv[0]: "serve"; -c FILE. Returns an enum serve_exit. */
int serve(int argc, char **argv);

#endif
