#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/pool.h"
#include "base/panic_catch.h"

struct object {
    void *first;
    uint64_t payload;
};

#define OBJECT_COUNT 5

static struct object memory[OBJECT_COUNT];
static struct pool pool;

static int setup(void **state)
{
    (void)state;
    pool_init(&pool, "objects", memory, sizeof(memory[0]), OBJECT_COUNT);
    return 0;
}

static void pool_init_gives_objects_in_order_of_address(void **state)
{
    (void)state;
    assert_true(pool_is_full(&pool));
    for (int i = 0; i < OBJECT_COUNT; i++) {
        assert_ptr_equal(pool_get(&pool), &memory[i]);
    }
}

static void pool_get_empty_gives_null_until_a_put(void **state)
{
    (void)state;
    for (int i = 0; i < OBJECT_COUNT; i++) {
        assert_non_null(pool_get(&pool));
    }
    assert_null(pool_get(&pool));
    assert_int_equal(pool.free_count, 0);
    pool_put(&pool, &memory[3]);
    assert_ptr_equal(pool_get(&pool), &memory[3]);
    assert_null(pool_get(&pool));
}

static void pool_put_makes_the_warmest_come_first(void **state)
{
    (void)state;
    struct object *a = pool_get(&pool);
    struct object *b = pool_get(&pool);
    pool_put(&pool, a);
    pool_put(&pool, b);
    assert_ptr_equal(pool_get(&pool), b);
    assert_ptr_equal(pool_get(&pool), a);
}

static void pool_low_water_keeps_the_least_ever(void **state)
{
    (void)state;
    void *a = pool_get(&pool);
    void *b = pool_get(&pool);
    pool_put(&pool, a);
    pool_put(&pool, b);
    (void)pool_get(&pool);
    assert_int_equal(pool.low_water, OBJECT_COUNT - 2);
    assert_false(pool_is_full(&pool));
}

static void pool_put_more_than_there_are_panics(void **state)
{
    (void)state;
    struct object stranger;
    ASSERT_PANICS(pool_put(&pool, &stranger));
    assert_non_null(strstr(panic_catch_text, "base/pool.h:"));
    assert_non_null(strstr(panic_catch_text, "pool->free_count <= pool->count"));
}

static void pool_init_odd_size_panics(void **state)
{
    (void)state;
    ASSERT_PANICS(pool_init(&pool, "odd", memory, sizeof(void *) + 4, 2));
    ASSERT_PANICS(pool_init(&pool, "tiny", memory, 4, 2));
    ASSERT_PANICS(pool_init(&pool, "skewed", (char *)memory + 4, 16, 2));
}

static void pool_init_no_objects_is_empty_and_full(void **state)
{
    (void)state;
    pool_init(&pool, "none", memory, sizeof(memory[0]), 0);
    assert_null(pool_get(&pool));
    assert_true(pool_is_full(&pool));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pool_init_gives_objects_in_order_of_address, setup),
        cmocka_unit_test_setup(pool_get_empty_gives_null_until_a_put, setup),
        cmocka_unit_test_setup(pool_put_makes_the_warmest_come_first, setup),
        cmocka_unit_test_setup(pool_low_water_keeps_the_least_ever, setup),
        cmocka_unit_test_setup(pool_put_more_than_there_are_panics, setup),
        cmocka_unit_test_setup(pool_init_odd_size_panics, setup),
        cmocka_unit_test_setup(pool_init_no_objects_is_empty_and_full, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
