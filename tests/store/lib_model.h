/* lib_model.h - the store's money as a few plain arrays: the oracle of the random test.
 *
 * It knows what every operation must answer and what every balance must be, and nothing of batches, files or threads.
 * Written from the contract, not from the ledger's code. */
#ifndef TG_TESTS_LIB_MODEL_H
#define TG_TESTS_LIB_MODEL_H

#include "db/store.h"

enum { ORACLE_WALLETS = 8, ORACLE_HOLDS = 4096, ORACLE_KEYS = 64 };

struct oracle_wallet {
    int64_t posted, held, credit_limit;
    int64_t revenue, receivable; /* what its owner was charged, and owes */
};

struct oracle_hold {
    struct id id;
    bool open, doubtful, test;
    int tenant, customer; /* wallets; customer -1: one leg */
    int64_t legs[STORE_LEGS], cost_max;
    enum conf_in_doubt rule;
};

/* What an Idempotency-Key was used for last, by API key and text. */
struct oracle_key {
    int64_t api_key;
    char text[8];
    uint8_t fingerprint;
    int hold;      /* place in holds; -1: none, or its hold was voided */
    int64_t ended; /* when the hold ended with a record; 0: it has not */
};

struct oracle {
    struct oracle_wallet wallets[ORACLE_WALLETS];
    struct oracle_hold holds[ORACLE_HOLDS];
    int n_holds;
    struct oracle_key keys[ORACLE_KEYS];
    int n_keys;
    int64_t now, keep; /* the caller sets them */
    int64_t records, cost, loss, paid, promotional;
};

enum err_code oracle_hold(struct oracle *m, const struct store_hold *op, int tenant, int customer);
enum err_code oracle_capture(struct oracle *m, const struct store_capture *op, int64_t *charged, bool *overage);
enum err_code oracle_void(struct oracle *m, struct id hold);
enum err_code oracle_doubt(struct oracle *m, struct id hold);
enum err_code oracle_credit(struct oracle *m, int wallet, int64_t amount, enum credit_category category);
enum err_code oracle_credit_line(struct oracle *m, int wallet, int64_t limit);
int64_t oracle_restart(struct oracle *m);                        /* returns how many holds a new process resolves */
struct oracle_hold *oracle_find(struct oracle *m, struct id id); /* open or in doubt */

#endif
