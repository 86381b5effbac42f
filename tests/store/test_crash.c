/* test_crash.c - what was acknowledged is there: after kill -9 at any moment, and after the disk refused to take more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_sql.h"
#include "lib_world.h"

enum { ROUNDS = 20, THREADS = 4, ACKS = 400000, RETRIES = 100 };

enum end { END_UNKNOWN = 0, END_CAPTURED, END_VOIDED };

/* What a child was told, in memory that outlives it. */
static struct acks {
    atomic_size_t captured, voided;
    atomic_llong credited; /* nano */
    atomic_int refused_after_failure;
    atomic_size_t tried; /* holds, each with an idempotency key of its own: its number */
    struct id tried_ids[ACKS];
    atomic_uchar ends[ACKS]; /* enum end */
    uint8_t captured_ids[ACKS][ID_BYTES];
    uint8_t voided_ids[ACKS][ID_BYTES];
} * acks;

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    acks = mmap(NULL, sizeof(*acks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(acks, MAP_FAILED);
    world_init(w);
    world_open(w);
    world_fill(w, 0, 0);
    world_close(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    munmap(acks, sizeof(*acks));
    world_dispose(w);
    free(w);
    return 0;
}

static void keyed_hold(struct world *w, struct store_hold *op, size_t n, char text[32])
{
    world_hold_init(w, op, 50, -1);
    (void)snprintf(text, 32, "call %zu", n);
    world_hold_key(op, text, 1);
}

struct hand {
    struct world *w;
    unsigned seed;
};

/* One caller: credits what it spends, so that conservation can be told from outside too. */
static void *work(void *arg)
{
    struct hand *hand = arg;
    struct world w = *hand->w;
    struct store_hold hold;
    struct store_capture capture;
    struct store_void undo;
    struct store_credit credit = {.super = {.kind = STORE_CREDIT}, .tenant_row = w.tenant, .amount = 100};
    size_t n, call;
    char text[32];

    box_init(&w.box);
    for (;;) {
        enum err_code code = world_do(&w, &credit.super);

        if (code == ERR_OK)
            atomic_fetch_add(&acks->credited, 100);
        else if (code != ERR_CONFLICT) /* as many lots as a wallet may have: there is enough in them */
            break;
        call = atomic_fetch_add(&acks->tried, 1);
        keyed_hold(&w, &hold, call, text);
        acks->tried_ids[call] = hold.id;
        if (world_do(&w, &hold.super) != ERR_OK)
            break;
        if (rand_r(&hand->seed) % 3 == 0) {
            undo = (struct store_void){.super = {.kind = STORE_VOID}, .hold = hold.id};
            if (world_do(&w, &undo.super) != ERR_OK)
                break;
            n = atomic_fetch_add(&acks->voided, 1);
            memcpy(acks->voided_ids[n], hold.id.b, ID_BYTES);
            atomic_store(&acks->ends[call], END_VOIDED);
        } else {
            world_capture_init(&capture, hold.id, 20, 50, -1);
            if (world_do(&w, &capture.super) != ERR_OK)
                break;
            n = atomic_fetch_add(&acks->captured, 1);
            memcpy(acks->captured_ids[n], hold.id.b, ID_BYTES);
            atomic_store(&acks->ends[call], END_CAPTURED);
        }
    }
    /* The store failed: it must stay silent from now on. */
    for (int i = 0; i < 10; i++)
        if (world_do(&w, &credit.super) == ERR_UNAVAILABLE)
            atomic_fetch_add(&acks->refused_after_failure, 1);
    return NULL;
}

static void run_hands(struct world *w, unsigned seed)
{
    pthread_t threads[THREADS];
    struct hand hands[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        hands[i] = (struct hand){w, seed * THREADS + i};
        pthread_create(&threads[i], NULL, work, &hands[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* A slot that was counted but not yet filled when the child died is all zeros: it was not acknowledged to anybody. */
static size_t filled(uint8_t (*ids)[ID_BYTES], size_t n)
{
    static const uint8_t zero[ID_BYTES];
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (memcmp(ids[i], zero, ID_BYTES) != 0)
            memmove(ids[kept++], ids[i], ID_BYTES);
    return kept;
}

/* Every caller sends its last calls again, whatever it was told: none happens twice, none that had no effect is lost.
 */
static void send_again(struct world *w)
{
    static uint8_t served[RETRIES][ID_BYTES], unheard[RETRIES][ID_BYTES];
    size_t tried = atomic_load(&acks->tried), n_served = 0, n_unheard = 0;
    struct store_hold op;
    enum err_code code;
    char text[32];

    code = world_credit(w, false, 50);
    assert_true(code == ERR_OK || code == ERR_CONFLICT);
    for (size_t i = tried > RETRIES ? tried - RETRIES : 0; i < tried; i++) {
        unsigned char end = atomic_load(&acks->ends[i]);

        keyed_hold(w, &op, i, text);
        code = world_do(w, &op.super);
        if (code == ERR_OK) {
            assert_int_not_equal(end, END_CAPTURED);
            memcpy(unheard[n_unheard++], acks->tried_ids[i].b, ID_BYTES);
            assert_int_equal(world_void(w, op.id), ERR_OK);
        } else {
            assert_int_equal(code, ERR_IDEMPOTENCY_DONE);
            assert_int_not_equal(end, END_VOIDED);
            assert_true(id_eq(op.earlier.request, acks->tried_ids[i]));
            memcpy(served[n_served++], acks->tried_ids[i].b, ID_BYTES);
        }
    }
    assert_int_equal(sql_missing_requests(w->url, (const uint8_t(*)[16])served, n_served), 0);
    assert_int_equal(sql_missing_requests(w->url, (const uint8_t(*)[16])unheard, n_unheard), n_unheard);
}

static void check(struct world *w)
{
    size_t captured, voided;

    world_open(w); /* resolves what was open */
    send_again(w);
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
    captured = filled(acks->captured_ids, atomic_load(&acks->captured));
    voided = filled(acks->voided_ids, atomic_load(&acks->voided));
    atomic_store(&acks->captured, captured);
    atomic_store(&acks->voided, voided);
    assert_int_equal(sql_missing_requests(w->url, (const uint8_t(*)[16])acks->captured_ids, captured), 0);
    assert_int_equal(sql_missing_requests(w->url, (const uint8_t(*)[16])acks->voided_ids, voided), voided);
    assert_true(sql_number(w->url, "SELECT coalesce(sum(amount), 0) FROM grants") >= atomic_load(&acks->credited));
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds"), 0);
}

static void killed(void **state)
{
    struct world *w = *state;
    unsigned seed = (unsigned)getpid();
    pid_t child;

    print_message("seed %u\n", seed);
    for (unsigned round = 0; round < ROUNDS; round++) {
        child = fork();
        if (child == 0) {
            world_open(w);
            run_hands(w, seed + round);
            _exit(1);
        }
        usleep(5000 + (useconds_t)rand_r(&seed) % 120000);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        check(w);
    }
    print_message("%zu captures, %zu voids acknowledged\n", atomic_load(&acks->captured), atomic_load(&acks->voided));
    assert_true(atomic_load(&acks->captured) > 100);
}

static void disk_full(void **state)
{
    struct world *w = *state;
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct rlimit limit = {1024 * 1024, 1024 * 1024};

        (void)signal(SIGXFSZ, SIG_IGN); /* so that writing past it is an error, as on a full disk */
        world_open(w);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(2);
        run_hands(w, 1);
        if (store_healthy(w->store) || w->failures != 1 || w->why[0] == '\0')
            _exit(3);
        store_close(w->store);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(atomic_load(&acks->refused_after_failure), THREADS * 10);
    assert_true(atomic_load(&acks->captured) > 10);
    check(w);
    world_open(w); /* there is room again */
    assert_int_equal(world_credit(w, false, USD), ERR_OK);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(disk_full, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
